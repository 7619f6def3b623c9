#include "eval/calibration/attention_statistics.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/common/error.h"

namespace vi::eval {

at::Tensor output_metric(const at::Tensor& w_o, std::int64_t n_kv_heads, std::int64_t d) {
  VI_CHECK(w_o.dim() == 2 && w_o.size(1) % (n_kv_heads * d) == 0, "W_o does not fit {} KV heads of {}", n_kv_heads, d);
  const std::int64_t hidden = w_o.size(0), group = w_o.size(1) / (n_kv_heads * d);
  const at::Tensor heads =
      w_o.to(at::kFloat).reshape({hidden, n_kv_heads, group, d}).permute({1, 2, 0, 3}).reshape({n_kv_heads, group * hidden, d});
  return at::bmm(heads.transpose(1, 2), heads);
}

AttentionStatistics attention_statistics(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& v_in,
                                         const at::Tensor& metric, std::int64_t sinks, std::int64_t recent,
                                         std::int64_t stride) {
  const std::int64_t kv = k_in.size(0), n = k_in.size(1), d = k_in.size(2), group = q_in.size(0) / kv;
  const at::Tensor k = k_in.to(at::kFloat), v = v_in.to(at::kFloat);
  const auto options = at::TensorOptions().dtype(at::kLong).device(k.device());
  const at::Tensor at_key = at::arange(n, options), asked = at::arange(std::min(stride - 1, n), n, stride, options);
  const std::int64_t n_asked = asked.size(0);
  const at::Tensor q = q_in.to(at::kFloat).index_select(1, asked).reshape({kv, group, n_asked, d});
  const auto f32 = k.options();
  AttentionStatistics s;
  s.query_moment = at::zeros({kv, d, d}, f32.dtype(at::kDouble));
  s.sensitive_moment = at::zeros_like(s.query_moment);
  s.attention = at::zeros({kv, n}, f32);
  s.sensitivity = at::zeros({kv, n}, f32);
  s.queries = n_asked * group;
  const at::Tensor vm = at::bmm(v, metric.to(f32.device()));  // [kv, n, d]
  const at::Tensor v_norm = (vm * v).sum(-1).unsqueeze(1);     // [kv, 1, n]
  // On the CPU a chunk's probabilities should stay in the cache; a GPU wants few launches.
  const std::int64_t room = std::int64_t{1} << (k.device().is_cpu() ? 19 : 25);
  const std::int64_t step = std::clamp<std::int64_t>(room / std::max<std::int64_t>(1, kv * group * n), 1, std::max<std::int64_t>(1, n_asked));
  for (std::int64_t t = 0; t < n_asked; t += step) {
    const std::int64_t c = std::min(step, n_asked - t);
    const at::Tensor rows = q.narrow(2, t, c).reshape({kv, group * c, d});
    const at::Tensor position = asked.narrow(0, t, c).unsqueeze(1);  // [c, 1]
    const at::Tensor hidden = (at_key.unsqueeze(0) > position).repeat({group, 1});
    const at::Tensor coded = at::logical_and(at_key.unsqueeze(0) >= sinks, at_key.unsqueeze(0) <= position - recent)
                                 .to(at::kFloat)
                                 .repeat({group, 1});
    at::Tensor p = at::bmm(rows, k.transpose(1, 2)).div_(std::sqrt(static_cast<double>(d)));
    p.masked_fill_(hidden.unsqueeze(0), -std::numeric_limits<float>::infinity());
    // Squares of what is dropped here would be subnormal, which slows a CPU down a hundredfold.
    p = at::threshold(at::softmax(p, -1), 1e-12, 0);  // [kv, group c, n]
    const at::Tensor out = at::bmm(p, v);          // [kv, group c, d]
    const at::Tensor out_norm = (at::bmm(out, metric.to(f32.device())) * out).sum(-1, true);  // [kv, group c, 1]
    at::Tensor distance = at::bmm(out, vm.transpose(1, 2)).mul_(-2).add_(v_norm).add_(out_norm).clamp_min_(0);
    p.square_().mul_(coded);
    s.attention.add_(p.sum(1));
    distance.mul_(p);
    s.sensitivity.add_(distance.sum(1));
    s.query_moment.add_(at::bmm(rows.transpose(1, 2), rows));
    s.sensitive_moment.add_(at::bmm((rows * distance.sum(-1, true)).transpose(1, 2), rows));
  }
  return s;
}

}  // namespace vi::eval
