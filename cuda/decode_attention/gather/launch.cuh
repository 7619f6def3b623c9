// Launch of one gather instance; included by the instance files only.
#pragma once

#include "cuda/common/check.h"
#include "cuda/decode_attention/gather/gather.cuh"

namespace vi::cuda::gather {

template <int kHeadDim, class K, class V, int kNTiles>
void launch_row(const WalkArgs& args, int n_ctas, cudaStream_t stream) {
  constexpr int kBytes = shared_bytes<kHeadDim, K, V, kNTiles>();
  static_assert(kBytes <= 232448, "more shared memory than an H100 has");
  const auto kernel = decode<kHeadDim, K, V, kNTiles>;
  VI_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  kernel<<<n_ctas, Shape<kHeadDim, kNTiles>::kThreads, kBytes, stream>>>(args);
  VI_CUDA(cudaGetLastError());
}

}  // namespace vi::cuda::gather

// One instance: the columns of rows.inc without the GQA range.
#define VI_GATHER_INSTANCE(d, dk, bk, ck, sk, dv, bv, cv, sv, n)                            \
  template void vi::cuda::gather::launch_row<d, vi::cuda::gather::Side<d, dk, bk, ck, sk>,  \
                                             vi::cuda::gather::Side<d, dv, bv, cv, sv>, n>( \
      const vi::cuda::WalkArgs&, int, cudaStream_t);
