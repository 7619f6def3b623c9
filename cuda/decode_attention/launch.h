// Host entry points of decode attention. All launches go to params.stream, allocate nothing and
// read lengths on the device, so they can be captured in a CUDA graph.
#pragma once

#include "cuda/decode_attention/params.h"
#include "cuda/decode_attention/select.h"

namespace vi::cuda {

void decode_attention(const DecodeParams& params, const KernelConfig& config);

// Codebook as trained, f16 [n_heads, n_books, ksub, dsub] -> by_code f16 [n_heads, ksub, n_books,
// dsub], and the mean centroid of each sub-space f32 [n_heads, head_dim] (may be null). Once per
// codebook.
void prepare_book(const void* centroids, void* by_code, float* mean, int n_heads, int n_books,
                  int ksub, int dsub, int head_dim, cudaStream_t stream);

// The same attention over dense K and V [batch, n_kv_heads, capacity, head_dim] of `dtype`: our own
// fair baseline, split like the coded one. head_dim 64 or 128.
struct DenseParams {
  const void* q = nullptr;
  void* out = nullptr;
  const void* key = nullptr;
  const void* value = nullptr;
  const int* kv_len = nullptr;  // [batch]
  int batch = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0, capacity = 0;
  Dtype dtype = Dtype::f16;
  float scale = 0;
  float* workspace = nullptr;
  int num_splits = 1;
  cudaStream_t stream = nullptr;
};
int dense_splits(int batch, int n_kv_heads, int capacity, int n_sms);
std::size_t dense_workspace_bytes(const DenseParams& params);
void dense_decode_attention(const DenseParams& params);

}  // namespace vi::cuda
