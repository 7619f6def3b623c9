#include "eval/modes/device_modes.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace vi::eval {
namespace {

constexpr std::int64_t kScoreRows = 256;  // rows of f32 scores alive at once

bool covers_all(const std::vector<std::int64_t>& end, std::int64_t sinks) {
  if (sinks > 0) return false;
  for (std::size_t i = 0; i < end.size(); ++i)
    if (end[i] < static_cast<std::int64_t>(i) + 1) return false;
  return !end.empty();
}

at::Tensor index_tensor(const std::vector<std::int64_t>& values, at::Device device) {
  at::Tensor t = at::empty({std::ssize(values)}, at::TensorOptions().dtype(at::kLong));
  std::copy(values.begin(), values.end(), t.data_ptr<std::int64_t>());
  return t.to(device);
}

}  // namespace

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  if (q.scalar_type() == at::kFloat) return mixed_attention(0, q, k, v, nullptr, 0, {}, {});
  const at::Tensor o = at::scaled_dot_product_attention(
      q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), {}, 0.0, true, std::nullopt, true);
  return o.squeeze(0).transpose(0, 1).reshape({q.size(1), q.size(0) * q.size(2)});
}

at::Tensor mixed_attention(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const DeviceCodec* codec, std::int64_t sinks,
                           const std::vector<std::int64_t>& key_end,
                           const std::vector<std::int64_t>& value_end) {
  const std::int64_t nq = q.size(0), n = q.size(1), d = q.size(2), kv = k.size(0), group = nq / kv;
  const bool coded_k = codec && codec->key().coded && !key_end.empty();
  const bool coded_v = codec && codec->value().coded && !value_end.empty();
  const at::Tensor exact_k = k.to(at::kFloat), exact_v = v.to(at::kFloat), queries = q.to(at::kFloat);
  const at::Tensor other_k = coded_k ? codec->reconstruct(layer, true, exact_k, sinks) : exact_k;
  const at::Tensor other_v = coded_v ? codec->reconstruct(layer, false, exact_v, sinks, 0, &exact_k) : exact_v;
  const bool mixed_k = coded_k && !covers_all(key_end, sinks);
  const bool mixed_v = coded_v && !covers_all(value_end, sinks);
  const at::Tensor k_end = mixed_k ? index_tensor(key_end, q.device()) : at::Tensor();
  const at::Tensor v_end = mixed_v ? index_tensor(value_end, q.device()) : at::Tensor();
  const at::Tensor position = at::arange(n, q.options().dtype(at::kLong));
  const double scale = 1.0 / std::sqrt(static_cast<double>(d));
  at::Tensor out = at::empty({n, nq, d}, q.options());
  for (std::int64_t r = 0; r < n; r += kScoreRows) {
    const std::int64_t m = std::min(kScoreRows, n - r), seen = r + m;
    const at::Tensor rows = queries.narrow(1, r, m).reshape({kv, group * m, d});
    const at::Tensor token = position.narrow(0, 0, seen).unsqueeze(0);  // [1, seen]
    const auto coded = [&](const at::Tensor& end) {                     // [m, seen]
      return (token < end.narrow(0, r, m).unsqueeze(1)).logical_and(token >= sinks);
    };
    const auto scores_of = [&](const at::Tensor& keys) {
      return (at::bmm(rows, keys.narrow(1, 0, seen).transpose(1, 2)) * scale).view({kv, group, m, seen});
    };
    at::Tensor scores = scores_of(other_k);
    if (mixed_k) scores = at::where(coded(k_end), scores, scores_of(exact_k));
    scores.masked_fill_(token > position.narrow(0, r, m).unsqueeze(1),
                        -std::numeric_limits<float>::infinity());
    const at::Tensor p = at::softmax(scores, -1);
    const auto sum_of = [&](const at::Tensor& weights, const at::Tensor& values) {
      return at::bmm(weights.reshape({kv, group * m, seen}), values.narrow(1, 0, seen));
    };
    at::Tensor o;
    if (mixed_v) {
      const at::Tensor mask = coded(v_end);
      o = sum_of(p * mask, other_v) + sum_of(p * mask.logical_not(), exact_v);
    } else {
      o = sum_of(p, other_v);
    }
    out.narrow(0, r, m).copy_(o.view({nq, m, d}).transpose(0, 1));
  }
  return out.view({n, nq * d});
}

}  // namespace vi::eval
