// Calibration: statistics by hand, order of steps, dead channels, bad samples; outlier statistics.
#include "core/transform/calibrate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/common/error.h"
#include "core/common/rng.h"
#include "core/config/node.h"
#include "core/transform/outliers.h"

namespace vi::transform {
namespace {

TransformSpec spec(TransformKind kind, Statistic statistic = Statistic::absmax,
                   double exponent = 0.5) {
  TransformSpec s;
  s.kind = kind, s.statistic = statistic, s.exponent = exponent;
  return s;
}

const std::vector<float> kRows = {1,  -4, 0, 2,  // [3 tokens, 4 channels]
                                  3,  4,  0, 2,  //
                                  -1, 0,  0, 2};

TEST(Calibrate, SmoothIsTheRootOfTheAbsoluteMaximum) {
  const HeadTransform t = calibrate({spec(TransformKind::smooth)}, kRows.data(), 3, 4);
  ASSERT_EQ(t.steps.size(), 1u);
  EXPECT_EQ(t.steps[0].kind, Step::Kind::scale);
  EXPECT_FLOAT_EQ(t.steps[0].vector[0], std::sqrt(3.0f));
  EXPECT_FLOAT_EQ(t.steps[0].vector[1], 2.0f);
  EXPECT_FLOAT_EQ(t.steps[0].vector[2], 0.01f);  // dead channel: floor 1e-4, root
  EXPECT_FLOAT_EQ(t.steps[0].vector[3], std::sqrt(2.0f));
}

// KVQuant's static thresholds: a quarter of the values on each side left out, linear quantiles.
TEST(Calibrate, HalfRangeOfQuantiles) {
  TransformSpec center = spec(TransformKind::center, Statistic::half_range);
  TransformSpec scale = spec(TransformKind::smooth, Statistic::half_range, 1);
  center.quantile = scale.quantile = 0.5;
  const std::vector<float> rows = {0, 7, 1, 7, 2, 7, 3, 7, 100, 7};  // [5 tokens, 2 channels]
  const HeadTransform t = calibrate({center, scale}, rows.data(), 5, 2);
  EXPECT_THAT(t.steps[0].vector, ::testing::ElementsAre(2, 7));  // quantiles 1 and 3
  EXPECT_EQ(t.steps[1].vector[0], 1);
  EXPECT_FLOAT_EQ(t.steps[1].vector[1], 1e-4f);  // a channel that never moves: the floor, counted
  EXPECT_EQ(t.floored, 1);
}

TEST(Calibrate, DeadChannelsAndSingularMomentsAreCounted) {
  EXPECT_EQ(calibrate({spec(TransformKind::smooth)}, kRows.data(), 3, 4).floored, 1);
  EXPECT_EQ(calibrate({spec(TransformKind::center)}, kRows.data(), 3, 4).floored, 0);
  TransformSpec metric = spec(TransformKind::metric);
  const MomentSource one = [](Moment) {  // queries of one direction only
    std::vector<double> m(16, 0.0);
    m[5] = 1;
    return m;
  };
  EXPECT_EQ(calibrate({metric}, kRows.data(), 3, 4, "here", one).floored, 3);
}

TEST(Calibrate, RotationIsOrthonormalAndPermutationsAreOrders) {
  TransformSpec rotation = spec(TransformKind::rotation);
  const HeadTransform t = calibrate({rotation}, nullptr, 0, 64);
  std::vector<float> x(64), y;
  Rng rng(3);
  for (float& v : x) v = static_cast<float>(rng.normal());
  y = x;
  t.forward(y.data(), 1);
  double before = 0, after = 0;
  for (int i = 0; i < 64; ++i) before += x[i] * x[i], after += y[i] * y[i];
  EXPECT_NEAR(after, before, 1e-4 * before);
  t.inverse(y.data(), 1);
  for (int i = 0; i < 64; ++i) EXPECT_NEAR(y[i], x[i], 1e-5);
  rotation.seed = 2;
  EXPECT_NE(calibrate({rotation}, nullptr, 0, 64).steps[0].matrix, t.steps[0].matrix);

  TransformSpec permute = spec(TransformKind::permute);
  const std::vector<float> some(2 * 8, 1.0f);
  EXPECT_THAT(calibrate({permute}, some.data(), 2, 8).steps[0].vector, ::testing::ElementsAre(0, 4, 2, 6, 1, 5, 3, 7));
  // Variances 1, 16, 4, 9: sorted 1, 3, 2, 0, dealt to two groups: {1, 2} and {3, 0}.
  permute.order = ChannelOrder::volume;
  permute.group = 2;
  const std::vector<float> spread = {1, 4, 2, 3, -1, -4, -2, -3};
  EXPECT_THAT(calibrate({permute}, spread.data(), 2, 4).steps[0].vector, ::testing::ElementsAre(1, 2, 3, 0));
  // Pairs (0, 4), (1, 5), (2, 6), (3, 7); pair 0 moves with pair 2, pair 1 with pair 3.
  permute.order = ChannelOrder::covariance;
  permute.group = 4;
  std::vector<float> rows(500 * 8);
  for (int r = 0; r < 500; ++r)
    for (int i = 0; i < 4; ++i)
      for (const int half : {0, 4}) {
        const double noise = 0.05 * rng.normal();
        rows[r * 8 + i + half] = static_cast<float>(i < 2 ? rng.normal() : rows[r * 8 + i - 2 + half] + noise);
      }
  const auto order = calibrate({permute}, rows.data(), 500, 8).steps[0].vector;
  for (const int group : {0, 4}) {
    const int parity = static_cast<int>(order[group]) % 2;
    for (int i = group; i < group + 4; ++i) EXPECT_EQ(static_cast<int>(order[i]) % 2, parity);
  }
  y = {1, 2, 3, 4, 5, 6, 7, 8};
  const HeadTransform p{8, {calibrate({permute}, rows.data(), 500, 8).steps}};
  std::vector<float> q = {3, 1, 4, 1, 5, 9, 2, 6}, moved = y;
  p.forward(moved.data(), 1);
  EXPECT_NE(moved, y);
  double score = 0, same = 0;
  for (int i = 0; i < 8; ++i) score += q[i] * y[i];
  p.query(q.data(), 1);
  for (int i = 0; i < 8; ++i) same += q[i] * moved[i];
  EXPECT_EQ(score, same);
  p.inverse(moved.data(), 1);
  EXPECT_EQ(moved, y);
}

TEST(Calibrate, MetricOfPairsAndOfEigenvectors) {
  TransformSpec metric = spec(TransformKind::metric);
  metric.moment = Moment::pairs;
  metric.rotation = Rotation::none;
  const MomentSource source = [](Moment wanted) {
    EXPECT_EQ(wanted, Moment::plain);
    return std::vector<double>{4, 1, 0, 0, 1, 9, 0, 0, 0, 0, 12, 0, 0, 0, 0, 41};
  };
  // w = (4 + 12) / 2, (9 + 41) / 2: channels scaled by the roots of 8 and 25, alike in both halves
  const auto a = calibrate({metric}, kRows.data(), 3, 4, "here", source).steps[0].matrix;
  EXPECT_NEAR(a[5] / a[0], 5 / std::sqrt(8.0), 1e-5);
  EXPECT_NEAR(a[10], a[0], 1e-6);
  EXPECT_NEAR(a[1], 0, 1e-6);
  metric.moment = Moment::plain;
  metric.rotation = Rotation::eigen;
  const auto u = calibrate({metric}, kRows.data(), 3, 4, "here", source).steps[0];
  EXPECT_NEAR(std::fabs(u.matrix[3 * 4]), std::fabs(u.matrix[2 * 4 + 1]), 1e-6);  // 41 first, then 12
  EXPECT_NEAR(u.matrix[2 * 4], 0, 1e-6);
  EXPECT_NEAR(u.matrix[3 * 4] * u.inverse[3], 1, 1e-6);
}

TEST(Calibrate, OtherStatisticsAndExponents) {
  const auto rms =
      calibrate({spec(TransformKind::smooth, Statistic::rms, 1.0)}, kRows.data(), 3, 4);
  EXPECT_FLOAT_EQ(rms.steps[0].vector[0], std::sqrt(11.0f / 3.0f));
  EXPECT_FLOAT_EQ(rms.steps[0].vector[2], 1e-4f);
  const auto mean =
      calibrate({spec(TransformKind::smooth, Statistic::absmean, 1.0)}, kRows.data(), 3, 4);
  EXPECT_FLOAT_EQ(mean.steps[0].vector[1], 8.0f / 3.0f);
}

TEST(Calibrate, CenterIsTheMean) {
  const HeadTransform t = calibrate({spec(TransformKind::center)}, kRows.data(), 3, 4);
  EXPECT_FLOAT_EQ(t.steps[0].vector[0], 1.0f);
  EXPECT_FLOAT_EQ(t.steps[0].vector[1], 0.0f);
  EXPECT_FLOAT_EQ(t.steps[0].vector[3], 2.0f);
}

TEST(Calibrate, LaterStepsMeasureWhatEarlierStepsLeft) {
  const auto t = calibrate(
      {spec(TransformKind::center), spec(TransformKind::hadamard), spec(TransformKind::smooth)},
      kRows.data(), 3, 4);
  std::vector<float> rows = kRows;
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 4; ++c) rows[r * 4 + c] -= t.steps[0].vector[c];
  hadamard(rows.data(), 3, 4);
  for (int c = 0; c < 4; ++c) {
    const float m = std::max({std::fabs(rows[c]), std::fabs(rows[4 + c]), std::fabs(rows[8 + c])});
    EXPECT_FLOAT_EQ(t.steps[2].vector[c], std::sqrt(m));
  }
}

TEST(Calibrate, BadSamples) {
  std::vector<float> rows = kRows;
  rows[6] = std::numeric_limits<float>::quiet_NaN();
  try {
    calibrate({spec(TransformKind::smooth)}, rows.data(), 3, 4, "layer 3 head 1 key");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("layer 3 head 1 key: token 1 channel 2"));
  }
  rows[6] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(calibrate({spec(TransformKind::center)}, rows.data(), 3, 4), Error);
  EXPECT_THROW(calibrate({spec(TransformKind::smooth)}, rows.data(), 0, 4), Error);
  EXPECT_THROW(calibrate({spec(TransformKind::hadamard)}, rows.data(), 1, 12), Error);
  EXPECT_NO_THROW(calibrate({spec(TransformKind::hadamard)}, nullptr, 0, 4));  // measures nothing
}

