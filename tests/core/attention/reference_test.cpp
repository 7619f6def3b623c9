// The oracle itself, against answers known without it.
#include "core/attention/reference.h"

#include <gtest/gtest.h>

#include "core/common/error.h"
#include "tests/core/attention/fixture.h"

namespace vi::attention {
namespace {

using testing::Case;
using testing::Layer;

TEST(Reference, OneTokenIsItsValue) {
  Layer layer({{.n_q_heads = 2, .n_kv_heads = 1, .head_dim = 8}, 0, 1, {}, {}});
  const auto out = layer.reference();
  for (int i = 0; i < 16; ++i) EXPECT_DOUBLE_EQ(out[i], layer.heads[0].value.recent[i % 8]);
}

TEST(Reference, EqualKeysAverageTheValues) {
  Layer layer({{.n_q_heads = 1, .n_kv_heads = 1, .head_dim = 4}, 0, 5, {}, {}});
  const std::vector<float> keys(20, 0.5f);
  layer.heads[0].key.recent = keys.data();
  const auto out = layer.reference();
  for (int i = 0; i < 4; ++i) {
    double mean = 0;
    for (int t = 0; t < 5; ++t) mean += layer.heads[0].value.recent[4 * t + i] / 5.0;
    EXPECT_NEAR(out[i], mean, 1e-15);
  }
}

TEST(Reference, TwoTokensByHand) {
  Layer layer({{.n_q_heads = 1, .n_kv_heads = 1, .head_dim = 4}, 1, 2, {}, {}});
  const float q[] = {2, 0, 0, 0}, sink[] = {1, 0, 0, 0}, recent[] = {0, 1, 0, 0};
  layer.q.assign(q, q + 4);
  auto& head = layer.heads[0];
  head.key.sinks = head.value.sinks = sink;
  head.key.recent = head.value.recent = recent;
  const auto out = layer.reference();  // scores 2 / sqrt(4) = 1 and 0
  EXPECT_NEAR(out[0], std::exp(1.0) / (std::exp(1.0) + 1), 1e-15);
  EXPECT_NEAR(out[1], 1 / (std::exp(1.0) + 1), 1e-15);
}

TEST(Reference, NoTokensGiveZeros) {
  Layer layer({{.n_q_heads = 6, .n_kv_heads = 2, .head_dim = 8}, 0, 0, {}, {}});
  for (const double x : layer.reference()) EXPECT_EQ(x, 0.0);
  for (const float x : layer.naive()) EXPECT_EQ(x, 0.0f);
}

// Codes, transforms undone in f64, integer codes and the window, against the coders' own decode.
TEST(Reference, AgreesWithTheTwinThatDecodesFirst) {
  for (const bool shared : {false, true}) {
    Layer layer({{.n_q_heads = 6, .n_kv_heads = 2, .head_dim = 32},
                 3,
                 150,
                 {.dsub = 4, .bits = 10, .shared = shared, .affine = true, .n_coded = 128},
                 {.dsub = -32, .n_coded = 96}});
    EXPECT_LT(testing::error(layer.naive(), layer.reference()), 3e-6);
  }
}

TEST(Reference, RefusesViewsThatDoNotFit) {
  Layer layer({{.n_q_heads = 2, .n_kv_heads = 2, .head_dim = 8}, 2, 5, {}, {}});
  layer.heads[1].len = 1;
  EXPECT_THROW(layer.reference(), Error);
  EXPECT_THROW(layer.fused(), Error);
  layer.heads[1].len = 5;
  layer.heads[1].key.n_coded = 1;
  EXPECT_THROW(layer.fused(), Error);
  Layer bad({{.n_q_heads = 3, .n_kv_heads = 2, .head_dim = 8}, 0, 1, {}, {}});
  EXPECT_THROW(bad.reference(), Error);
}

}  // namespace
}  // namespace vi::attention
