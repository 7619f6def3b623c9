// Launcher of the sliced kernel.
#include "cuda/common/check.h"
#include "cuda/decode_attention/instances.h"
#include "cuda/decode_attention/sliced.cuh"

namespace vi::cuda::sliced {
namespace {

using Kernel = void (*)(Args);

Kernel score_kernel(int bits) { return bits == 8 ? scores<0> : bits == 10 ? scores<2> : scores<4>; }

template <int kDsub>
Kernel value_kernel(int bits) {
  return bits == 8 ? values<kDsub, 0> : bits == 10 ? values<kDsub, 2> : values<kDsub, 4>;
}

void launch_one(Kernel kernel, const Args& args, std::int64_t ctas, int threads, std::size_t shared) {
  VI_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
  kernel<<<static_cast<unsigned>(ctas), threads, shared, args.p.stream>>>(args);
  VI_CUDA(cudaGetLastError());
}

}  // namespace

void launch(const DecodeParams& p, const SlicedPlan& plan, float* partial) {
  const Args args{p, plan, static_cast<float4*>(p.workspace), partial};
  const std::int64_t items = static_cast<std::int64_t>(p.batch) * p.n_kv_heads * plan.passes;
  launch_one(score_kernel(p.key.code_bits), args, items * plan.key_slices * plan.score_splits, kScoreThreads, plan.key_bytes);
  launch_one(p.value.dsub == 2   ? value_kernel<2>(p.value.code_bits)
             : p.value.dsub == 4 ? value_kernel<4>(p.value.code_bits)
                                 : value_kernel<8>(p.value.code_bits),
             args, items * plan.value_slices * plan.splits, kValueThreads, plan.value_bytes);
}

}  // namespace vi::cuda::sliced
