#include "core/transform/distribution.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace vi::transform {
namespace {

TEST(Distribution, ByHand) {
  // Two channels: (1, 3), (-1, 3): channel 0 has mean 0, variance 1; channel 1 is always 3.
  const std::vector<float> rows{1, 3, -1, 3};
  const Distribution got = distribution(rows.data(), 2, 2);
  EXPECT_DOUBLE_EQ(got.max_to_median, 1.0);      // the upper median of {1, 3} is 3
  EXPECT_DOUBLE_EQ(got.top_energy, 9.0 / 10.0);  // one of two channels
  EXPECT_DOUBLE_EQ(got.mean_share, 9.0 / 10.0);
  EXPECT_DOUBLE_EQ(got.kurtosis, 1.0);
  EXPECT_DOUBLE_EQ(got.rank, 1.0);
  EXPECT_NEAR(got.channel_gain, 10 * std::log10(0.5 / std::sqrt(1e-9)), 1e-6);
}

TEST(Distribution, NormalNoiseIsFlatAndAStretchedChannelIsFound) {
  constexpr int d = 16, n = 20000;
  std::mt19937 generator(3);
  std::normal_distribution<float> noise;
  std::vector<float> rows(n * d);
  for (float& x : rows) x = noise(generator);
  const Distribution flat = distribution(rows.data(), n, d);
  EXPECT_NEAR(flat.kurtosis, 3.0, 0.05);
  EXPECT_NEAR(flat.rank, d, 0.1);
  EXPECT_LT(flat.channel_gain, 0.01);
  EXPECT_LT(flat.principal_gain, 0.01);
  EXPECT_LT(flat.mean_share, 0.001);
  EXPECT_LT(flat.max_to_median, 1.4);
  for (int i = 0; i < n; ++i) rows[static_cast<std::size_t>(i) * d + 5] *= 10;
  const Distribution stretched = distribution(rows.data(), n, d);
  EXPECT_GT(stretched.max_to_median, 8);
  EXPECT_NEAR(stretched.top_energy, 100.0 / 115, 0.01);
  const double expected = 10 * std::log10(115.0 / 16) - 10 * 2.0 / 16;
  EXPECT_NEAR(stretched.channel_gain, expected, 0.02);
  EXPECT_NEAR(stretched.principal_gain, expected, 0.05);
}

TEST(Distribution, CorrelationIsSeenInThePrincipalGainOnly) {
  constexpr int d = 8, n = 4000;
  std::mt19937 generator(4);
  std::normal_distribution<float> noise;
  std::vector<float> rows(n * d);
  for (int i = 0; i < n; ++i) {
    const float common = noise(generator);
    for (int c = 0; c < d; ++c) rows[static_cast<std::size_t>(i) * d + static_cast<std::size_t>(c)] = common + 0.1F * noise(generator);
  }
  const Distribution got = distribution(rows.data(), n, d);
  EXPECT_LT(got.channel_gain, 0.01);
  EXPECT_GT(got.principal_gain, 8);
  EXPECT_LT(got.rank, 1.1);
}

TEST(Distribution, ConstantRowsAreNoNan) {
  const std::vector<float> rows(40, 2.0F);
  const Distribution got = distribution(rows.data(), 10, 4);
  EXPECT_DOUBLE_EQ(got.mean_share, 1.0);
  EXPECT_DOUBLE_EQ(got.rank, 0.0);
  EXPECT_DOUBLE_EQ(got.kurtosis, 0.0);
  EXPECT_DOUBLE_EQ(got.principal_gain, 0.0);
}

}  // namespace
}  // namespace vi::transform
