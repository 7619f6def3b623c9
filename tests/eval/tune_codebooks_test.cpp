// Tuning lowers the divergence on text it did not see, moves only centroids, and says when it did not help.
#include "eval/calibration/tune_codebooks.h"

#include <gtest/gtest.h>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/rng.h"
#include "tests/support/random_codec.h"
#include "tests/support/random_model.h"

namespace vi::eval {
namespace {

class Counter final : public Progress {
 public:
  void begin(std::string_view, std::int64_t) override {}
  void advance(std::int64_t n) override { steps += n; }
  void end() override {}
  void note(std::string_view) override {}
  std::int64_t steps = 0;
};

std::vector<std::vector<std::int32_t>> texts(int n, int length, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<std::vector<std::int32_t>> all(static_cast<std::size_t>(n));
  for (auto& ids : all)
    for (int i = 0; i < length; ++i) ids.push_back(static_cast<std::int32_t>(rng.below(61)));
  return all;
}

class TuneCodebooks : public ::testing::Test {
 protected:
  TuneCodebooks()
      : config_(vi::testing::random_config()),
        decoder_(config_, vi::testing::RandomWeights(config_), {.dtype = at::kFloat, .device = at::kCPU, .plain = true}),
        codec_(vi::testing::random_vector_codec(config_.n_layers, config_.n_kv_heads, config_.head_dim, {})) {}
  TuneResult tune(int steps, std::uint64_t seed = 0) {
    TuneSettings settings;
    settings.steps = steps;
    settings.rate = 0.05;
    settings.recent = 4;
    settings.sinks = 2;
    settings.seed = seed;
    return tune_codebooks(decoder_, codec_, texts(6, 48, 3), texts(3, 48, 4), settings, progress_);
  }
  model::ModelConfig config_;
  model::Decoder decoder_;
  std::shared_ptr<const codec::Codec> codec_;
  Counter progress_;
};

TEST_F(TuneCodebooks, LowersTheDivergenceOnOtherText) {
  const TuneResult got = tune(60);
  EXPECT_TRUE(got.kept);
  EXPECT_GT(got.before, 0);
  EXPECT_LT(got.after, 0.95 * got.before);
  EXPECT_EQ(progress_.steps, 60);
  const codec::CodebookSet start = codec_->codebooks();
  ASSERT_EQ(got.books.size(), 1u);
  EXPECT_NE(got.books[0].key.centroids, start.key.centroids);
  EXPECT_NE(got.books[0].value.centroids, start.value.centroids);
  for (const float c : got.books[0].key.centroids) EXPECT_EQ(c, half_to_float(float_to_half(c)));
  // What it says is what the codec with these centroids does: no step on it leaves it where it is.
  codec::TransformSet transforms{config_.n_layers, config_.n_kv_heads, config_.head_dim, {}, {}};
  for (int i = 0; i < config_.n_layers * config_.n_kv_heads; ++i)
    transforms.key.push_back(*codec_->key(i / config_.n_kv_heads, i % config_.n_kv_heads)->vector_view()->transform);
  codec_ = std::make_shared<codec::Codec>(codec_->spec(), config_.n_layers, config_.n_kv_heads, config_.head_dim, transforms, got.books[0]);
  EXPECT_NEAR(tune(0).before, got.after, 0.02 * got.after);  // f16 rounding
}

TEST_F(TuneCodebooks, RepeatsAndLeavesBooksThatItDidNotImprove) {
  EXPECT_EQ(tune(3, 1).books[0].key.centroids, tune(3, 1).books[0].key.centroids);
  const TuneResult none = tune(0);
  EXPECT_FALSE(none.kept);
  EXPECT_EQ(none.before, none.after);
  EXPECT_EQ(none.books[0].key.centroids, codec_->codebooks().key.centroids);
}

// Of a codec put together by layers every member is tuned, in the layers that it codes and nowhere else.
TEST_F(TuneCodebooks, ComposedCodecsAreTunedTogether) {
  const auto first = codec_;
  const auto second = vi::testing::random_vector_codec(config_.n_layers, config_.n_kv_heads, config_.head_dim, {});
  const auto none = std::make_shared<codec::Codec>(codec::CodecSpec{}, config_.n_layers, config_.n_kv_heads, config_.head_dim,
                                                   codec::TransformSet{config_.n_layers, config_.n_kv_heads, config_.head_dim, {}, {}}, codec::CodebookSet{});
  ASSERT_GE(config_.n_layers, 2);
  codec_ = std::make_shared<codec::Codec>(first, std::vector<codec::LayerPart>{{second, {1}}});
  const TuneResult both = tune(40);
  ASSERT_EQ(both.books.size(), 2u);
  EXPECT_TRUE(both.kept);
  EXPECT_LT(both.after, 0.97 * both.before);
  const auto moved = [&](const codec::CodebookSide& before, const codec::CodebookSide& after, int layer) {
    const std::size_t size = before.centroids.size() / static_cast<std::size_t>(before.n_layers), at = size * static_cast<std::size_t>(layer);
    return !std::equal(before.centroids.begin() + static_cast<std::ptrdiff_t>(at), before.centroids.begin() + static_cast<std::ptrdiff_t>(at + size),
                       after.centroids.begin() + static_cast<std::ptrdiff_t>(at));
  };
  EXPECT_TRUE(moved(first->codebooks().key, both.books[0].key, 0));
  EXPECT_FALSE(moved(first->codebooks().key, both.books[0].key, 1));
  EXPECT_FALSE(moved(second->codebooks().key, both.books[1].key, 0));
  EXPECT_TRUE(moved(second->codebooks().key, both.books[1].key, 1));
  // All layers by the same codec: as if it were not composed.
  codec_ = first;
  const TuneResult alone = tune(3);
  codec_ = std::make_shared<codec::Codec>(none, std::vector<codec::LayerPart>{{first, [&] {
    std::vector<int> all;
    for (int l = 0; l < config_.n_layers; ++l) all.push_back(l);
    return all;
  }()}});
  const TuneResult as_part = tune(3);
  ASSERT_EQ(as_part.books.size(), 1u);
  EXPECT_EQ(as_part.before, alone.before);
  EXPECT_EQ(as_part.books[0].key.centroids, alone.books[0].key.centroids);
}

TEST_F(TuneCodebooks, RefusesCodesThatAreNotPlainVectors) {
  codec_ = vi::testing::integer_codec(config_.n_layers, config_.n_kv_heads, config_.head_dim, {});
  EXPECT_THROW(tune_codebooks(decoder_, codec_, texts(1, 8, 1), texts(1, 8, 2), {}, progress_), Error);
}

}  // namespace
}  // namespace vi::eval
