// Launcher of the sliced kernel.
#include "cuda/common/check.h"
#include "cuda/decode_attention/instances.h"
#include "cuda/decode_attention/sliced/sliced.cuh"

namespace vi::cuda::sliced {
namespace {

using Kernel = void (*)(Args);

Kernel score_kernel(int bits) { return bits == 8 ? scores<0> : bits == 10 ? scores<2> : scores<4>; }

template <int kDsub, int kHigh>
Kernel value_kernel(int rows) {
  if (rows == 1) return values<kDsub, kHigh, 1>;
  if constexpr (kDsub < 8)
    if (rows == 4) return values<kDsub, kHigh, 4>;
  return values<kDsub, kHigh, 2>;
}

template <int kDsub>
Kernel value_kernel(int bits, int rows) {
  return bits == 8 ? value_kernel<kDsub, 0>(rows) : bits == 10 ? value_kernel<kDsub, 2>(rows) : value_kernel<kDsub, 4>(rows);
}

void launch_one(Kernel kernel, const Args& args, unsigned grid, int threads, std::size_t shared) {
  VI_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
  kernel<<<grid, threads, shared, args.p.stream>>>(args);
  VI_CUDA(cudaGetLastError());
}

}  // namespace

void launch(const DecodeParams& p, const SlicedPlan& plan) {
  auto* base = static_cast<unsigned char*>(p.workspace);
  const Args args{p,
                  plan,
                  reinterpret_cast<__half*>(base),
                  reinterpret_cast<float*>(base + plan.stats_at),
                  reinterpret_cast<float4*>(base + plan.scores_at),
                  reinterpret_cast<float4*>(base + plan.exact_at),
                  reinterpret_cast<float*>(base + plan.partial_at)};
  const auto items = static_cast<unsigned>(p.batch * p.n_kv_heads * plan.passes);
  launch_one(score_kernel(p.key.code_bits), args, items * plan.key_slices * plan.score_splits, kScoreThreads, plan.key_bytes);
  constexpr int kJoinWarps = kJoinThreads / 32;
  if (plan.key_slices > 1 && plan.exact_unit > 0) {
    const int ctas = (plan.exact_unit + kJoinWarps - 1) / kJoinWarps;
    join<<<items * ctas, kJoinThreads, 0, p.stream>>>(args, ctas);
    VI_CUDA(cudaGetLastError());
  }
  const Kernel kernel = p.value.dsub == 2   ? value_kernel<2>(p.value.code_bits, plan.value_rows)
                        : p.value.dsub == 4 ? value_kernel<4>(p.value.code_bits, plan.value_rows)
                                            : value_kernel<8>(p.value.code_bits, plan.value_rows);
  launch_one(kernel, args, items * plan.value_slices * plan.splits, kValueThreads, plan.value_bytes);
}

}  // namespace vi::cuda::sliced
