// `vecinfer bench kernels | e2e | breakdown | kmeans --device cuda`: timings on synthetic data and weights, with the
// fair baselines in the same run. What each case is stands beside its code.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/common/json.h"
#include "core/common/progress.h"

namespace vi::cuda {

struct GpuBench {
  std::string what;         // kernels | e2e | breakdown | kmeans
  std::string set = "all";  // all | quick; e2e also: long, prefill; kernels also: paper
  std::vector<std::int64_t> kv_lens = {};  // kernels: batch 1 at these lengths instead (the profile stage)
};
std::vector<Json> gpu_bench(const GpuBench& settings, Progress& progress,
                            const std::function<void(const Json&)>& each);

}  // namespace vi::cuda
