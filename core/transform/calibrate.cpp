#include "core/transform/calibrate.h"

#include <algorithm>
#include <cmath>

#include "core/common/error.h"
#include "core/transform/metric.h"

namespace vi::transform {
namespace {

void check_finite(const float* rows, std::size_t n_rows, int d, std::string_view place) {
  for (std::size_t i = 0; i < n_rows * d; ++i)
    if (!std::isfinite(rows[i]))
      fail("{}: token {} channel {} is not finite ({})", place, i / d, i % d, rows[i]);
}

std::vector<double> channel_mean(const float* rows, std::size_t n_rows, int d) {
  std::vector<double> sum(d, 0.0);
  for (std::size_t r = 0; r < n_rows; ++r)
    for (int i = 0; i < d; ++i) sum[i] += rows[r * d + i];
  for (double& value : sum) value /= static_cast<double>(n_rows);
  return sum;
}

}  // namespace

std::vector<double> channel_statistic(Statistic statistic, const float* rows, std::size_t n_rows,
                                      int d) {
  VI_CHECK(n_rows > 0, "no rows to measure");
  std::vector<double> result(d, 0.0);
  for (std::size_t r = 0; r < n_rows; ++r)
    for (int i = 0; i < d; ++i) {
      const double x = std::fabs(static_cast<double>(rows[r * d + i]));
      if (statistic == Statistic::absmax)
        result[i] = std::max(result[i], x);
      else if (statistic == Statistic::rms)
        result[i] += x * x;
      else
        result[i] += x;
    }
  const double n = static_cast<double>(n_rows);
  for (double& value : result) {
    if (statistic == Statistic::rms) value = std::sqrt(value / n);
    if (statistic == Statistic::absmean) value /= n;
  }
  return result;
}

HeadTransform calibrate(const std::vector<TransformSpec>& specs, const float* rows,
                        std::size_t n_rows, int d, std::string_view place,
                        const MomentSource& moment) {
  HeadTransform result{d, {}};
  const bool measures = std::any_of(specs.begin(), specs.end(), [](const TransformSpec& spec) {
    return spec.kind != TransformKind::hadamard;
  });
  std::vector<float> work;
  if (measures) {
    if (n_rows == 0) fail("{}: no samples to calibrate on", place);
    check_finite(rows, n_rows, d, place);
    work.assign(rows, rows + n_rows * d);
  }
  for (const TransformSpec& spec : specs) {
    Step step;
    switch (spec.kind) {
      case TransformKind::center: {
        step.kind = Step::Kind::center;
        for (const double mean : channel_mean(work.data(), n_rows, d))
          step.vector.push_back(static_cast<float>(mean));
        break;
      }
      case TransformKind::smooth: {
        step.kind = Step::Kind::scale;
        for (const double value : channel_statistic(spec.statistic, work.data(), n_rows, d))
          step.vector.push_back(
              static_cast<float>(std::pow(std::max(value, kStatisticFloor), spec.exponent)));
        break;
      }
      case TransformKind::hadamard:
        if (d <= 0 || (d & (d - 1)) != 0)
          fail("{}: hadamard needs a head_dim that is a power of two, not {}", place, d);
        step.kind = Step::Kind::hadamard;
        break;
      case TransformKind::metric: {
        std::vector<double> m(static_cast<std::size_t>(d) * d, 0.0);
        if (spec.moment == Moment::identity) {
          for (int i = 0; i < d; ++i) m[static_cast<std::size_t>(i) * d + i] = 1.0;
        } else {
          VI_CHECK(moment, "{}: a metric step without a second moment", place);
          m = moment_behind(result, moment(spec.moment));
        }
        step = metric_basis(spec, m, work.data(), n_rows, d, place).step;
        break;
      }
    }
    const HeadTransform one{d, {step}};
    if (measures) one.forward(work.data(), n_rows);
    result.steps.push_back(std::move(step));
  }
  return result;
}

}  // namespace vi::transform
