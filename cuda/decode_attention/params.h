// What a decode-attention launch reads and writes: raw device pointers, no tensors. C++17.
// All rows live in the transformed space of the codec (VecInfer sec. 3.2-3.3): q is q diag(s) H,
// centroids and exact ("dense") rows are k diag(s)^-1 H, and out is still to be mapped back for
// values.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/common/dtype.h"

namespace vi::cuda {

// One side (keys or values) of the coded cache, packed as core/quant/code_layout.h says.
struct CodedSide {
  const std::uint8_t* codes =
      nullptr;  // [batch, n_kv_heads, stream], or [n_pages, n_kv_heads, page's stream]
  std::int64_t outer_stride =
      0;                         // bytes from one sequence (contiguous) or page (paged) to the next
  std::int64_t head_stride = 0;  // bytes from one KV head to the next
  const void* centroids = nullptr;  // f16 [n_kv_heads, shared ? 1 : n_books, ksub, dsub]
  const void* by_code =
      nullptr;  // f16 [n_kv_heads, ksub, shared ? 1 : n_books, dsub], from prepare_book
  // Keys: f32 [n_kv_heads, head_dim], a vector near the mean key. Any value gives the same result
  // in exact arithmetic; the nearer, the less is lost by 16-bit tables. prepare_book's default: the
  // mean centroid.
  const float* mean = nullptr;
  int dsub = 0, code_bits = 0;
  bool shared = false;  // one codebook for all sub-spaces
};

struct DecodeParams {
  const void* q = nullptr;  // [batch, n_q_heads, head_dim], dtype
  void* out = nullptr;      // [batch, n_q_heads, head_dim], dtype; zeros where a sequence is empty
  float* lse = nullptr;     // [batch, n_q_heads] log2 of the sum of 2^(score log2 e); may be null
  CodedSide key, value;
  const int* kv_len = nullptr;  // [batch] coded tokens of each sequence, 0 allowed
  const int* block_table =
      nullptr;  // [batch, max_pages] page of each run of page_tokens tokens; null: contiguous
  int max_pages = 0, page_tokens = 0;
  // Exact tokens beside the codes (sinks and the residual window), in any order.
  const void* dense_key = nullptr;    // [batch, n_kv_heads, dense_capacity, head_dim], dtype
  const void* dense_value = nullptr;  // likewise
  const int* dense_len = nullptr;     // [batch]; null: none
  int dense_capacity = 0;
  int batch = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0;
  Dtype dtype = Dtype::f16;   // of q, out and dense rows; not f32
  float scale = 0;            // of q.k, usually 1 / sqrt(head_dim)
  void* workspace = nullptr;  // workspace_bytes(config), zeroed once before its first use
  cudaStream_t stream = nullptr;
};

}  // namespace vi::cuda
