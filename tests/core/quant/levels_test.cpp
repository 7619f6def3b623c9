// The best levels against every way of cutting a few points, and against Lloyd's iteration on many.
#include "core/quant/levels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/common/rng.h"

namespace vi::quant {
namespace {

double error_of(const std::vector<float>& points, const std::vector<float>& weights, const std::vector<float>& levels) {
  double sum = 0;
  for (std::size_t i = 0; i < points.size(); ++i) {
    double least = 1e300;
    for (const float level : levels) least = std::min(least, std::pow(static_cast<double>(points[i]) - level, 2));
    sum += (weights.empty() ? 1.0 : weights[i]) * least;
  }
  return sum;
}

// Tries every partition of the sorted points into at most k runs.
double brute_force(std::vector<std::pair<float, float>> points, int k) {
  std::sort(points.begin(), points.end());
  const std::function<double(std::size_t, int)> best = [&](std::size_t from, int runs) {
    if (from == points.size()) return 0.0;
    if (runs == 0) return 1e300;
    double least = 1e300;
    for (std::size_t to = from + 1; to <= points.size(); ++to) {
      double w = 0, x = 0, xx = 0;
      for (std::size_t i = from; i < to; ++i) {
        w += points[i].second;
        x += double(points[i].second) * points[i].first;
        xx += double(points[i].second) * points[i].first * points[i].first;
      }
      least = std::min(least, std::max(0.0, xx - (w > 0 ? x * x / w : 0)) + best(to, runs - 1));
    }
    return least;
  };
  return best(0, k);
}

TEST(Levels, AreTheBest) {
  Rng rng(3);
  for (int round = 0; round < 40; ++round) {
    const std::size_t n = 1 + rng.below(11);
    const int k = 1 + static_cast<int>(rng.below(5));
    std::vector<float> points, weights;
    std::vector<std::pair<float, float>> both;
    for (std::size_t i = 0; i < n; ++i) {
      points.push_back(round % 3 == 0 ? static_cast<float>(rng.below(4)) : static_cast<float>(rng.normal()) + 100);
      weights.push_back(round % 2 == 0 ? 1.0f : static_cast<float>(std::exp(2 * rng.normal())));
      both.emplace_back(points.back(), weights.back());
    }
    const std::vector<float> levels = optimal_levels(points, round % 2 == 0 ? std::vector<float>{} : weights, k);
    ASSERT_EQ(levels.size(), static_cast<std::size_t>(k));
    EXPECT_TRUE(std::is_sorted(levels.begin(), levels.end()));
    const double best = brute_force(both, k);
    EXPECT_NEAR(error_of(points, weights, levels), best, 1e-5 * (1 + best)) << round;
  }
}

TEST(Levels, ManyPointsWithHeavyWeights) {
  Rng rng(4);
  std::vector<float> points(40000), weights(points.size());
  for (std::size_t i = 0; i < points.size(); ++i) points[i] = static_cast<float>(rng.normal()), weights[i] = static_cast<float>(std::exp(3 * rng.normal()));
  for (const int k : {4, 16}) {
    const std::vector<float> levels = optimal_levels(points, weights, k);
    // Lloyd's iteration from even quantiles ends no lower.
    std::vector<float> sorted = points, lloyd;
    std::sort(sorted.begin(), sorted.end());
    for (int i = 0; i < k; ++i) lloyd.push_back(sorted[points.size() * (2 * i + 1) / (2 * k)]);
    for (int step = 0; step < 100; ++step) {
      std::vector<double> mass(k), sum(k);
      for (std::size_t i = 0; i < points.size(); ++i) {
        const auto at = std::min_element(lloyd.begin(), lloyd.end(), [&](float a, float b) { return std::fabs(a - points[i]) < std::fabs(b - points[i]); }) - lloyd.begin();
        mass[at] += weights[i];
        sum[at] += double(weights[i]) * points[i];
      }
      for (int c = 0; c < k; ++c)
        if (mass[c] > 0) lloyd[c] = static_cast<float>(sum[c] / mass[c]);
    }
    EXPECT_LE(error_of(points, weights, levels), error_of(points, weights, lloyd) * (1 + 1e-6)) << k;
  }
  // Of N(0, 1) they are Max's levels.
  const std::vector<float> four = optimal_levels(points, {}, 4);
  for (const auto& [i, level] : {std::pair{0, -1.510f}, {1, -0.4528f}, {2, 0.4528f}, {3, 1.510f}}) EXPECT_NEAR(four[i], level, 0.03);
}

}  // namespace
}  // namespace vi::quant
