#include "core/transform/metric.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/common/error.h"

namespace vi::transform {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix hadamard_matrix(int d) {
  std::vector<float> rows(static_cast<std::size_t>(d) * d, 0.0f);
  for (int i = 0; i < d; ++i) rows[static_cast<std::size_t>(i) * d + i] = 1.0f;
  hadamard(rows.data(), static_cast<std::size_t>(d), d);
  Matrix out(d, d);
  for (int i = 0; i < d; ++i)
    for (int j = 0; j < d; ++j) out(i, j) = rows[static_cast<std::size_t>(i) * d + j];
  return out;
}

// Axes (columns), strongest first, to buckets of `size`: always to the bucket with the least product so
// far that has room. Returns the columns' new order.
std::vector<int> deal(const Eigen::VectorXd& variance, int size) {
  const int d = static_cast<int>(variance.size()), buckets = d / size;
  std::vector<int> order(d);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return variance[a] > variance[b]; });
  std::vector<std::vector<int>> in(buckets);
  std::vector<double> log_product(buckets, -1.0);  // of variances over the least one: from 0; -1: empty
  const double least = std::max(variance[order.back()], 1e-30);
  for (const int axis : order) {
    int best = -1;
    for (int b = 0; b < buckets; ++b)
      if (static_cast<int>(in[b].size()) < size && (best < 0 || log_product[b] < log_product[best])) best = b;
    in[best].push_back(axis);
    log_product[best] = std::max(log_product[best], 0.0) + std::log(std::max(variance[axis], least) / least);
  }
  std::vector<int> result;
  for (const auto& bucket : in) result.insert(result.end(), bucket.begin(), bucket.end());
  return result;
}

std::vector<float> to_float(const Matrix& m) {
  std::vector<float> out(static_cast<std::size_t>(m.size()));
  for (Eigen::Index i = 0; i < m.size(); ++i) out[static_cast<std::size_t>(i)] = static_cast<float>(m.data()[i]);
  return out;
}

}  // namespace

std::vector<double> pair_diagonal(std::span<const double> moment, int d) {
  VI_CHECK(d % 2 == 0 && moment.size() == static_cast<std::size_t>(d) * d, "a moment of {} values for pairs of head_dim {}",
           moment.size(), d);
  const std::size_t n = d, half = n / 2;
  std::vector<double> out(n * n, 0.0);
  for (std::size_t i = 0; i < half; ++i)
    out[i * n + i] = out[(i + half) * n + i + half] = 0.5 * (moment[i * n + i] + moment[(i + half) * n + i + half]);
  return out;
}

std::vector<double> moment_behind(const HeadTransform& transform, std::span<const double> moment) {
  const int d = transform.head_dim;
  // query() multiplies rows by B^-T: rows of the identity give B^-T.
  std::vector<float> rows(static_cast<std::size_t>(d) * d, 0.0f);
  for (int i = 0; i < d; ++i) rows[static_cast<std::size_t>(i) * d + i] = 1.0f;
  transform.query(rows.data(), static_cast<std::size_t>(d));
  Matrix t(d, d);
  for (Eigen::Index i = 0; i < t.size(); ++i) t.data()[i] = rows[static_cast<std::size_t>(i)];
  const Eigen::Map<const Matrix> m(moment.data(), d, d);
  const Matrix out = t.transpose() * m * t;
  return {out.data(), out.data() + out.size()};
}

MetricBasis metric_basis(const TransformSpec& spec, std::span<const double> moment, const float* rows,
                         std::size_t n_rows, int d, std::string_view place) {
  VI_CHECK(moment.size() == static_cast<std::size_t>(d) * d, "a moment of {} values for head_dim {}", moment.size(), d);
  if (d % spec.subspace != 0) fail("{}: subspace {} does not divide head_dim {}", place, spec.subspace, d);
  const Eigen::Map<const Matrix> given(moment.data(), d, d);
  if (!given.allFinite() || !(given.trace() > 0)) fail("{}: the second moment is zero or not finite", place);
  const Eigen::SelfAdjointEigenSolver<Matrix> eigen(0.5 * (given + given.transpose()));
  MetricBasis result;
  Eigen::VectorXd value = eigen.eigenvalues() / (eigen.eigenvalues().sum() / d);
  for (Eigen::Index i = 0; i < d; ++i)
    if (value[i] < kMetricFloor) {
      value[i] = kMetricFloor;
      ++result.floored;
    }
  const Matrix& u = eigen.eigenvectors();
  Matrix root = u * value.cwiseSqrt().asDiagonal() * u.transpose();
  Matrix inverse_root = u * value.cwiseSqrt().cwiseInverse().asDiagonal() * u.transpose();
  if (spec.rotation == Rotation::eigen) root = u.rowwise().reverse(), inverse_root = root.transpose();

  // Covariance of the rows in the metric.
  Matrix second = Matrix::Zero(d, d);
  Eigen::VectorXd mean = Eigen::VectorXd::Zero(d);
  constexpr std::size_t kChunk = 1024, kEnough = 8192;  // rows; of more, an even sample
  const std::size_t used = std::min(n_rows, kEnough);
  Matrix x(std::min(used, kChunk), d);
  for (std::size_t at = 0; at < used; at += kChunk) {
    const std::size_t n = std::min(kChunk, used - at);
    for (std::size_t r = 0; r < n; ++r)
      for (int j = 0; j < d; ++j)
        x(static_cast<Eigen::Index>(r), j) = rows[(at + r) * n_rows / used * static_cast<std::size_t>(d) + static_cast<std::size_t>(j)];
    const auto part = x.topRows(static_cast<Eigen::Index>(n));
    second.noalias() += part.transpose() * part;
    mean += part.colwise().sum().transpose();
  }
  mean /= static_cast<double>(used);
  const Matrix left = spec.rotation == Rotation::eigen ? inverse_root : root;  // transposed
  const Matrix covariance =
      left * (second / static_cast<double>(used) - mean * mean.transpose()) * root;
  Matrix turn = Matrix::Identity(d, d);
  if (spec.rotation == Rotation::hadamard) {
    turn = hadamard_matrix(d);
  } else if (spec.rotation == Rotation::principal) {
    const Eigen::SelfAdjointEigenSolver<Matrix> axes(0.5 * (covariance + covariance.transpose()));
    const std::vector<int> order = deal(axes.eigenvalues(), spec.subspace);
    for (int i = 0; i < d; ++i) turn.col(i) = axes.eigenvectors().col(order[static_cast<std::size_t>(i)]);
  }
  const double variance = covariance.trace() / d;
  const double scale = variance > 1e-30 ? 1.0 / std::sqrt(variance) : 1.0;  // rows that are all equal: no scale
  result.step.kind = Step::Kind::dense;
  result.step.matrix = to_float(scale * root * turn);
  result.step.inverse = to_float(turn.transpose() * inverse_root / scale);
  return result;
}

}  // namespace vi::transform
