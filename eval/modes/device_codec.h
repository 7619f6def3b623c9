// A codec's tables as tensors on a device, and the reconstruction of rows there. Device-agnostic: the
// tests run it on the CPU against core/codec. Codes may differ from the CPU's where two distances are
// equal within f32 rounding (products here, differences there).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "core/codec/codec.h"
#include "core/quant/code_layout.h"

namespace vi::eval {

// One side of all layers. Maps act on rows x [n, head_dim] of one head: y = x a + b, x = y inverse_a +
// inverse_b, all [n_layers, n_kv_heads, head_dim, head_dim] or [n_layers, n_kv_heads, head_dim], f32.
struct DeviceSide {
  bool vector = false;  // a vector code in every layer; else the side is exact, or coded on the CPU
  bool coded = false;
  int dsub = 0, code_bits = 0, seal = 1;
  bool shared = false;
  quant::CodeLayout layout;
  at::Tensor centroids;  // f16 [n_layers, n_kv_heads, 1 or n_books, ksub, dsub]
  bool identity = true;  // no transforms: the tensors below are undefined
  at::Tensor a, b, inverse_a, inverse_b;
  // The same map as the kernels take it: y = ((x - center) * scale), then Hadamard or `dense`.
  at::Tensor center, scale, dense;
  bool hadamard = false;
};

// Rows x [heads, n, head_dim] of a vector-coded side, coded by the nearest centroid and back. books [heads * head_dim /
// dsub, ksub, dsub]: gradients go to them alone. Holds heads * head_dim / dsub * n * ksub f32 distances.
at::Tensor code_and_back(const DeviceSide& side, int layer, const at::Tensor& x, const at::Tensor& books);

class DeviceCodec {
 public:
  DeviceCodec(std::shared_ptr<const codec::Codec> codec, at::Device device);
  const codec::Codec& codec() const { return *codec_; }
  // What codes a layer: this, or of a composed codec the layer's member. The tables below are empty in a composed one, but for
  // `coded`: is any layer?
  const DeviceCodec& of(int layer) const { return of_layer_.empty() ? *this : *of_layer_.at(static_cast<std::size_t>(layer)); }
  const DeviceSide& key() const { return key_; }
  const DeviceSide& value() const { return value_; }
  // q -> the keys' space, score for score: q' = q a^-T; undefined without transforms.
  const at::Tensor& query() const { return query_; }  // f32 [n_layers, n_kv_heads, head_dim, head_dim]
  // The inverse of key().scale, for q in the kernels' form; undefined if there is none.
  const at::Tensor& query_scale() const { return query_scale_; }
  at::Device device() const { return device_; }

  // rows [n_kv_heads, n, head_dim] of `layer`: rows [from, n) as their coder gives them back, the rest
  // as they are. f32. What is no plain vector code is reconstructed on the CPU. Row 0 stands at
  // `position`; keys: the same tokens' exact keys, for coders of values that want them.
  at::Tensor reconstruct(int layer, bool key, const at::Tensor& rows, std::int64_t from,
                         std::int64_t position = 0, const at::Tensor* keys = nullptr) const;

 private:
  std::shared_ptr<const codec::Codec> codec_;
  at::Device device_;
  DeviceSide key_, value_;
  at::Tensor query_, query_scale_;
  std::vector<std::shared_ptr<const DeviceCodec>> of_layer_;
};

}  // namespace vi::eval
