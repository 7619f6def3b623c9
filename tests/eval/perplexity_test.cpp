// Perplexity windows and generation on a random model: identities between modes and with hand-made
// loops.
#include "eval/modes/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/common/error.h"
#include "eval/generation/generate.h"
#include "eval/modes/modes.h"
#include "tests/support/random_codec.h"
#include "tests/support/random_model.h"

namespace vi::eval {
namespace {

using vi::testing::random_config;
using vi::testing::random_ids;
using vi::testing::RandomWeights;

struct Fixture {
  model::ModelConfig config = random_config();
  RandomWeights weights{config};
  model::Decoder decoder{config, weights};

  std::shared_ptr<const codec::Codec> codec(int recent, int sinks, codec::Flush flush) const {
    codec::WindowSpec window;
    window.recent = recent, window.sinks = sinks;
    window.key_flush = window.value_flush = flush;
    return vi::testing::random_vector_codec(config.n_layers, config.n_kv_heads, config.head_dim,
                                            window);
  }
  std::unique_ptr<cache::KvCache> dense() const {
    return cache::make_dense_cache(config.n_layers, config.n_q_heads, config.n_kv_heads,
                                   config.head_dim);
  }
};

PerplexitySettings settings(PerplexityMode mode, int window, int prefill = 1) {
  PerplexitySettings s;
  s.mode = mode, s.window = window, s.prefill = prefill;
  return s;
}

TEST(Perplexity, WindowsOfAText) {
  const auto ids = random_ids(100, 61, 1);
  PerplexitySettings s = settings(PerplexityMode::all, 32);
  EXPECT_EQ(text_windows(ids, s).size(), 3u);
  EXPECT_EQ(text_windows(ids, s)[2].data(), ids.data() + 64);
  s.count = 2;
  EXPECT_EQ(text_windows(ids, s).size(), 2u);
  s.count = 0;
  s.window = 100;
  EXPECT_EQ(text_windows(ids, s).size(), 1u);
  s.window = 101;
  EXPECT_TRUE(text_windows(ids, s).empty());
  s.window = 32, s.stride = 16;  // 0, 16, ..., 64
  EXPECT_EQ(text_windows(ids, s).size(), 5u);
  EXPECT_EQ(text_windows(ids, s)[4].data(), ids.data() + 64);
}

// Each token after the first is scored once, with at least window - stride tokens before it.
TEST(Perplexity, AStrideScoresTheNewestTokens) {
  const Fixture f;
  const auto ids = random_ids(80, f.config.vocab, 5);
  PerplexitySettings s = settings(PerplexityMode::window, 40);
  s.stride = 20;
  const auto windows = text_windows(ids, s);
  ASSERT_EQ(windows.size(), 3u);
  double want = 0.0;
  std::int64_t tokens = 0;
  for (std::size_t w = 0; w < windows.size(); ++w) {
    const WindowScore score = score_window(f.decoder, windows[w], s, nullptr, w == 0);
    EXPECT_EQ(score.tokens, w == 0 ? 39 : 20);
    tokens += score.tokens;
    ExactAttention hook;
    const at::Tensor scores = f.decoder.logits(f.decoder.forward(windows[w], 0, hook)).to(at::kDouble).log_softmax(1);
    want = 0.0;
    for (std::int64_t i = w == 0 ? 0 : 19; i + 1 < 40; ++i)
      want -= scores[i][windows[w][static_cast<std::size_t>(i + 1)]].item<double>();
    EXPECT_NEAR(score.nll, want, 1e-4);
  }
  EXPECT_EQ(tokens, 79);
}

TEST(Perplexity, ExactIsTheMeanLogLoss) {
  const Fixture f;
  const auto ids = random_ids(120, f.config.vocab, 2);
  ExactAttention hook;
  const at::Tensor scores =
      f.decoder.logits(f.decoder.forward(ids, 0, hook)).to(at::kDouble).log_softmax(1);
  double want = 0.0, tail = 0.0;
  for (std::int64_t i = 0; i + 1 < 120; ++i) {
    const double nll = -scores[i][ids[static_cast<std::size_t>(i + 1)]].item<double>();
    want += nll;
    if (i + 1 >= 70) tail += nll;
  }
  for (const auto mode : {PerplexityMode::all, PerplexityMode::window}) {
    const WindowScore score = score_window(f.decoder, ids, settings(mode, 120), nullptr);
    EXPECT_EQ(score.tokens, 119);
    EXPECT_NEAR(score.nll, want, 1e-4);
    EXPECT_NEAR(perplexity(std::vector{score, score}), std::exp(want / 119), 1e-5);
  }
  const WindowScore score =
      score_window(f.decoder, ids, settings(PerplexityMode::stream, 120, 70), nullptr);
  EXPECT_EQ(score.tokens, 50);
  EXPECT_NEAR(score.nll, tail, 1e-3);
  EXPECT_THROW(perplexity({}), Error);
}

// `all` is a window of nothing; a window as long as the text is exact.
TEST(Perplexity, ModesMeetAtTheirLimits) {
  const Fixture f;
  const auto ids = random_ids(90, f.config.vocab, 3);
  const auto score = [&](PerplexityMode mode, int recent, int sinks) {
    return score_window(f.decoder, ids, settings(mode, 90),
                        f.codec(recent, sinks, codec::Flush::sliding))
        .nll;
  };
  const double exact = score_window(f.decoder, ids, settings(PerplexityMode::all, 90), nullptr).nll;
  EXPECT_EQ(score(PerplexityMode::window, 0, 0), score(PerplexityMode::all, 16, 4));
  EXPECT_EQ(score(PerplexityMode::window, 90, 0), exact);
  EXPECT_EQ(score(PerplexityMode::window, 0, 90), exact);
  EXPECT_NE(score(PerplexityMode::window, 8, 0), exact);
}

// `stream` is defined by single steps; the code takes all tokens through a layer at once.
TEST(Perplexity, StreamIsTokenByTokenDecode) {
  const Fixture f;
  const auto ids = random_ids(110, f.config.vocab, 4);
  for (const auto flush : {codec::Flush::block, codec::Flush::sliding}) {
    const auto codec = f.codec(16, 2, flush);
    const auto cache = cache::make_coded_cache(codec, f.config.n_q_heads);
    PrefillAttention prefill(*cache);
    DecodeAttention decode(*cache);
    const std::span<const std::int32_t> all(ids);
    at::Tensor hidden = f.decoder.forward(all.first(60), 0, prefill).narrow(0, 59, 1);
    double want = 0.0;
    for (std::size_t t = 60; t < ids.size(); ++t) {
      want += f.decoder.nll(hidden, all.subspan(t, 1))[0];
      hidden = f.decoder.forward(all.subspan(t, 1), static_cast<std::int64_t>(t), decode);
    }
    const WindowScore score =
        score_window(f.decoder, ids, settings(PerplexityMode::stream, 110, 60), codec);
    EXPECT_EQ(score.nll, want);
    EXPECT_EQ(score.tokens, 50);
  }
}

std::vector<std::int32_t> greedy_by_full_forward(const Fixture& f, std::vector<std::int32_t> ids,
                                                 int n) {
  std::vector<std::int32_t> out;
  for (int i = 0; i < n; ++i) {
    ExactAttention hook;
    const at::Tensor hidden = f.decoder.forward(ids, 0, hook);
    const at::Tensor last = f.decoder.logits(hidden.narrow(0, hidden.size(0) - 1, 1));
    out.push_back(static_cast<std::int32_t>(last.argmax().item<std::int64_t>()));
    ids.push_back(out.back());
  }
  return out;
}

TEST(Generate, GreedyOnADenseCacheIsTheFullForward) {
  const Fixture f;
  const auto prompt = random_ids(40, f.config.vocab, 5);
  GenerateSettings s;
  s.max_new_tokens = 20;
  const auto cache = f.dense();
  const Generation a = generate(f.decoder, prompt, *cache, s);
  EXPECT_EQ(a.ids, greedy_by_full_forward(f, prompt, 20));
  EXPECT_EQ(a.reason, StopReason::max_new_tokens);
  EXPECT_EQ(cache->len(0), 59);
  EXPECT_EQ(generate(f.decoder, prompt, *cache, s).ids, a.ids);  // the cache is reset
}

TEST(Generate, EveryStopReason) {
  const Fixture f;
  const auto prompt = random_ids(30, f.config.vocab, 6);
  const auto cache = f.dense();
  GenerateSettings s;
  s.max_new_tokens = 12;
  const auto text = generate(f.decoder, prompt, *cache, s).ids;
  const std::size_t first =
      static_cast<std::size_t>(std::find(text.begin(), text.end(), text[5]) - text.begin());
  const std::vector<std::int32_t> before(text.begin(),
                                         text.begin() + static_cast<std::ptrdiff_t>(first));

  s.end_ids = {text[5]};
  Generation g = generate(f.decoder, prompt, *cache, s);
  EXPECT_EQ(g.reason, StopReason::end_token);
  EXPECT_EQ(g.ids, before);
  EXPECT_EQ(name(g.reason), "end_token");

  std::swap(s.end_ids, s.stop_ids);
  g = generate(f.decoder, prompt, *cache, s);
  EXPECT_EQ(g.reason, StopReason::task_stop);
  EXPECT_EQ(g.ids, before);

  s.min_new_tokens = 10;
  g = generate(f.decoder, prompt, *cache, s);
  EXPECT_GE(g.ids.size(), 10u);
  EXPECT_EQ(std::count(g.ids.begin(), g.ids.begin() + 10, text[5]), 0);

  s = {};
  s.max_new_tokens = 12;
  s.stop = [](std::span<const std::int32_t> ids) { return ids.size() == 3; };
  g = generate(f.decoder, prompt, *cache, s);
  EXPECT_EQ(g.reason, StopReason::task_stop);
  EXPECT_EQ(g.ids.size(), 3u);

  s = {};
  s.context = 34;
  g = generate(f.decoder, prompt, *cache, s);
  EXPECT_EQ(g.reason, StopReason::context_full);
  EXPECT_EQ(g.ids.size(), 4u);
  s.context = 30;
  EXPECT_THROW(generate(f.decoder, prompt, *cache, s), Error);
  EXPECT_THROW(generate(f.decoder, {}, *cache, {}), Error);
}

TEST(Generate, SeedsAndCodedCaches) {
  const Fixture f;
  const auto prompt = random_ids(50, f.config.vocab, 7);
  const auto codec = f.codec(16, 2, codec::Flush::block);
  const auto cache = cache::make_coded_cache(codec, f.config.n_q_heads);
  GenerateSettings s;
  s.max_new_tokens = 30;
  s.sampler = {1.0, 0.95, 11};
  const auto a = generate(f.decoder, prompt, *cache, s).ids;
  EXPECT_EQ(a, generate(f.decoder, prompt, *cache, s).ids);
  s.sampler.seed = 12;
  EXPECT_NE(a, generate(f.decoder, prompt, *cache, s).ids);
  s.codec = codec;
  s.prefill_chunk = 1000;  // one chunk: exact prefill
  s.sampler.seed = 11;
  EXPECT_EQ(a, generate(f.decoder, prompt, *cache, s).ids);
}

}  // namespace
}  // namespace vi::eval
