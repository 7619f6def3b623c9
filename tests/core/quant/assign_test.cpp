// assign(): every SIMD level equals the scalar twin bit by bit, and an f64 oracle but for near-ties.
#include "core/quant/assign.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/common/error.h"
#include "core/common/rng.h"

namespace vi::quant {
namespace {

std::vector<float> random_values(std::uint64_t seed, std::size_t n, bool grid = false) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (float& v : x) {
    v = static_cast<float>(rng.normal());
    if (grid) v = std::round(2 * v);  // many exact ties
  }
  return x;
}

struct Answer {
  std::vector<std::uint16_t> codes;
  std::vector<float> distances;
};
Answer ask(const CentroidTable& table, const std::vector<float>& points, std::size_t n,
           std::size_t stride, Simd level) {
  Answer a{std::vector<std::uint16_t>(n, 0xabcd), std::vector<float>(n, -1)};
  assign(table, points.data(), n, stride, a.codes.data(), 1, a.distances.data(), level);
  return a;
}

class Levels : public testing::TestWithParam<Simd> {
 protected:
  void SetUp() override {
    if (GetParam() > best_simd()) GTEST_SKIP() << "this CPU has no " << simd_name(GetParam());
  }
};
INSTANTIATE_TEST_SUITE_P(Assign, Levels, testing::Values(Simd::avx2, Simd::avx512),
                         [](const auto& i) { return std::string(simd_name(i.param)); });

TEST_P(Levels, EqualsTheScalarTwinBitByBit) {
  for (const bool grid : {false, true})
    for (const int dsub : {1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 64, 128})
      for (const int ksub : {1, 2, 15, 16, 17, 32, 251, 256, 1024}) {
        if (dsub > 16 && ksub > 256) continue;
        const CentroidTable table(random_values(ksub, std::size_t(ksub) * dsub, grid).data(), ksub,
                                  dsub);
        for (const std::size_t n : {0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 33}) {
          const std::size_t stride = dsub + n % 3;
          const std::vector<float> points = random_values(n + dsub, n * stride + 1, grid);
          const Answer want = ask(table, points, n, stride, Simd::scalar);
          const Answer got = ask(table, points, n, stride, GetParam());
          EXPECT_EQ(got.codes, want.codes) << dsub << " " << ksub << " " << n;
          EXPECT_EQ(got.distances, want.distances);  // no NaN, no -0: equality is of bits
        }
      }
}

TEST_P(Levels, NotFinitePoints) {
  const int dsub = 4, ksub = 40;
  const CentroidTable table(random_values(1, ksub * dsub).data(), ksub, dsub);
  std::vector<float> points = random_values(2, 9 * dsub);
  const Answer clean = ask(table, points, 9, dsub, Simd::scalar);
  points[1 * dsub + 2] = std::numeric_limits<float>::quiet_NaN();
  points[4 * dsub] = std::numeric_limits<float>::infinity();
  points[8 * dsub + 3] = -std::numeric_limits<float>::infinity();
  for (const Simd level : {Simd::scalar, GetParam()}) {
    const Answer a = ask(table, points, 9, dsub, level);
    for (const std::size_t i : {0, 1, 2, 3, 4, 5, 6, 7, 8}) {
      const bool bad = i == 1 || i == 4 || i == 8;
      EXPECT_EQ(a.codes[i], bad ? 0 : clean.codes[i]);
      EXPECT_EQ(std::isinf(a.distances[i]), bad);
    }
  }
}

TEST(Assign, TiesGoToTheLowestIndex) {
  for (int level = 0; level <= static_cast<int>(best_simd()); ++level)
    for (const int first : {0, 3, 8, 17, 40}) {
      std::vector<float> centroids(64 * 2, 5.0f);
      for (const int c : {first, first + 1, 60}) centroids[c * 2] = centroids[c * 2 + 1] = 1.0f;
      const CentroidTable table(centroids.data(), 64, 2);
      EXPECT_EQ(ask(table, {0.5f, 0.5f}, 1, 2, static_cast<Simd>(level)).codes[0], first);
    }
}

TEST(Assign, EqualsAnF64OracleButForNearTies) {
  // A computed distance is within (dsub + 2) u of the exact one, relatively: dsub roundings of the
  // sum, two of the squared difference.
  std::int64_t ties = 0, total = 0;
  for (const int dsub : {1, 2, 4, 8, 13, 64})
    for (const int ksub : {3, 256, 4096}) {
      const std::size_t n = ksub > 1000 ? 300 : 3000;
      const std::vector<float> centroids = random_values(5, std::size_t(ksub) * dsub);
      const std::vector<float> points = random_values(6, n * dsub);
      const Answer a =
          ask(CentroidTable(centroids.data(), ksub, dsub), points, n, dsub, best_simd());
      const double bound = 2.0 * (dsub + 2) * 0x1p-24 * 1.01;
      for (std::size_t i = 0; i < n; ++i) {
        double best = 1e300, chosen = 0;
        int index = 0;
        for (int c = 0; c < ksub; ++c) {
          double d = 0;
          for (int j = 0; j < dsub; ++j) {
            const double t = double(points[i * dsub + j]) - centroids[c * dsub + j];
            d += t * t;
          }
          if (d < best) best = d, index = c;
          if (c == a.codes[i]) chosen = d;
        }
        ++total;
        EXPECT_NEAR(a.distances[i], chosen, chosen * bound);
        if (index == a.codes[i]) continue;
        ++ties;
        EXPECT_LE(chosen, best * (1 + bound)) << dsub << " " << ksub;
      }
    }
  std::printf("near-ties decided otherwise than in f64: %lld of %lld\n",
              static_cast<long long>(ties), static_cast<long long>(total));
  EXPECT_LE(ties, total / 1000);
}

TEST(Assign, LargestCodebook) {
  std::vector<float> centroids(65536);
  for (int c = 0; c < 65536; ++c) centroids[c] = static_cast<float>(c);
  const CentroidTable table(centroids.data(), 65536, 1);
  const Answer a = ask(table, {65534.6f, 0.4f, 40000.2f}, 3, 1, best_simd());
  EXPECT_EQ(a.codes, (std::vector<std::uint16_t>{65535, 0, 40000}));
}

TEST(Assign, BadShapes) {
  const float x = 0;
  EXPECT_THROW(CentroidTable(&x, 0, 1), Error);
  EXPECT_THROW(CentroidTable(&x, 65537, 1), Error);
  EXPECT_THROW(CentroidTable(&x, 1, 0), Error);
}

}  // namespace
}  // namespace vi::quant
