// The compiled look-up kernels, one per row of lookup_table(); each lives in its own .cu for short
// builds.
#pragma once

#include "cuda/decode_attention/params.h"
#include "cuda/decode_attention/select.h"

namespace vi::cuda::lookup {

struct Args;

template <int kHeadDim, int kDsubK, int kDsubV>
void launch_row(const Args& args, int n_ctas, cudaStream_t stream);

void launch(const LookupRow& row, const DecodeParams& params, const KernelConfig& config);

}  // namespace vi::cuda::lookup
