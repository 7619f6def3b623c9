#include "core/transform/outliers.h"

#include <algorithm>
#include <cmath>

#include "core/common/error.h"

namespace vi::transform {
namespace {

// Fourth over squared second central moment; 0 without variance (beyond the rounding of the mean).
double kurtosis(double mean, double m2, double m4) {
  return m2 > 1e-24 * mean * mean ? m4 / (m2 * m2) : 0.0;
}

double median(std::vector<float> values) {
  const std::size_t middle = values.size() / 2;
  std::sort(values.begin(), values.end());
  return values.size() % 2 ? values[middle] : 0.5 * (double(values[middle - 1]) + values[middle]);
}

}  // namespace

ChannelStats channel_stats(const float* rows, std::size_t n_rows, int d) {
  VI_CHECK(n_rows > 0 && d > 0, "no rows to measure");
  const double n = static_cast<double>(n_rows);
  std::vector<double> sum(d, 0.0), m2(d, 0.0), m4(d, 0.0);
  ChannelStats stats;
  stats.absmax.assign(d, 0.0f);
  double total = 0, energy = 0;
  for (std::size_t r = 0; r < n_rows; ++r)
    for (int i = 0; i < d; ++i) {
      const float x = rows[r * d + i];
      if (!std::isfinite(x)) fail("token {} channel {} is not finite ({})", r, i, x);
      sum[i] += x;
      energy += double(x) * x;
      stats.absmax[i] = std::max(stats.absmax[i], std::fabs(x));
    }
  for (const double value : sum) total += value;
  const double head_mean = total / (n * d);
  double head2 = 0, head4 = 0;
  for (std::size_t r = 0; r < n_rows; ++r)
    for (int i = 0; i < d; ++i) {
      const double x = rows[r * d + i];
      const double c = (x - sum[i] / n) * (x - sum[i] / n), h = (x - head_mean) * (x - head_mean);
      m2[i] += c;
      m4[i] += c * c;
      head2 += h;
      head4 += h * h;
    }
  for (int i = 0; i < d; ++i) {
    stats.mean.push_back(static_cast<float>(sum[i] / n));
    stats.stddev.push_back(static_cast<float>(std::sqrt(m2[i] / n)));
    stats.kurtosis.push_back(static_cast<float>(kurtosis(sum[i] / n, m2[i] / n, m4[i] / n)));
  }
  stats.head_kurtosis = kurtosis(head_mean, head2 / (n * d), head4 / (n * d));
  const double largest = *std::max_element(stats.absmax.begin(), stats.absmax.end());
  const double middle = median(stats.absmax), rms = std::sqrt(energy / (n * d));
  stats.max_over_median = middle > 0 ? largest / middle : 0.0;
  stats.max_over_rms = rms > 0 ? largest / rms : 0.0;
  return stats;
}

OutlierStats outlier_stats(const HeadTransform& transform, const float* rows, std::size_t n_rows,
                           int d) {
  OutlierStats stats{channel_stats(rows, n_rows, d), {}};
  std::vector<float> work(rows, rows + n_rows * d);
  transform.forward(work.data(), n_rows);
  stats.after = channel_stats(work.data(), n_rows, d);
  return stats;
}

}  // namespace vi::transform
