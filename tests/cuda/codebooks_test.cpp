// Batched codebook training as the codebook stage calls it, against faiss::Clustering on the same data:
// inertia within 0.5 %, the same sampling, seeds, rounding and answers for too few points.
#include "cuda/torch/codebooks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "core/common/error.h"
#include "core/common/rng.h"
#include "cuda/common/check.h"

namespace vi::cuda {
namespace {

// Clustered points, as sub-vectors of keys are: 40 centres of unequal weight, channels of unequal spread.
std::vector<float> points(std::uint64_t seed, int n, int dsub) {
  Rng rng(seed);
  std::vector<float> centres(static_cast<std::size_t>(40 * dsub)), x(static_cast<std::size_t>(n * dsub));
  for (float& c : centres) c = static_cast<float>(3 * rng.normal());
  for (int i = 0; i < n; ++i) {
    const auto centre = std::min(rng.below(40), rng.below(40));
    for (int d = 0; d < dsub; ++d)
      x[static_cast<std::size_t>(i * dsub + d)] =
          centres[centre * static_cast<std::size_t>(dsub) + static_cast<std::size_t>(d)] +
          static_cast<float>(rng.normal() * (d + 1) / dsub);
  }
  return x;
}

struct Problems {
  Problems(int count, int n, int dsub, int ksub) {
    for (int i = 0; i < count; ++i) data.push_back(points(static_cast<std::uint64_t>(17 * i + n), n, dsub));
    for (int i = 0; i < count; ++i)
      list.push_back({data[static_cast<std::size_t>(i)], {}, dsub, ksub, static_cast<std::uint64_t>(900 + i)});
  }
  std::vector<std::vector<float>> data;
  std::vector<quant::KmeansProblem> list;
};

TEST(BatchedCodebooks, InertiaIsFaiss) {
  if (!has_device()) GTEST_SKIP() << "no CUDA device";
  SilentProgress progress;
  struct Case {
    int count, n, dsub, ksub, most;
  };
  for (const Case& c : {Case{8, 9000, 4, 256, 256}, Case{8, 4000, 8, 64, 256}, Case{4, 6000, 2, 256, 16},  // sampled
                        Case{2, 9000, 4, 1024, 256}}) {
    const Problems problems(c.count, c.n, c.dsub, c.ksub);
    quant::KmeansSettings settings;
    settings.max_points_per_centroid = c.most;
    const auto gpu = train_batched(problems.list, settings, progress);
    const auto faiss = quant::train_many(problems.list, settings, progress);
    ASSERT_EQ(gpu.size(), faiss.size());
    for (std::size_t i = 0; i < gpu.size(); ++i) {
      const double off = gpu[i].train_mse / faiss[i].train_mse - 1;
      std::printf("codebook %d x %d -> %d, problem %zu: inertia %+.4f %% of FAISS's\n", c.n, c.dsub, c.ksub, i, 100 * off);
      EXPECT_LE(std::abs(off), 0.005) << i;
      EXPECT_EQ(gpu[i].n_train, faiss[i].n_train);
      EXPECT_EQ(gpu[i].centroids.size(), faiss[i].centroids.size());
    }
  }
}

TEST(BatchedCodebooks, FewPointsAreThemselves) {
  if (!has_device()) GTEST_SKIP() << "no CUDA device";
  SilentProgress progress;
  const Problems problems(3, 50, 4, 64);
  const auto gpu = train_batched(problems.list, {}, progress);
  const auto faiss = quant::train_many(problems.list, {}, progress);
  for (std::size_t i = 0; i < gpu.size(); ++i) EXPECT_EQ(gpu[i].centroids, faiss[i].centroids);
}

TEST(BatchedCodebooks, RefusesWeightsAndMixedShapes) {
  SilentProgress progress;
  Problems mixed(2, 3000, 4, 64);
  mixed.list[1].ksub = 32;
  EXPECT_THROW(train_batched(mixed.list, {}, progress), Error);
  Problems weighted(1, 3000, 4, 64);
  const std::vector<float> weights(3000, 2.f);
  weighted.list[0].weights = weights;
  EXPECT_THROW(train_batched(weighted.list, {}, progress), Error);
}

}  // namespace
}  // namespace vi::cuda
