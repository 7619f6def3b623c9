// The per-head linear maps around the attention: queries into the codec's space, outputs back out
// of the values' space. y = (x * before) M * after, where M is a Hadamard matrix, a dense
// [head_dim, head_dim] matrix per KV head (learned or random rotations in place of the Hadamard) or
// nothing. C++17.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "cuda/common/dtype.h"

namespace vi::cuda {

struct MapParams {
  const void* in = nullptr;       // [rows, n_heads, head_dim], dtype
  void* out = nullptr;            // likewise; may be `in`
  const float* before = nullptr;  // [n_kv_heads, head_dim] or null: smoothing factors of queries
  const float* dense = nullptr;   // [n_kv_heads, head_dim, head_dim] A of y = x A, or null
  bool transpose = false;         // y = x A^T instead: the inverse of an orthogonal A
  bool hadamard = false;  // orthonormal, natural order; head_dim a power of two; not with dense
  const float* after = nullptr;                             // [n_kv_heads, head_dim] or null
  int rows = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0;  // n_heads a multiple of n_kv_heads
  Dtype dtype = Dtype::f16;
  cudaStream_t stream = nullptr;
};
// head_dim up to 256. vi::Error otherwise. Fit for a CUDA graph.
void map_heads(const MapParams& params);

// The same in f64, params with host pointers (out unused): [rows, n_heads, head_dim].
std::vector<double> oracle_map(const MapParams& host);

}  // namespace vi::cuda
