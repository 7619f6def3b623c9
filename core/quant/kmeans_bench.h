// `vecinfer bench kmeans`: codebook training at the sizes of a whole model (30 layers, 3 KV heads,
// both sides), with FAISS's own flat index as the baseline in the same run.
#pragma once

#include <cstdint>

#include "core/common/json.h"
#include "core/common/progress.h"

namespace vi::quant {

struct KmeansBenchSettings {
  int problems = 0;  // 0: all (180 shared, 2880 per sub-space)
  int iterations = 30;
  int threads = 0;  // 0: OpenMP's number
  int baseline_problems = 2;
  std::uint64_t seed = 1;
};

// {"simd", "threads", "cases": [{"case", "problems", "points", "dsub", "ksub", "iterations", "wall_s",
//   "cpu_s", "train_mse", "s_per_problem", "centroids_sha256", "faiss_flat_s_per_problem", "speedup"}],
//  "assign": [{"dsub", "ksub", "simd", "points_per_s", "ns_per_distance"}]}
Json kmeans_bench(const KmeansBenchSettings& settings, Progress& progress);

}  // namespace vi::quant
