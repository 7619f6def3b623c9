// Checks of CUDA calls (C++17: .cu and .cpp). Nothing here needs fmt, so nvcc never sees it.
// VI_CUDA(cudaMalloc(&p, n)) throws vi::CudaError that names call, place and CUDA's own words.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

namespace vi::cuda {

[[noreturn]] void throw_cuda(cudaError_t code, const char* call, const char* file, int line);
[[noreturn]] void throw_call(
    const std::string& what);  // vi::Error: a wrong call, nothing was launched

// The current device, or CudaError (exit code 4) with one line that says why there is none.
struct Device {
  int index = 0, sm = 0, n_sms = 0;  // sm: 90 for compute capability 9.0
  std::size_t shared_per_block = 0, l2_bytes = 0;
  std::string name;
};
Device current_device();
bool has_device();  // no exception; for tests that skip

}  // namespace vi::cuda

#define VI_CUDA(call)                                                   \
  do {                                                                  \
    const cudaError_t vi_cuda_code_ = (call);                           \
    if (vi_cuda_code_ != cudaSuccess)                                   \
      ::vi::cuda::throw_cuda(vi_cuda_code_, #call, __FILE__, __LINE__); \
  } while (0)
