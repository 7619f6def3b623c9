// Programmatic dependent launches (sm_90): a kernel may start while the one before it in the stream still
// runs, and waits for all of its writes where it first needs them. A kernel that was launched so calls
// wait_for_previous() in every thread before it reads or writes what another kernel touches; kernels
// launched in the plain way need nothing. Works inside graph capture.
#pragma once

#include <cuda_runtime.h>

#include "cuda/common/check.h"

namespace vi::cuda {

__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void next_may_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <class P>
void launch_dependent(void (*kernel)(P), dim3 grid, int threads, std::size_t shared, cudaStream_t stream,
                      const P& params) {
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  VI_CUDA(cudaLaunchKernelEx(&config, kernel, params));
}

}  // namespace vi::cuda
