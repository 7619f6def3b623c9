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
