// The KV cache of one sequence: append what a layer made, attend with one query token. f32 rows on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/codec/codec.h"

namespace vi::cache {

class KvCache {
 public:
  virtual ~KvCache() = default;
  // k, v [n_kv_heads, n, head_dim], post-RoPE, the next n tokens of `layer`; k and v are strided by
  // head_stride floats between heads (rows of a head are contiguous).
  virtual void append(int layer, const float* k, const float* v, std::int64_t n, std::int64_t head_stride) = 0;
  // q [n_q_heads, head_dim] -> out [n_q_heads, head_dim]: softmax(q K^T / sqrt(head_dim)) V over all tokens.
  virtual void attend(int layer, const float* q, float* out) const = 0;
  virtual std::int64_t len(int layer) const = 0;
  virtual std::size_t payload_bytes() const = 0;   // packed codes and their scales
  virtual std::size_t window_bytes() const = 0;    // exact tokens
  virtual std::size_t allocated_bytes() const = 0; // everything the cache holds, capacity included
  virtual void reset() = 0;
};

// n_q_heads is a multiple of the codec's n_kv_heads.
std::unique_ptr<KvCache> make_dense_cache(int n_layers, int n_q_heads, int n_kv_heads, int head_dim);
std::unique_ptr<KvCache> make_coded_cache(std::shared_ptr<const codec::Codec> codec, int n_q_heads);

}  // namespace vi::cache
