// k-means: known answers, FAISS's own index as oracle, thread independence, silence, awkward input.
#include "core/quant/kmeans.h"

#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <limits>
#include <numeric>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/interrupt.h"
#include "core/common/rng.h"

namespace vi::quant {
namespace {

std::vector<float> normal(std::uint64_t seed, std::size_t n, double scale = 1) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (float& v : x) v = static_cast<float>(scale * rng.normal());
  return x;
}

KmeansProblem problem(const std::vector<float>& points, int dsub, int ksub,
                      std::uint64_t seed = 1) {
  return {points, {}, dsub, ksub, seed};
}

std::int64_t total(const std::vector<std::int64_t>& v) {
  return std::accumulate(v.begin(), v.end(), std::int64_t{0});
}

TEST(Kmeans, FindsTheLloydMaxQuantiserOfANormal) {
  const std::vector<float> x = normal(1, 100000);
  const KmeansResult r = kmeans(problem(x, 1, 4), {100, 25000, 0});
  std::vector<float> c = r.centroids;
  std::sort(c.begin(), c.end());
  EXPECT_NEAR(c[0], -1.510, 0.03);  // Max 1960, 4 levels: 0.4528, 1.510, distortion 0.1175
  EXPECT_NEAR(c[1], -0.4528, 0.03);
  EXPECT_NEAR(c[2], 0.4528, 0.03);
  EXPECT_NEAR(c[3], 1.510, 0.03);
  EXPECT_NEAR(r.train_mse, 0.1175, 0.002);
  EXPECT_EQ(total(r.usage), 100000);
  EXPECT_EQ(r.dead, 0);
}

TEST(Kmeans, EqualsFaissWithItsOwnIndexFromTheSameStart) {
  const int dsub = 4, ksub = 32, n = 2500;
  const std::vector<float> x = normal(2, n * dsub);
  const KmeansResult ours = kmeans(problem(x, dsub, ksub, 5), {});
  faiss::ClusteringParameters parameters;
  parameters.niter = 30;
  parameters.seed =
      static_cast<int>(Rng(5).next() & 0x3fffffff);  // what kmeans() gives FAISS without sampling
  faiss::Clustering clustering(dsub, ksub, parameters);
  faiss::IndexFlatL2 index(dsub);
  clustering.train(n, x.data(), index);
  const double theirs = clustering.iteration_stats.back().obj / double(n * dsub);
  EXPECT_NEAR(ours.train_mse, theirs, 0.003 * theirs);
}

TEST(Kmeans, CentroidsAreMeansRoundedToHalf) {
  const int dsub = 2, ksub = 8;
  const std::size_t n = 2000;
  const std::vector<float> x = normal(3, n * dsub);
  const KmeansResult r = kmeans(problem(x, dsub, ksub), {500, 256, 0});  // long enough to converge
  std::vector<double> sum(ksub * dsub, 0);
  std::vector<std::int64_t> usage(ksub, 0);
  double error = 0;
  for (std::size_t i = 0; i < n; ++i) {
    double best = 1e300;
    int code = 0;
    for (int c = 0; c < ksub; ++c) {
      double d = 0;
      for (int j = 0; j < dsub; ++j)
        d += std::pow(double(x[i * dsub + j]) - r.centroids[c * dsub + j], 2);
      if (d < best) best = d, code = c;
    }
    ++usage[code];
    error += best;
    for (int j = 0; j < dsub; ++j) sum[code * dsub + j] += x[i * dsub + j];
  }
  EXPECT_EQ(usage, r.usage);
  EXPECT_NEAR(r.train_mse, error / (n * dsub), 1e-7);
  for (int i = 0; i < ksub * dsub; ++i) {
    EXPECT_NEAR(r.centroids[i], sum[i] / usage[i / dsub], 0.01);  // rounding moves a few points
    EXPECT_EQ(r.centroids[i], half_to_float(float_to_half(r.centroids[i])));
  }
}

TEST(Kmeans, SameBytesForAnyNumberOfThreads) {
  std::vector<std::vector<float>> data;
  std::vector<KmeansProblem> problems;
  for (int i = 0; i < 7; ++i) data.push_back(normal(i, (400 + 137 * i) * 4));
  for (int i = 0; i < 3; ++i)
    data.push_back(normal(i, 50000 * 4));  // large: all threads on one of them
  for (int i = 0; i < 10; ++i) problems.push_back(problem(data[i], 4, i < 7 ? 32 : 512, i));
  SilentProgress silent;
  const auto want = train_many(problems, {4, 256, 1}, silent);
  for (const int threads : {2, 3, 16}) {
    const auto got = train_many(problems, {4, 256, threads}, silent);
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(got[i].centroids, want[i].centroids);
      EXPECT_EQ(got[i].usage, want[i].usage);
      EXPECT_EQ(got[i].train_mse, want[i].train_mse);
    }
  }
  for (const int i : {3, 9})
    EXPECT_EQ(kmeans(problems[i], {4, 256, 0}).centroids, want[i].centroids);
  KmeansProblem other = problems[3];
  other.seed = 99;
  EXPECT_NE(kmeans(other, {4, 256, 0}).centroids, want[3].centroids);
}

TEST(Kmeans, SamplesAsFaissDoes) {
  const std::vector<float> x = normal(4, 5000 * 2);
  const KmeansResult r = kmeans(problem(x, 2, 4), {5, 100, 0});
  EXPECT_EQ(r.n_train, 400);
  EXPECT_EQ(total(r.usage), 400);
  EXPECT_EQ(r.centroids, kmeans(problem(x, 2, 4), {5, 100, 0}).centroids);
}

