// The look-up kernel for head_dim 128, keys d2b8, values d2b8: a kernel of its own.
#include "cuda/common/check.h"
#include "cuda/decode_attention/instances.h"
#include "cuda/decode_attention/lookup/d2.cuh"

namespace vi::cuda::lookup {

template <>
void launch_row<128, 2, 2>(const WalkArgs& args, int n_ctas, cudaStream_t stream) {
  const auto kernel = args.p.block_table ? lookup_d2::decode<true> : lookup_d2::decode<false>;
  VI_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(lookup_d2::kBytes)));
  kernel<<<n_ctas, kThreads, lookup_d2::kBytes, stream>>>(args);
  VI_CUDA(cudaGetLastError());
}

}  // namespace vi::cuda::lookup
