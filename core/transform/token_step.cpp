#include "core/transform/token_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/common/error.h"
#include "core/common/half.h"

namespace vi::transform {
namespace {

std::uint16_t half(double value) {
  return float_to_half(static_cast<float>(std::clamp(value, -65504.0, 65504.0)));
}

// Extremes without the `trim` values farthest from the mean; of equals the later channels stay.
std::pair<float, float> trimmed_range(const float* x, int d, int trim) {
  std::vector<float> kept(x, x + d);
  if (trim > 0) {
    const double mean = std::accumulate(x, x + d, 0.0) / d;
    std::vector<int> order(d);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return std::fabs(x[a] - mean) > std::fabs(x[b] - mean);
    });
    kept.clear();
    for (int i = trim; i < d; ++i) kept.push_back(x[order[i]]);
  }
  const auto [low, high] = std::minmax_element(kept.begin(), kept.end());
  return {*low, *high};
}

}  // namespace

int outlier_count(double fraction, int d) {
  if (fraction <= 0) return 0;
  return std::clamp(static_cast<int>(std::lround(fraction * d)), 1, d - 1);
}

void token_forward(const Step& step, float* row, int d, std::uint16_t* numbers) {
  if (step.kind == Step::Kind::token_norm) {
    double sum = 0;
    for (int i = 0; i < d; ++i) sum += static_cast<double>(row[i]) * row[i];
    numbers[0] = half(std::sqrt(sum));
    const float norm = half_to_float(numbers[0]);
    const float factor = norm > 0 ? std::sqrt(static_cast<float>(d)) / norm : 0.0f;
    for (int i = 0; i < d; ++i) row[i] *= factor;
    return;
  }
  VI_CHECK(step.kind == Step::Kind::token_range && step.vector.size() == 1, "not a per-token step");
  const auto [low, high] = trimmed_range(row, d, static_cast<int>(step.vector[0]));
  numbers[0] = half((static_cast<double>(high) + low) / 2);
  numbers[1] = half((static_cast<double>(high) - low) / 2);
  const float zero = half_to_float(numbers[0]), range = half_to_float(numbers[1]);
  for (int i = 0; i < d; ++i) row[i] = range > 0 ? (row[i] - zero) / range : 0.0f;
}

void token_inverse(const Step& step, float* row, int d, const std::uint16_t* numbers) {
  if (step.kind == Step::Kind::token_norm) {
    const float factor = half_to_float(numbers[0]) / std::sqrt(static_cast<float>(d));
    for (int i = 0; i < d; ++i) row[i] *= factor;
    return;
  }
  const float zero = half_to_float(numbers[0]), range = half_to_float(numbers[1]);
  for (int i = 0; i < d; ++i) row[i] = row[i] * range + zero;
}

}  // namespace vi::transform