TEST(Kmeans, Weights) {
  const std::vector<float> x = {0, 1, 2, 10};
  const std::vector<float> w = {1, 0, 3, 0};
  KmeansProblem p = problem(x, 1, 1);
  p.weights = w;
  const KmeansResult r = kmeans(p, {});
  EXPECT_EQ(r.centroids[0], 1.5f);
  EXPECT_NEAR(r.train_mse, (1.5 * 1.5 + 3 * 0.25) / 4, 1e-6);
  // One point holds nearly all the weight: FAISS's cluster splitting must still end.
  const std::vector<float> many = normal(5, 3000);
  std::vector<float> heavy(3000, 1e-30f);
  heavy[17] = 1e30f;
  KmeansProblem q = problem(many, 1, 64);
  q.weights = heavy;
  EXPECT_EQ(kmeans(q, {}).centroids.size(), 64u);
  const std::vector<float> zero(4, 0.0f), negative = {1, 1, -1, 1}, few = {1};
  for (const auto& bad : {zero, negative, few}) {
    p.weights = bad;
    EXPECT_THROW(kmeans(p, {}), Error);
  }
}

TEST(Kmeans, FewerPointsThanCentroids) {
  const std::vector<float> x = {1, 2, 3, 4, 5, 6};
  const KmeansResult r = kmeans(problem(x, 2, 8), {});
  EXPECT_THAT(std::vector<float>(r.centroids.begin(), r.centroids.begin() + 8),
              testing::ElementsAre(1, 2, 3, 4, 5, 6, 1, 2));
  EXPECT_EQ(r.dead, 5);
  EXPECT_EQ(r.train_mse, 0);
  EXPECT_EQ(r.n_train, 3);
  const KmeansResult one = kmeans(problem({7.0f}, 1, 1), {});
  EXPECT_EQ(one.centroids, (std::vector<float>{7}));
}

TEST(Kmeans, EqualPoints) {
  std::vector<float> x;
  for (int i = 0; i < 5000; ++i) x.push_back(i % 3 == 0 ? 0.0f : i % 3 == 1 ? -0.0f : 2.5f);
  const KmeansResult r = kmeans(problem(x, 1, 16), {});
  EXPECT_EQ(r.train_mse, 0);
  EXPECT_EQ(r.dead, 14);
  std::fill(x.begin(), x.end(), 0.25f);  // no variance
  EXPECT_EQ(kmeans(problem(x, 4, 256), {}).dead, 255);
  // More different points than centroids, nearly all in one place: FAISS must split.
  x.assign(5000, 1.0f);
  for (int i = 0; i < 20; ++i) x[i * 7] = 1.0f + 0.001f * i;
  const KmeansResult s = kmeans(problem(x, 1, 16), {});
  EXPECT_EQ(total(s.usage), 16 * 256);
  EXPECT_LT(s.train_mse, 1e-6);
}

TEST(Kmeans, LargeValuesSaturateAtHalf) {
  const KmeansResult r = kmeans(problem({1e6f, -1e6f}, 1, 2), {});
  EXPECT_EQ(r.centroids, (std::vector<float>{65504, -65504}));
}

TEST(Kmeans, BadInput) {
  std::vector<float> x = normal(1, 400);
  SilentProgress silent;
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(), -1e30f}) {
    std::vector<float> y = x;
    y[123] = bad;
    EXPECT_THROW(kmeans(problem(y, 4, 16), {}), Error);
    std::vector<KmeansProblem> problems(5, problem(x, 4, 16));
    problems[3] = problem(y, 4, 16);
    EXPECT_THROW(train_many(problems, {}, silent),
                 Error);  // out of the parallel region in one piece
  }
  EXPECT_THROW(kmeans(problem({}, 4, 16), {}), Error);
  EXPECT_THROW(kmeans(problem(x, 3, 16), {}), Error);
  EXPECT_THROW(kmeans(problem(x, 4, 0), {}), Error);
  EXPECT_THROW(kmeans(problem(x, 4, 4), {0, 256, 0}), Error);
  EXPECT_TRUE(train_many({}, {}, silent).empty());
}

TEST(Kmeans, PrintsNothing) {
  const std::vector<float> few = normal(6, 300), many = normal(7, 3000);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  kmeans(problem(few, 1, 256), {});
  kmeans(problem(many, 1, 2), {30, 10, 0});
  kmeans(problem(few, 1, 300), {});
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

struct Counter final : Progress {
  std::int64_t count = 0;
  void begin(std::string_view, std::int64_t) override {}
  void advance(std::int64_t units) override { count += units; }
  void end() override {}
  void note(std::string_view) override {}
};

TEST(Kmeans, CountsProgress) {
  const std::vector<float> x = normal(8, 600);
  const std::vector<KmeansProblem> problems(23, problem(x, 2, 4));
  Counter counter;
  train_many(problems, {}, counter);
  EXPECT_EQ(counter.count, 23);
}

TEST(KmeansDeathTest, InterruptEndsTraining) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        install_interrupt_handlers();
        std::raise(SIGINT);
        const std::vector<float> x = normal(8, 600);
        const std::vector<KmeansProblem> problems(23, problem(x, 2, 4));
        SilentProgress silent;
        try {
          train_many(problems, {}, silent);
        } catch (const Interrupted&) {
          std::_Exit(130);
        }
        std::_Exit(1);
      },
      testing::ExitedWithCode(130), "");
}

}  // namespace
}  // namespace vi::quant
