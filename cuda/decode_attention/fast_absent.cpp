// Stands in for the look-up and gather kernels in a build for no architecture that has room for
// them: select_kernel() never picks them there, and who asks by hand is told.
#include "cuda/common/check.h"
#include "cuda/decode_attention/instances.h"

namespace vi::cuda {

void lookup::launch(const LookupRow&, const DecodeParams&, const KernelConfig&) {
  throw_call("decode_attention: this build has no look-up kernel (VI_CUDA_ARCHITECTURES)");
}
void sliced::launch(const DecodeParams&, const SlicedPlan&) {
  throw_call("decode_attention: this build has no sliced kernel (VI_CUDA_ARCHITECTURES)");
}
void gather::launch(const GatherRow&, const DecodeParams&, const KernelConfig&) {
  throw_call("decode_attention: this build has no gather kernel (VI_CUDA_ARCHITECTURES)");
}

}  // namespace vi::cuda
