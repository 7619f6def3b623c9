// Launch of one look-up instance; included by the instance files only.
#pragma once

#include "cuda/common/check.h"
#include "cuda/decode_attention/instances.h"
#include "cuda/decode_attention/lookup/lookup.cuh"

namespace vi::cuda::lookup {

template <int kHeadDim, int kDsubK, int kDsubV>
void launch_row(const WalkArgs& args, int n_ctas, cudaStream_t stream) {
  using S = Shape<kHeadDim, kDsubK, kDsubV>;
  const auto kernel = args.p.block_table ? decode<kHeadDim, kDsubK, kDsubV, true>
                                         : decode<kHeadDim, kDsubK, kDsubV, false>;
  VI_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(S::kBytes)));
  kernel<<<n_ctas, kThreads, S::kBytes, stream>>>(args);
  VI_CUDA(cudaGetLastError());
}

}  // namespace vi::cuda::lookup
