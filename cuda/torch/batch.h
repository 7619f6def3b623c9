// A Stepper as eval/generation/batch_model.h knows it: slots that begin and end on their own. Every step runs all slots,
// free ones too, so that shapes and with them the CUDA graph stay as they are while slots are refilled.
#pragma once

#include <memory>

#include "cuda/torch/stepper.h"
#include "eval/generation/batch_model.h"

namespace vi::cuda {

// As many slots as the cache has sequences.
std::unique_ptr<eval::BatchModel> make_gpu_batch(std::shared_ptr<const GpuEngine> engine,
                                                 std::unique_ptr<DeviceCache> cache,
                                                 const StepOptions& options = {});

}  // namespace vi::cuda
