// The compiled look-up kernels, one per row of lookup_table(); each lives in its own .cu for short
// builds.
#pragma once

#include "cuda/decode_attention/params.h"
#include "cuda/decode_attention/select.h"

namespace vi::cuda {

struct WalkArgs;

namespace lookup {

template <int kHeadDim, int kDsubK, int kDsubV>
void launch_row(const WalkArgs& args, int n_ctas, cudaStream_t stream);

template <>
void launch_row<128, 2, 2>(const WalkArgs& args, int n_ctas, cudaStream_t stream);

void launch(const LookupRow& row, const DecodeParams& params, const KernelConfig& config);

}  // namespace lookup

namespace gather {

void launch(const GatherRow& row, const DecodeParams& params, const KernelConfig& config);

}  // namespace gather

namespace sliced {

// All but the last step: at plan.partial_at of the workspace lie [batch, n_q_heads, splits, head_dim + 1], o and lse.
void launch(const DecodeParams& params, const SlicedPlan& plan);

}  // namespace sliced

}  // namespace vi::cuda
