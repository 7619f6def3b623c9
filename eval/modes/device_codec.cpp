#include "eval/modes/device_codec.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>

#include "core/common/error.h"

namespace vi::eval {
namespace {

using transform::HeadTransform;
using transform::Step;

constexpr std::int64_t kDistances = std::int64_t{1} << 26;  // f32 distances alive at once

at::Tensor floats(at::IntArrayRef shape) {
  return at::zeros(shape, at::TensorOptions().dtype(at::kFloat));
}

// The steps [center] [scale] [hadamard] in this order, which the fused kernels know.
bool is_simple(const std::vector<Step>& steps) {
  int at = 0;
  for (const Step& step : steps) {
    const int rank = step.kind == Step::Kind::center     ? 1
                     : step.kind == Step::Kind::scale    ? 2
                     : step.kind == Step::Kind::hadamard ? 3
                                                         : 0;
    if (rank <= at) return false;
    at = rank;
  }
  return true;
}

}  // namespace

at::Tensor code_and_back(const DeviceSide& side, int layer, const at::Tensor& x, const at::Tensor& books) {
  const std::int64_t heads = x.size(0), n = x.size(1), d = x.size(2), ds = side.dsub, m = d / ds;
  at::Tensor code;  // [heads * m, n]
  {
    const at::NoGradGuard guard;
    const at::Tensor y = side.identity ? x : at::bmm(x, side.a[layer]) + side.b[layer].unsqueeze(1);
    const at::Tensor pieces = y.reshape({heads, n, m, ds}).transpose(1, 2).reshape({heads * m, n, ds});
    code = (books.square().sum(-1).unsqueeze(1) * 0.5 - at::bmm(pieces, books.transpose(1, 2))).argmin(-1);
  }
  const at::Tensor picked = books.gather(1, code.unsqueeze(-1).expand({heads * m, n, ds}));
  const at::Tensor back = picked.reshape({heads, m, n, ds}).transpose(1, 2).reshape({heads, n, d});
  return side.identity ? back : at::bmm(back, side.inverse_a[layer]) + side.inverse_b[layer].unsqueeze(1);
}

DeviceCodec::DeviceCodec(std::shared_ptr<const codec::Codec> codec, at::Device device)
    : codec_(std::move(codec)), device_(device) {
  const std::int64_t layers = codec_->n_layers(), heads = codec_->n_kv_heads(),
                     d = codec_->head_dim();
  if (codec_->composed()) {
    std::map<const codec::Codec*, std::shared_ptr<const DeviceCodec>> members;
    for (int layer = 0; layer < codec_->n_layers(); ++layer) {
      const auto member = codec_->member(layer);
      auto& tables = members[member.get()];
      if (!tables) tables = std::make_shared<const DeviceCodec>(member, device_);
      of_layer_.push_back(tables);
      key_.coded |= tables->key_.coded;
      value_.coded |= tables->value_.coded;
    }
    return;
  }
  for (const bool is_key : {true, false}) {
    DeviceSide& side = is_key ? key_ : value_;
    const auto coder = [&](std::int64_t i) {
      const int layer = static_cast<int>(i / heads), head = static_cast<int>(i % heads);
      return is_key ? codec_->key(layer, head) : codec_->value(layer, head);
    };
    const codec::HeadCoder* first = nullptr;
    bool whole = true;  // no layer is exact
    for (std::int64_t i = 0; i < layers * heads; ++i) {
      if (!coder(i)) whole = false;
      else if (!first) first = coder(i);
    }
    if (!first) continue;
    side.coded = true;
    side.seal = first->seal_tokens();
    const codec::VectorView* view = first->vector_view();
    if (!view || !whole) continue;
    side.vector = true;
    side.layout = view->layout;
    side.dsub = view->dsub;
    side.code_bits = view->layout.code_bits;
    side.shared = view->shared;
    const std::int64_t books = view->shared ? 1 : view->layout.n_books, ksub = 1 << side.code_bits;
    at::Tensor centroids = floats({layers, heads, books, ksub, side.dsub});
    side.identity = !view->transform || view->transform->identity();
    if (!side.identity) {
      side.a = floats({layers, heads, d, d});
      side.b = floats({layers, heads, d});
      side.inverse_a = side.a.clone();
      side.inverse_b = side.b.clone();
      side.center = side.b.clone();
      if (is_key) query_ = side.a.clone();
    }
    const bool simple = side.identity || is_simple(view->transform->steps);
    bool has_center = false, has_scale = false;
    at::Tensor scale, inverse_scale;
    if (!side.identity) {
      scale = floats({layers, heads, d}).fill_(1);
      inverse_scale = scale.clone();
    }
    for (std::int64_t i = 0; i < layers * heads; ++i) {
      const codec::VectorView& v = *coder(i)->vector_view();
      std::copy_n(v.centroids, books * ksub * side.dsub,
                  centroids.data_ptr<float>() + i * books * ksub * side.dsub);
      if (side.identity) continue;
      const HeadTransform& t = *v.transform;
      const auto map = [&](auto apply, at::Tensor& matrix, float* offset) {
        std::vector<float> zero(static_cast<std::size_t>(d), 0.0f);
        apply(zero.data(), 1);
        float* rows = matrix.data_ptr<float>() + i * d * d;
        for (std::int64_t r = 0; r < d; ++r) rows[r * d + r] = 1;
        apply(rows, static_cast<std::size_t>(d));
        for (std::int64_t r = 0; r < d; ++r)
          for (std::int64_t c = 0; c < d; ++c) rows[r * d + c] -= zero[c];
        if (offset) std::copy_n(zero.data(), d, offset + i * d);
      };
      map([&](float* x, std::size_t n) { t.forward(x, n); }, side.a, side.b.data_ptr<float>());
      map([&](float* x, std::size_t n) { t.inverse(x, n); }, side.inverse_a,
          side.inverse_b.data_ptr<float>());
      if (is_key) map([&](float* x, std::size_t n) { t.query(x, n); }, query_, nullptr);
      // What maps to zero is the centre, whatever the steps.
      std::copy_n(side.inverse_b.data_ptr<float>() + i * d, d,
                  side.center.data_ptr<float>() + i * d);
      for (const Step& step : t.steps) {
        has_center |= step.kind == Step::Kind::center;
        if (step.kind == Step::Kind::hadamard) side.hadamard = simple;
        if (step.kind != Step::Kind::scale || !simple) continue;
        has_scale = true;
        for (std::int64_t c = 0; c < d; ++c) {
          scale.data_ptr<float>()[i * d + c] = step.vector[c];
          inverse_scale.data_ptr<float>()[i * d + c] = 1.0f / step.vector[c];
        }
      }
    }
    side.centroids = centroids.to(device_, at::kHalf);
    if (side.identity) continue;
    for (at::Tensor* t : {&side.a, &side.b, &side.inverse_a, &side.inverse_b, &side.center})
      *t = t->to(device_);
    if (!has_center) side.center = at::Tensor();
    if (!simple) side.dense = side.a;
    if (simple && has_scale) side.scale = inverse_scale.to(device_);
    if (is_key) {
      query_ = query_.to(device_);
      if (simple && has_scale) query_scale_ = scale.to(device_);
    }
  }
}

at::Tensor DeviceCodec::reconstruct(int layer, bool key, const at::Tensor& rows,
                                    std::int64_t from, std::int64_t position,
                                    const at::Tensor* keys) const {
  if (!of_layer_.empty()) return of(layer).reconstruct(layer, key, rows, from, position, keys);
  const DeviceSide& side = key ? key_ : value_;
  at::Tensor out = rows.to(at::kFloat).clone();
  const std::int64_t heads = rows.size(0), n = rows.size(1), d = rows.size(2);
  VI_CHECK(heads == codec_->n_kv_heads() && d == codec_->head_dim() && layer < codec_->n_layers(),
           "a codec of another model's shape");
  if (!side.coded || from >= n) return out;
  if (!side.vector) {
    at::Tensor host = out.to(at::kCPU).contiguous(), host_keys;
    if (keys) host_keys = keys->to(at::kCPU, at::kFloat).contiguous();
    for (std::int64_t h = 0; h < heads; ++h) {
      const std::int64_t offset = (h * n + from) * d;
      float* at = host.data_ptr<float>() + offset;
      const codec::HeadCoder* coder =
          key ? codec_->key(layer, static_cast<int>(h)) : codec_->value(layer, static_cast<int>(h));
      if (coder)
        coder->reconstruct_at(at, static_cast<std::size_t>(n - from),
                              {static_cast<std::size_t>(position + from),
                               keys ? host_keys.const_data_ptr<float>() + offset : nullptr},
                              at);
    }
    return host.to(out.device());
  }
  if (!at::isfinite(out).all().item<bool>())
    fail("layer {}: a {} is not finite", layer, key ? "key" : "value");
  const std::int64_t m = d / side.dsub, ksub = std::int64_t{1} << side.code_bits;
  const at::Tensor books =
      side.centroids[layer].to(at::kFloat).expand({heads, m, ksub, side.dsub}).reshape({heads * m, ksub, side.dsub});
  const std::int64_t step = std::max<std::int64_t>(1, kDistances / (heads * m * ksub));
  for (std::int64_t t = from; t < n; t += step) {
    at::Tensor some = out.narrow(1, t, std::min(step, n - t));
    some.copy_(code_and_back(side, layer, some, books));
  }
  return out;
}

}  // namespace vi::eval
