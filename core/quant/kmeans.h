// k-means: faiss::Clustering drives, an index of ours assigns (assign.h). Seeded; the same bytes for
// any number of threads and any SIMD level; silent. VecInfer section 4.1: 30 iterations at most.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
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

// Who finds nearest centroids: the arithmetic and the ties of assign.h, so that the trained bytes do not
// depend on it. Empty: assign() itself; the GPU half has another (cuda/kmeans).
class CentroidSearch {
 public:
  virtual ~CentroidSearch() = default;
  virtual void set(const float* centroids) = 0;  // [ksub, dsub]
  virtual void assign(const float* points, std::size_t n, std::uint16_t* codes, float* distances) = 0;
};
using SearchFactory = std::function<std::unique_ptr<CentroidSearch>(int dsub, int ksub)>;

struct KmeansSettings {
  int iterations = 30;
  int max_points_per_centroid =
      256;          // FAISS's rule: with more than ksub times this, a seeded sample
  int threads = 0;  // 0: OpenMP's number
  SearchFactory search = {};
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
using TrainMany = std::function<std::vector<KmeansResult>(std::span<const KmeansProblem>, const KmeansSettings&, Progress&)>;

// What train_many does for one problem before and behind the iterations, for trainers elsewhere: the
// points that are trained on, and the result of rounded centroids on them.
struct KmeansSample {
  std::span<const float> points;
  std::vector<float> weights;  // mean 1, or empty
  std::vector<float> storage;  // behind `points`, where a sample was drawn
  std::int64_t n = 0;
  std::int64_t clustering_seed = 0;      // of faiss::Clustering
  std::vector<float> few;                // the answer where the points are too few to train on
};
KmeansSample kmeans_sample(const KmeansProblem& problem, const KmeansSettings& settings);
KmeansResult kmeans_result(const KmeansProblem& problem, const KmeansSample& sample, std::vector<float> centroids);

}  // namespace vi::quant
