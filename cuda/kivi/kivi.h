// Decode attention over a 2-bit integer cache in KIVI's form (arXiv 2402.02750), fused: the
// contender beside our look-up kernels in `vecinfer bench kernels`. Raw device pointers, nothing
// allocated. C++17. Serves head_dim 64 and 128, GQA groups of any size (eight heads a pass), f16
// and bf16 queries, sm_80+. Holds coded tokens only: KIVI's residual window of exact rows is not
// part of it, nor of its timing.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/common/dtype.h"

namespace vi::cuda {

struct KiviParams {
  const void* q = nullptr;  // [batch, n_q_heads, head_dim], dtype
  void* out = nullptr;      // likewise; zeros where a sequence is empty
  const std::uint32_t* records =
      nullptr;                  // [batch, n_kv_heads, n_blocks, 6 head_dim], 16-byte aligned
  const int* kv_len = nullptr;  // [batch] tokens of each sequence, 0 .. 32 n_blocks
  int n_blocks = 0;             // records that a head has room for
  int batch = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0;
  Dtype dtype = Dtype::f16;
  float scale = 0;            // of q.k, usually 1 / sqrt(head_dim)
  void* workspace = nullptr;  // kivi_workspace_bytes, zeroed once before its first use
  int num_splits = 1;
  cudaStream_t stream = nullptr;
};
int kivi_splits(int batch, int n_q_heads, int n_kv_heads, int n_blocks, int n_sms);
std::size_t kivi_workspace_bytes(const KiviParams& params);
void kivi_decode_attention(const KiviParams& params);
// One CTA a query head, plain loops, no workspace: the fast kernel's twin, for tests.
void kivi_decode_attention_naive(const KiviParams& params);

// Rows [n_heads, n, head_dim] of keys and values to records [n_heads, ceil(n / 32), 6 head_dim]; a
// last block that is not full is measured over the tokens it has. Not tuned: a cache is coded once.
void kivi_encode(const void* key, const void* value, std::uint32_t* records, int n_heads, int n,
                 int head_dim, Dtype dtype, cudaStream_t stream);

}  // namespace vi::cuda
