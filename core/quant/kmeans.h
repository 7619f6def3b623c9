// k-means: faiss::Clustering drives, an index of ours assigns (assign.h). Seeded; the same bytes for
// any number of threads and any SIMD level; silent. VecInfer section 4.1: 30 iterations at most.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/common/progress.h"

namespace vi::quant {

// One codebook to train. The buffers must live until training ends.
struct KmeansProblem {
  std::span<const float> points;   // [n, dsub], finite
  std::span<const float> weights;  // [n] or empty; >= 0, finite, not all zero
  int dsub = 0;
  int ksub = 0;  // 1..65536
  std::uint64_t seed = 0;
};

struct KmeansSettings {
  int iterations = 30;
  int max_points_per_centroid =
      256;          // FAISS's rule: with more than ksub times this, a seeded sample
  int threads = 0;  // 0: OpenMP's number
};

struct KmeansResult {
  std::vector<float> centroids;  // [ksub, dsub], rounded to f16 (values beyond its range saturate)
  std::vector<std::int64_t> usage;  // [ksub] training points nearest to each, after rounding
  double train_mse = 0;             // per element, weighted, against the rounded centroids
  std::int64_t n_train = 0;         // points used, after sampling
  int dead = 0;                     // centroids no training point is nearest to
};

// Fewer points than centroids: the points themselves, repeated. Equal points or zero variance:
// FAISS splits clusters into copies, which stay unused (dead). No points, NaN, infinity: Error.
KmeansResult kmeans(const KmeansProblem& problem, const KmeansSettings& settings);

// Problems side by side, each on one thread; large ones left over run on all threads one after the
// other. `progress` advances by one a problem. Checks for Ctrl-C between iterations (Interrupted).
std::vector<KmeansResult> train_many(std::span<const KmeansProblem> problems,
                                     const KmeansSettings& settings, Progress& progress);

}  // namespace vi::quant
