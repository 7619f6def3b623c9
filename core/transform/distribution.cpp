#include "core/transform/distribution.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "core/common/error.h"

namespace vi::transform {
namespace {

double gain_db(std::vector<double> variances) {
  const double floor = 1e-9 * *std::max_element(variances.begin(), variances.end());
  double sum = 0, logs = 0;
  for (double& v : variances) {
    v = std::max(v, floor);
    sum += v;
    logs += std::log(v);
  }
  const double n = static_cast<double>(variances.size());
  return 10 * std::log10(sum / n) - 10 * logs / n / std::log(10.0);
}

}  // namespace

Distribution distribution(const float* rows, std::size_t n_rows, int head_dim) {
  if (n_rows < 2 || head_dim < 1) fail("distribution: expected at least two rows");
  const auto d = static_cast<std::size_t>(head_dim);
  const Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> x(
      rows, static_cast<Eigen::Index>(n_rows), head_dim);
  const double n = static_cast<double>(n_rows);
  Eigen::RowVectorXd mean = Eigen::RowVectorXd::Zero(head_dim);
  for (Eigen::Index i = 0; i < x.rows(); ++i) mean += x.row(i).cast<double>();
  mean /= n;
  Eigen::MatrixXd covariance = Eigen::MatrixXd::Zero(head_dim, head_dim);
  Eigen::ArrayXd fourth = Eigen::ArrayXd::Zero(head_dim);
  std::vector<double> largest(d, 0.0);
  for (Eigen::Index i = 0; i < x.rows(); ++i) {
    const Eigen::VectorXd centred = (x.row(i).cast<double>() - mean).transpose();
    covariance.selfadjointView<Eigen::Lower>().rankUpdate(centred);
    fourth += centred.array().square().square();
    for (std::size_t c = 0; c < d; ++c)
      largest[c] = std::max(largest[c], std::abs(static_cast<double>(x(i, static_cast<Eigen::Index>(c)))));
  }
  covariance = Eigen::MatrixXd(covariance.selfadjointView<Eigen::Lower>()) / n;

  Distribution out;
  std::vector<double> sorted = largest;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(d / 2), sorted.end());
  const double median = sorted[d / 2];
  if (median > 0) out.max_to_median = *std::max_element(largest.begin(), largest.end()) / median;
  const Eigen::ArrayXd variance = covariance.diagonal().array();
  std::vector<double> energy(d);
  double total = 0;
  for (std::size_t c = 0; c < d; ++c) {
    const auto at = static_cast<Eigen::Index>(c);
    energy[c] = variance[at] + mean[at] * mean[at];
    total += energy[c];
  }
  if (total > 0) {
    std::sort(energy.begin(), energy.end(), std::greater<>());
    for (std::size_t c = 0; c < std::max<std::size_t>(1, d / 16); ++c) out.top_energy += energy[c] / total;
    out.mean_share = mean.squaredNorm() / total;
  }
  if (!(variance.maxCoeff() > 0)) return out;
  double kurtosis = 0;
  int live = 0;
  for (Eigen::Index c = 0; c < variance.size(); ++c)
    if (variance[c] > 0) {
      kurtosis += fourth[c] / n / (variance[c] * variance[c]);
      ++live;
    }
  out.kurtosis = kurtosis / live;
  const Eigen::VectorXd values = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(covariance, Eigen::EigenvaluesOnly).eigenvalues();
  out.rank = values.sum() * values.sum() / values.squaredNorm();
  out.channel_gain = gain_db({variance.data(), variance.data() + variance.size()});
  out.principal_gain = gain_db({values.data(), values.data() + values.size()});
  return out;
}

}  // namespace vi::transform
