// One element of a row in any of the dtypes a cache may hold.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "cuda/common/dtype.h"

namespace vi::cuda {

__device__ __forceinline__ float load_element(const void* p, std::int64_t i, Dtype dtype) {
  if (dtype == Dtype::f16) return __half2float(static_cast<const __half*>(p)[i]);
  if (dtype == Dtype::bf16) return __bfloat162float(static_cast<const __nv_bfloat16*>(p)[i]);
  return static_cast<const float*>(p)[i];
}

__device__ __forceinline__ void store_element(void* p, std::int64_t i, Dtype dtype, float v) {
  if (dtype == Dtype::f16)
    static_cast<__half*>(p)[i] = __float2half_rn(v);
  else if (dtype == Dtype::bf16)
    static_cast<__nv_bfloat16*>(p)[i] = __float2bfloat16_rn(v);
  else
    static_cast<float*>(p)[i] = v;
}

}  // namespace vi::cuda
