// Element types of tensors that kernels read and write. C++17.
#pragma once

namespace vi::cuda {

enum class Dtype : int { f16, bf16, f32 };

}  // namespace vi::cuda
