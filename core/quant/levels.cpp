#include "core/quant/levels.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>

#include "core/common/error.h"

namespace vi::quant {
namespace {

// Weighted points in order, and the squared error of a run of them around its mean.
class Runs {
 public:
  Runs(std::span<const float> points, std::span<const float> weights) {
    std::vector<std::size_t> order(points.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return points[a] < points[b]; });
    double sum = 0, mass = 0;
    for (const std::size_t i : order) {
      const double w = weights.empty() ? 1.0 : weights[i];
      sum += w * points[i];
      mass += w;
    }
    VI_CHECK(mass > 0, "levels of points without weight");
    centre_ = sum / mass;  // sums about the mean lose less
    mass_ = first_ = second_ = {0.0};
    for (const std::size_t i : order) {
      const double w = weights.empty() ? 1.0 : weights[i], x = points[i] - centre_;
      if (w == 0) continue;
      mass_.push_back(mass_.back() + w);
      first_.push_back(first_.back() + w * x);
      second_.push_back(second_.back() + w * x * x);
    }
  }
  int size() const { return static_cast<int>(mass_.size()) - 1; }
  double error(int from, int to) const {  // points [from, to)
    const auto a = static_cast<std::size_t>(from), b = static_cast<std::size_t>(to);
    const double w = mass_[b] - mass_[a], x = first_[b] - first_[a];
    return std::max(0.0, second_[b] - second_[a] - x * x / w);
  }
  float mean(int from, int to) const {
    const auto a = static_cast<std::size_t>(from), b = static_cast<std::size_t>(to);
    return static_cast<float>(centre_ + (first_[b] - first_[a]) / (mass_[b] - mass_[a]));
  }

 private:
  double centre_ = 0;
  std::vector<double> mass_, first_, second_;
};

}  // namespace

std::vector<float> optimal_levels(std::span<const float> points, std::span<const float> weights, int k) {
  VI_CHECK(k >= 1 && k <= kMostLevels && !points.empty() && (weights.empty() || weights.size() == points.size()), "{} levels of {} points, {} weights", k,
           points.size(), weights.size());
  const Runs runs(points, weights);
  const int n = runs.size(), used = std::min(k, n);
  // best[i]: least error of the first i points in m + 1 runs, the last of which begins at from[m][i], which grows with i.
  std::vector<double> best(static_cast<std::size_t>(n) + 1, 0.0), next(best.size());
  std::vector<std::vector<std::int32_t>> from(static_cast<std::size_t>(used), std::vector<std::int32_t>(best.size(), 0));
  for (int i = 1; i <= n; ++i) best[static_cast<std::size_t>(i)] = runs.error(0, i);
  struct Range {
    int low, high, from, to;
  };
  for (int m = 1; m < used; ++m) {
    std::vector<Range> open{{m + 1, n, m, n - 1}};
    while (!open.empty()) {
      const Range range = open.back();
      open.pop_back();
      if (range.low > range.high) continue;
      const int middle = range.low + (range.high - range.low) / 2;
      double least = std::numeric_limits<double>::infinity();
      int at = range.from;
      for (int j = range.from; j <= std::min(range.to, middle - 1); ++j)
        if (const double error = best[static_cast<std::size_t>(j)] + runs.error(j, middle); error < least) least = error, at = j;
      next[static_cast<std::size_t>(middle)] = least;
      from[static_cast<std::size_t>(m)][static_cast<std::size_t>(middle)] = at;
      open.push_back({range.low, middle - 1, range.from, at});
      open.push_back({middle + 1, range.high, at, range.to});
    }
    std::swap(best, next);
  }
  std::vector<float> levels(static_cast<std::size_t>(k));
  int end = n;
  for (int m = used - 1; m >= 0; --m) {
    const int begin = m == 0 ? 0 : from[static_cast<std::size_t>(m)][static_cast<std::size_t>(end)];
    levels[static_cast<std::size_t>(m)] = runs.mean(begin, end);
    end = begin;
  }
  for (int m = used; m < k; ++m) levels[static_cast<std::size_t>(m)] = levels[static_cast<std::size_t>(used) - 1];
  return levels;
}

}  // namespace vi::quant
