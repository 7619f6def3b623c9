// A layer's sensitivity is the divergence of its coding alone, worked out here in f64 from whole logits.
#include "eval/calibration/layer_sensitivity.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/common/rng.h"
#include "eval/modes/modes.h"
#include "tests/support/random_codec.h"
#include "tests/support/random_model.h"

namespace vi::eval {
namespace {

TEST(LayerSensitivity, IsTheDivergenceOfOneLayerCoded) {
  const model::ModelConfig config = vi::testing::random_config();
  const model::Decoder decoder(config, vi::testing::RandomWeights(config), {.dtype = at::kFloat, .device = at::kCPU});
  codec::WindowSpec window;
  window.recent = 8;
  window.sinks = 2;
  const auto codec = vi::testing::random_vector_codec(config.n_layers, config.n_kv_heads, config.head_dim, window);
  Rng rng(5);
  std::vector<std::vector<std::int32_t>> windows(2);
  for (auto& ids : windows)
    for (int i = 0; i < 700; ++i) ids.push_back(static_cast<std::int32_t>(rng.below(61)));  // more than a chunk of logits
  const LayerSensitivity measure(decoder, codec, windows);
  std::vector<double> seen;
  for (int layer = 0; layer < config.n_layers; ++layer) {
    seen.push_back(measure.of(layer));
    EXPECT_EQ(measure.of(layer), seen.back());
    double wanted = 0;
    for (const auto& ids : windows) {
      // Only this layer's attention sees codes.
      class One final : public model::AttentionHook {
       public:
        One(std::shared_ptr<const codec::Codec> codec, int layer) : coded_(std::move(codec)), layer_(layer) {}
        at::Tensor attend(int l, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t first) override {
          return l == layer_ ? coded_.attend(l, q, k, v, first) : exact_.attend(l, q, k, v, first);
        }

       private:
        WindowAttention coded_;
        ExactAttention exact_;
        int layer_;
      } one(codec, layer);
      ExactAttention exact;
      const auto log_p = [&](model::AttentionHook& hook) { return at::log_softmax(decoder.logits(decoder.forward(ids, 0, hook)).to(at::kDouble), -1); };
      const at::Tensor p = log_p(exact), q = log_p(one);
      wanted += (p.exp() * (p - q)).sum(-1).mean().item<double>() / static_cast<double>(windows.size());
    }
    EXPECT_GT(wanted, 1e-5);
    EXPECT_NEAR(seen.back(), wanted, 1e-3 * wanted) << layer;
  }
  EXPECT_NE(seen[0], seen[1]);
}

TEST(LayerSensitivity, TheMostSensitiveLayers) {
  using ::testing::ElementsAre;
  EXPECT_THAT(most_sensitive({0.1, 0.4, 0.2, 0.4}, 2), ElementsAre(1, 3));
  EXPECT_THAT(most_sensitive({0.1, 0.4, 0.2, 0.4}, 1), ElementsAre(1));
  EXPECT_THAT(most_sensitive({0.1, 0.4, 0.2, 0.4}, 3), ElementsAre(1, 2, 3));
  EXPECT_TRUE(most_sensitive({0.1}, 0).empty());
  EXPECT_THAT(most_sensitive({0.1, 0.2}, 9), ElementsAre(0, 1));
}

}  // namespace
}  // namespace vi::eval
