// The metric basis against its definition: errors of y are errors of x measured by M, scores are kept, and the
// rules for singular moments.
#include "core/transform/metric.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/common/error.h"
#include "core/common/rng.h"
#include "core/transform/calibrate.h"

namespace vi::transform {
namespace {

constexpr int kDim = 16;

struct Data {
  std::vector<float> rows;
  std::vector<double> moment;
};

// Rows with a strong direction, and the second moment of queries with another.
Data data(int n, std::uint64_t seed) {
  Rng rng(seed);
  Data out;
  std::vector<double> w(kDim);
  for (double& x : w) x = rng.normal();
  for (int r = 0; r < n; ++r) {
    const double along = 5 * rng.normal();
    for (int i = 0; i < kDim; ++i) out.rows.push_back(static_cast<float>(rng.normal() * (1 + i % 3) + along * w[i]));
  }
  out.moment.assign(kDim * kDim, 0.0);
  for (int q = 0; q < 200; ++q) {
    std::vector<double> x(kDim);
    for (int i = 0; i < kDim; ++i) x[i] = rng.normal() * (i == 3 ? 10 : 1) + 0.5;
    for (int i = 0; i < kDim; ++i)
      for (int j = 0; j < kDim; ++j) out.moment[i * kDim + j] += x[i] * x[j] / 200;
  }
  return out;
}

double by_metric(const std::vector<double>& m, const float* e) {
  double sum = 0;
  for (int i = 0; i < kDim; ++i)
    for (int j = 0; j < kDim; ++j) sum += static_cast<double>(e[i]) * m[i * kDim + j] * e[j];
  return sum;
}

TEST(Metric, ErrorsAreMeasuredByTheMoment) {
  const Data d = data(500, 1);
  for (const Rotation rotation : {Rotation::principal, Rotation::hadamard, Rotation::none}) {
    TransformSpec spec;
    spec.kind = TransformKind::metric;
    spec.rotation = rotation;
    const MetricBasis basis = metric_basis(spec, d.moment, d.rows.data(), 500, kDim, "here");
    EXPECT_EQ(basis.floored, 0);
    const HeadTransform t{kDim, {basis.step}};
    Rng rng(2);
    double factor = 0;
    for (int trial = 0; trial < 5; ++trial) {
      std::vector<float> e(kDim);
      for (float& x : e) x = static_cast<float>(rng.normal());
      std::vector<float> y = e;
      t.forward(y.data(), 1);
      double norm = 0;
      for (const float v : y) norm += static_cast<double>(v) * v;
      const double ratio = norm / by_metric(d.moment, e.data());
      if (trial == 0) factor = ratio;
      EXPECT_NEAR(ratio / factor, 1.0, 1e-4);
      // Back again, and scores kept.
      std::vector<float> back = y, q(kDim), query;
      t.inverse(back.data(), 1);
      for (float& x : q) x = static_cast<float>(rng.normal());
      query = q;
      t.query(query.data(), 1);
      double score = 0, mapped = 0;
      for (int i = 0; i < kDim; ++i) {
        EXPECT_NEAR(back[i], e[i], 1e-4);
        score += static_cast<double>(q[i]) * e[i];
        mapped += static_cast<double>(query[i]) * y[i];
      }
      EXPECT_NEAR(score, mapped, 1e-4);
    }
  }
}

TEST(Metric, AxesAreDealtEvenlyAndScaledToOne) {
  const Data d = data(2000, 3);
  TransformSpec spec;
  spec.kind = TransformKind::metric;
  const HeadTransform t{kDim, {metric_basis(spec, d.moment, d.rows.data(), 2000, kDim, "here").step}};
  std::vector<float> y = d.rows;
  t.forward(y.data(), 2000);
  std::vector<double> mean(kDim, 0.0), variance(kDim, 0.0);
  for (int r = 0; r < 2000; ++r)
    for (int i = 0; i < kDim; ++i) mean[i] += y[r * kDim + i] / 2000.0;
  for (int r = 0; r < 2000; ++r)
    for (int i = 0; i < kDim; ++i) variance[i] += std::pow(y[r * kDim + i] - mean[i], 2) / 2000.0;
  const auto spread = [](const std::vector<double>& v) {  // of the sub-spaces' log products
    double least = 1e300, most = -1e300;
    for (int b = 0; b < 4; ++b) {
      double log_product = 0;
      for (int i = 4 * b; i < 4 * b + 4; ++i) log_product += std::log(v[i]);
      least = std::min(least, log_product);
      most = std::max(most, log_product);
    }
    return most - least;
  };
  double sum = 0;
  for (const double v : variance) sum += v;
  EXPECT_NEAR(sum / kDim, 1.0, 1e-3);
  std::vector<double> sorted = variance;  // what axes in order of strength would make
  std::sort(sorted.rbegin(), sorted.rend());
  EXPECT_LT(spread(variance), 0.7 * spread(sorted));
}

// A direction no query meets is floored, counted, and comes back.
TEST(Metric, SingularMomentsAreFloored) {
  Data d = data(300, 4);
  for (int i = 0; i < kDim; ++i) d.moment[5 * kDim + i] = d.moment[i * kDim + 5] = 0;
  TransformSpec spec;
  spec.kind = TransformKind::metric;
  const MetricBasis basis = metric_basis(spec, d.moment, d.rows.data(), 300, kDim, "here");
  EXPECT_EQ(basis.floored, 1);
  const HeadTransform t{kDim, {basis.step}};
  std::vector<float> y(d.rows.begin(), d.rows.begin() + kDim);
  t.forward(y.data(), 1);
  t.inverse(y.data(), 1);
  for (int i = 0; i < kDim; ++i) EXPECT_NEAR(y[i], d.rows[i], 1e-3);
}

TEST(Metric, RefusesWhatHasNoMeaning) {
  const Data d = data(10, 5);
  TransformSpec spec;
  spec.kind = TransformKind::metric;
  EXPECT_THAT([&] { metric_basis(spec, std::vector<double>(kDim * kDim, 0.0), d.rows.data(), 10, kDim, "layer 1"); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("layer 1: the second moment is zero")));
  spec.subspace = 5;
  EXPECT_THROW(metric_basis(spec, d.moment, d.rows.data(), 10, kDim, "here"), Error);
}

// Behind other steps M is that of the space they lead to.
TEST(Metric, FollowsEarlierSteps) {
  const Data d = data(400, 6);
  TransformSpec smooth, metric;
  smooth.kind = TransformKind::smooth;
  metric.kind = TransformKind::metric;
  const HeadTransform t = calibrate({smooth, metric}, d.rows.data(), 400, kDim, "here", [&](Moment) { return d.moment; });
  ASSERT_EQ(t.steps.size(), 2u);
  Rng rng(7);
  double factor = 0;
  for (int trial = 0; trial < 4; ++trial) {
    std::vector<float> e(kDim), y;
    for (float& x : e) x = static_cast<float>(rng.normal());
    y = e;
    t.forward(y.data(), 1);
    double norm = 0;
    for (const float v : y) norm += static_cast<double>(v) * v;
    const double ratio = norm / by_metric(d.moment, e.data());
    if (trial == 0) factor = ratio;
    EXPECT_NEAR(ratio / factor, 1.0, 1e-4);
  }
}

}  // namespace
}  // namespace vi::transform
