// What an encode launch reads and writes: new rows of keys or values, straight from RoPE's output,
// to packed codes. y = (x - center) * inverse_scale, then Hadamard or a dense map; each sub-vector
// of y gets its nearest centroid (VecInfer Eq. 2-8). One side a launch. Raw device pointers, C++17.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/common/dtype.h"

namespace vi::cuda {

struct EncodeParams {
  const void* rows =
      nullptr;  // element (s, t, h, i) at ((s * n_tokens + t) * row_stride + h * head_stride + i)
  std::int64_t row_stride = 0, head_stride = 0;  // in elements
  Dtype dtype = Dtype::f16;                      // of rows
  const float* center = nullptr;                 // [n_kv_heads, head_dim] or null
  const float* inverse_scale = nullptr;          // [n_kv_heads, head_dim] or null: 1 / smooth
  const float* dense = nullptr;  // [n_kv_heads, head_dim, head_dim] A of y = x A, or null
  bool hadamard = false;  // orthonormal, natural order; head_dim a power of two; not with dense
  const void* centroids = nullptr;  // f16 [n_kv_heads, shared ? 1 : n_books, ksub, dsub]
  int dsub = 0, code_bits = 0;
  bool shared = false;
  std::uint8_t* codes = nullptr;  // streams of core/quant/code_layout.h, 16-byte aligned
  std::int64_t outer_stride = 0, code_head_stride = 0;  // bytes: as in CodedSide
  const int* first = nullptr;  // [batch] tokens each stream already holds; the new ones follow
  const int* block_table = nullptr;  // [batch, max_pages] or null, as in DecodeParams
  int max_pages = 0, page_tokens = 0;
  int batch = 0, n_tokens = 0;  // n_tokens new tokens for each sequence
  // Rows somewhere in a window, and of some sequences only: those of sequence s begin at row s * window_rows + from[s]
  // instead of s * n_tokens; from[s] < 0: none of s. [batch] or null. Fused kernel only.
  const int* from = nullptr;
  std::int64_t window_rows = 0;
  int n_kv_heads = 0, head_dim = 0;
  std::uint16_t* scratch =
      nullptr;  // naive only: [batch, n_tokens, n_kv_heads, n_books] codes, unpacked
  cudaStream_t stream = nullptr;
};

// Fused kernel: dsub 2, 4, 8; 1..16 bits; head_dim any multiple of 16 up to 256 (with hadamard 32, 64,
// 128, 256). vi::Error otherwise.
void encode(const EncodeParams& params);
// Kept simple: any dsub and any head_dim up to 1024.
void encode_naive(const EncodeParams& params);

}  // namespace vi::cuda