TEST(TransformSpec, ReadsWordsAndMaps) {
  std::vector<TransformSpec> specs;
  config::read(config::parse_yaml_text(
                   "[smooth, {kind: smooth, statistic: rms, exponent: 1}, hadamard]", "t"),
               specs);
  ASSERT_EQ(specs.size(), 3u);
  EXPECT_EQ(specs[0].kind, TransformKind::smooth);
  EXPECT_EQ(specs[0].exponent, 0.5);
  EXPECT_EQ(specs[1].statistic, Statistic::rms);
  EXPECT_EQ(specs[2].kind, TransformKind::hadamard);
  EXPECT_THROW(config::read(config::parse_yaml_text("[smoth]", "t"), specs), ConfigError);
  EXPECT_THROW(config::read(config::parse_yaml_text("[{kind: smooth, exponent: 0}]", "t"), specs),
               ConfigError);
}

TEST(Outliers, KnownChannels) {
  Rng rng(3);
  const int d = 16;
  const std::size_t n = 40000;
  std::vector<float> rows(n * d);
  for (std::size_t t = 0; t < n; ++t)
    for (int c = 0; c < d; ++c)
      rows[t * d + c] = static_cast<float>(rng.normal() * (c == 5 ? 50 : 1));
  for (std::size_t t = 0; t < n; ++t) rows[t * d + 9] = 0.1f;  // no variance
  const ChannelStats s = channel_stats(rows.data(), n, d);
  EXPECT_NEAR(s.kurtosis[0], 3.0, 0.1);
  EXPECT_NEAR(s.stddev[5], 50.0, 1.0);
  EXPECT_EQ(s.kurtosis[9], 0.0f);
  EXPECT_FLOAT_EQ(s.mean[9], 0.1f);
  EXPECT_GT(s.max_over_median, 30);
  EXPECT_GT(s.head_kurtosis, 20);

  const HeadTransform t =
      calibrate({spec(TransformKind::smooth), spec(TransformKind::hadamard)}, rows.data(), n, d);
  const OutlierStats o = outlier_stats(t, rows.data(), n, d);
  EXPECT_EQ(o.before.absmax, s.absmax);
  EXPECT_LT(o.after.max_over_median, 3);
  EXPECT_LT(o.after.head_kurtosis, 5);
}

TEST(Outliers, Awkward) {
  const std::vector<float> zero(8, 0.0f);
  const ChannelStats s = channel_stats(zero.data(), 2, 4);
  EXPECT_EQ(s.max_over_median, 0);
  EXPECT_EQ(s.max_over_rms, 0);
  EXPECT_THROW(channel_stats(zero.data(), 0, 4), Error);
  const std::vector<float> bad = {0, std::nanf("")};
  EXPECT_THROW(channel_stats(bad.data(), 1, 2), Error);
}

}  // namespace
}  // namespace vi::transform
