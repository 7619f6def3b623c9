// Too little memory for what was asked, on the GPU or the host; less may fit.
#pragma once

#include "core/common/error.h"

namespace vi {

class OutOfMemoryError : public CudaError {
 public:
  using CudaError::CudaError;
};

}  // namespace vi
