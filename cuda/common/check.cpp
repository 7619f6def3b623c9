#include "cuda/common/check.h"

#include <cstring>

#include "core/common/error.h"

namespace vi::cuda {

void throw_cuda(cudaError_t code, const char* call, const char* file, int line) {
  const char* slash = std::strrchr(file, '/');
  fail<CudaError>("{}:{}: {}: {} ({})", slash ? slash + 1 : file, line, call,
                  cudaGetErrorString(code), cudaGetErrorName(code));
}

void throw_call(const std::string& what) { throw Error(what); }

bool has_device() {
  int count = 0;
  const bool found = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  cudaGetLastError();  // a machine without a driver leaves an error behind
  return found;
}

Device current_device() {
  if (!has_device()) fail<CudaError>("no CUDA device found: use --device cpu");
  Device d;
  VI_CUDA(cudaGetDevice(&d.index));
  cudaDeviceProp p;
  VI_CUDA(cudaGetDeviceProperties(&p, d.index));
  d.sm = p.major * 10 + p.minor;
  d.n_sms = p.multiProcessorCount;
  d.shared_per_block = p.sharedMemPerBlockOptin;
  d.l2_bytes = static_cast<std::size_t>(p.l2CacheSize);
  d.name = p.name;
  return d;
}

}  // namespace vi::cuda
