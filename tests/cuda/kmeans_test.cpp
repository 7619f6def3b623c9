// The GPU k-means against the CPU oracle: inertia within 0.5 %, the same bytes on every run and in
// any batch, empty clusters, few distinct points, shifted data; the search bit for bit.
#include "cuda/kmeans/kmeans.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>

#include "core/common/error.h"
#include "core/common/rng.h"
#include "cuda/kmeans/oracle.h"

namespace vi::cuda {
namespace {

#define VI_NEEDS_GPU() \
  if (!has_device()) GTEST_SKIP() << "no CUDA device"

struct Trained {
  std::vector<float> centroids;
  std::vector<int> usage;
  std::vector<double> inertia;
};
Trained train(const std::vector<float>& points, int problems, int dsub, int ksub, int iterations,
              const std::vector<std::int64_t>& seeds) {
  KmeansParams p;
  p.n_problems = problems;
  p.n = static_cast<int>(points.size()) / problems / dsub;
  p.dsub = dsub;
  p.ksub = ksub;
  p.iterations = iterations;
  p.seeds = seeds.data();
  Buffer<float> d_points(points), centroids(static_cast<std::size_t>(problems) * ksub * dsub);
  Buffer<int> usage(static_cast<std::size_t>(problems) * ksub);
  Buffer<double> inertia(problems);
  Buffer<std::uint8_t> workspace(kmeans_workspace_bytes(p));
  workspace.fill(0xff);
  p.points = d_points.data();
  p.centroids = centroids.data();
  p.usage = usage.data();
  p.inertia = inertia.data();
  p.workspace = workspace.data();
  kmeans_train(p);
  VI_CUDA(cudaDeviceSynchronize());
  return {centroids.download(), usage.download(), inertia.download()};
}

std::vector<float> normal_points(std::uint64_t seed, std::size_t count, double offset = 0) {
  Rng rng(seed);
  std::vector<float> x(count);
  for (float& v : x) v = static_cast<float>(rng.normal() + offset);
  return x;
}

TEST(Kmeans, MatchesOracle) {
  VI_NEEDS_GPU();
  struct Case {
    int dsub, ksub, n, iterations;
    double offset;
  };
  for (const Case& c :
       {Case{4, 256, 9001, 10, 0}, Case{2, 256, 8192, 10, 0}, Case{8, 256, 5000, 10, 0},
        Case{4, 16, 20011, 20, 50}, Case{4, 1, 100, 3, 0}, Case{8, 1024, 4099, 4, 0},
        Case{4, 2500, 9000, 3, 0}, Case{2, 4096, 8200, 2, 3}, Case{4, 100, 100, 3, 0},
        Case{4, 33, 131, 9, 0}}) {
    const auto points =
        normal_points(c.ksub + c.dsub, static_cast<std::size_t>(c.n) * c.dsub, c.offset);
    const Trained got = train(points, 1, c.dsub, c.ksub, c.iterations, {77});
    const OracleKmeans want = oracle_kmeans(points.data(), c.n, c.dsub, c.ksub, c.iterations, 77);
    const double difference =
        want.inertia > 1e-6 * c.n ? got.inertia[0] / want.inertia - 1 : got.inertia[0];
    long used = 0;
    double inertia = 0;  // of what was returned, computed here
    for (int i = 0; i < c.n; ++i) {
      float d = 0;
      oracle_nearest(&points[static_cast<std::size_t>(i) * c.dsub], got.centroids.data(), c.ksub,
                     c.dsub, &d);
      inertia += d;
    }
    for (int u : got.usage) used += u;
    std::printf("kmeans %d x %d -> %d: inertia %.6g, oracle %.6g (%+.4f %%)\n", c.n, c.dsub, c.ksub,
                got.inertia[0], want.inertia, 100 * difference);
    EXPECT_EQ(used, c.n);
    EXPECT_NEAR(got.inertia[0], inertia, 1e-4 * inertia + 1e-3);
    EXPECT_LE(std::abs(difference), 0.005);
  }
}

TEST(Kmeans, SameBytesInAnyBatch) {
  VI_NEEDS_GPU();
  const int n = 10007, problems = 5;
  const auto points = normal_points(3, static_cast<std::size_t>(problems) * n * 4);
  const std::vector<std::int64_t> seeds = {5, 6, 7, 1234567890123, 0};
  const Trained all = train(points, problems, 4, 64, 12, seeds),
                again = train(points, problems, 4, 64, 12, seeds);
  EXPECT_EQ(all.centroids, again.centroids);
  EXPECT_EQ(all.inertia, again.inertia);
  for (int i = 0; i < problems; ++i) {
    const std::vector<float> own(points.begin() + static_cast<long>(i) * n * 4,
                                 points.begin() + static_cast<long>(i + 1) * n * 4);
    const Trained one = train(own, 1, 4, 64, 12, {seeds[i]});
    EXPECT_TRUE(
        std::equal(one.centroids.begin(), one.centroids.end(), all.centroids.begin() + i * 64 * 4));
    EXPECT_EQ(one.inertia[0], all.inertia[i]);
  }
}

TEST(Kmeans, EmptyClustersFollowFaiss) {
  VI_NEEDS_GPU();
  // 12 distinct points, 32 clusters: most are empty and are split off again and again.
  Rng rng(9);
  std::vector<float> distinct = normal_points(4, 12 * 4), points;
  for (int i = 0; i < 3000; ++i) {
    const std::size_t at = rng.below(12) * 4;
    points.insert(points.end(), distinct.begin() + at, distinct.begin() + at + 4);
  }
  const Trained got = train(points, 1, 4, 32, 8, {3});
  const OracleKmeans want = oracle_kmeans(points.data(), 3000, 4, 32, 8, 3);
  std::printf("kmeans of 12 distinct points: inertia %.3g, oracle %.3g\n", got.inertia[0],
              want.inertia);
  EXPECT_LE(got.inertia[0], 1.01 * want.inertia + 0.05);
  for (float v : got.centroids) EXPECT_TRUE(std::isfinite(v));
  // Equal points: nothing to find, nothing may break.
  const Trained same = train(std::vector<float>(400 * 4, 2.5f), 1, 4, 7, 5, {1});
  EXPECT_LE(same.inertia[0], 400 * 4 * 1e-3);
  const Trained zero = train(std::vector<float>(400 * 4, 0.f), 1, 4, 7, 5, {1});
  EXPECT_EQ(zero.inertia[0], 0);
}

TEST(Kmeans, AssignerIsExact) {
  VI_NEEDS_GPU();
  for (int dsub : {1, 2, 4, 7, 8, 16})
    for (int ksub : {1, 3, 256, 1500}) {
      const int n = 777;
      auto points = normal_points(dsub, static_cast<std::size_t>(n) * dsub);
      const auto centroids = normal_points(ksub + 50, static_cast<std::size_t>(ksub) * dsub);
      points[5 * dsub] = std::numeric_limits<float>::quiet_NaN();
      points[6 * dsub] = std::numeric_limits<float>::infinity();
      Assigner assigner(dsub, ksub);
      assigner.set(centroids.data());
      std::vector<std::uint16_t> codes(n);
      std::vector<float> distances(n);
      assigner.assign(points.data(), n, codes.data(), distances.data());
      for (int i = 0; i < n; ++i) {
        float d = 0;
        const int c = oracle_nearest(&points[static_cast<std::size_t>(i) * dsub], centroids.data(),
                                     ksub, dsub, &d);
        EXPECT_EQ(codes[i], c) << dsub << " " << ksub << " point " << i;
        EXPECT_EQ(distances[i], d);
      }
    }
}

TEST(Kmeans, Refusals) {
  KmeansParams p;
  EXPECT_THROW(kmeans_train(p), Error);
  p.dsub = 4;
  p.n_problems = 1;
  p.n = 10;
  p.ksub = 11;
  p.iterations = 1;
  EXPECT_THROW(kmeans_workspace_bytes(p), Error);
  EXPECT_THROW(Assigner(17, 4), Error);
}

}  // namespace
}  // namespace vi::cuda
