// Launcher of the dense baseline.
#include "cuda/common/check.h"
#include "cuda/decode_attention/dense.cuh"

namespace vi::cuda {
namespace {

int passes_of(int n_q_heads, int n_kv_heads) {
  return (n_q_heads / n_kv_heads + dense::kHeads - 1) / dense::kHeads;
}

template <int kHeadDim, bool kBf16>
void launch(const DenseParams& p) {
  const int passes = passes_of(p.n_q_heads, p.n_kv_heads);
  dense::decode<kHeadDim, kBf16>
      <<<dim3(p.num_splits, p.n_kv_heads * passes, p.batch), dense::kThreads, 0, p.stream>>>(
          p, passes);
  VI_CUDA(cudaGetLastError());
  dense::combine<<<p.batch * p.n_q_heads, p.head_dim, 0, p.stream>>>(p, p.num_splits);
  VI_CUDA(cudaGetLastError());
}

}  // namespace

int dense_splits(int batch, int n_kv_heads, int capacity, int n_sms) {
  // Two CTAs a multiprocessor, a few waves; no split under 512 tokens.
  const int items = batch * n_kv_heads, wanted = (n_sms * 8 + items - 1) / items,
            most = (capacity + 511) / 512;
  const int splits = wanted < most ? wanted : most;
  return splits < 1 ? 1 : splits;
}

std::size_t dense_workspace_bytes(const DenseParams& p) {
  return sizeof(float) * p.batch * p.n_q_heads * static_cast<std::size_t>(p.num_splits) *
         (p.head_dim + 1);
}

void dense_decode_attention(const DenseParams& p) {
  if (!p.q || !p.out || !p.key || !p.value || !p.kv_len || !p.workspace)
    throw_call("dense_decode_attention: a pointer is missing");
  if (p.n_kv_heads < 1 || p.n_q_heads % p.n_kv_heads || p.batch < 1 || p.num_splits < 1)
    throw_call("dense_decode_attention: batch, heads and splits do not fit");
  const bool bf16 = p.dtype == Dtype::bf16;
  if (p.dtype == Dtype::f32 || (p.head_dim != 64 && p.head_dim != 128))
    throw_call("dense_decode_attention: head_dim 64 or 128 in f16 or bf16 only");
  if (p.head_dim == 128)
    bf16 ? launch<128, true>(p) : launch<128, false>(p);
  else
    bf16 ? launch<64, true>(p) : launch<64, false>(p);
}

}  // namespace vi::cuda
