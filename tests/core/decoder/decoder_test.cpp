// The decoder against Hugging Face transformers (fixtures by make_decoder_fixtures.py), against its
// naive twin, and its promise that a row's bytes depend on the row alone.
#include "core/decoder/decoder.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/json.h"
#include "core/decoder/decoder_kernels.h"
#include "core/model/model_config.h"
#include "core/weights/gguf.h"
#include "core/weights/safetensors.h"
#include "tests/support/random_model.h"

namespace vi::model {
namespace {

using vi::testing::random_config;
using vi::testing::random_ids;
using vi::testing::RandomWeights;

const std::filesystem::path kFixtures =
    std::filesystem::path(VI_TESTS_DIR) / "core" / "decoder" / "fixtures";

// Exact attention that keeps what it has seen, so that a sequence may come in pieces. One query row
// is computed as the last row of the whole prompt is: by the same kernel.
class HistoryAttention final : public AttentionHook {
 public:
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override {
    const auto at = static_cast<std::size_t>(layer);
    if (at >= k_.size()) k_.resize(at + 1), v_.resize(at + 1), q_.resize(at + 1);
    const auto add = [&](at::Tensor& all, const at::Tensor& more) {
      all = first == 0 ? more : at::cat({all, more}, 1).contiguous();
      return all.to(at::kFloat).contiguous();
    };
    const at::Tensor qs = add(q_[at], q), ks = add(k_[at], k), vs = add(v_[at], v);
    AttentionInput in;
    in.n = qs.size(1);
    in.n_q_heads = static_cast<int>(qs.size(0));
    in.n_kv_heads = static_cast<int>(ks.size(0));
    in.head_dim = static_cast<int>(qs.size(2));
    in.q = qs.const_data_ptr<float>();
    in.k = ks.const_data_ptr<float>();
    in.v = vs.const_data_ptr<float>();
    in.window = window(layer);
    at::Tensor out = at::empty({in.n, qs.size(0) * qs.size(2)}, qs.options());
    DecoderKernels(q.scalar_type() == at::kBFloat16).attention(in, out.data_ptr<float>());
    return out.narrow(0, first, in.n - first).to(q.scalar_type());
  }

  bool takes_window() const override { return true; }

 private:
  std::vector<at::Tensor> q_, k_, v_;
};

bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return x.sizes() == y.sizes() && x.scalar_type() == y.scalar_type() &&
         std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

at::Tensor forward(const Decoder& decoder, const std::vector<std::int32_t>& ids) {
  HistoryAttention hook;
  return decoder.forward(ids, 0, hook);
}

double sum(const std::vector<double>& values) {
  double total = 0.0;
  for (const double x : values) total += x;
  return total;
}

constexpr const char* kTiny[] = {"llama3_rope",  "untied",       "qwen2_bias",     "qwen3_norm",
                                 "linear_rope",  "dynamic_rope", "yarn_rope",      "yarn_qwen3",
                                 "mistral_full", "qwen2_window", "mistral_window", "llama_bias"};

TEST(Decoder, AgreesWithTransformersOnTinyCheckpoints) {
  for (const char* name : kTiny) {
    const auto folder = kFixtures / name;
    const auto config = model_config_from_json(
        nlohmann::json::parse(read_file(folder / "config.json")), nullptr, name);
    const SafetensorsFile weights(folder);
    const Json expected = parse_json(read_file(folder / "expected.json"), name);
    const auto ids = expected["ids"].get<std::vector<std::int32_t>>();
    for (const bool plain : {false, true}) {
      DecoderOptions options;
      options.plain = plain;
      const Decoder decoder(config, weights, options);
      const at::Tensor hidden = forward(decoder, ids);
      const at::Tensor logits = decoder.logits(hidden);
      for (std::size_t r = 0; r < expected["rows"].size(); ++r) {
        const auto want = expected["logits"][r].get<std::vector<float>>();
        const at::Tensor row = logits[expected["rows"][r].get<std::int64_t>()].contiguous();
        for (std::size_t i = 0; i < want.size(); ++i)
          ASSERT_NEAR(row.const_data_ptr<float>()[i], want[i], 1e-4)
              << name << " row " << r << " id " << i;
      }
      const std::vector<std::int32_t> targets(ids.begin() + 1, ids.end());
      const double nll = sum(decoder.nll(hidden.narrow(0, 0, hidden.size(0) - 1), targets));
      EXPECT_NEAR(nll / expected["nll"].get<double>(), 1.0, 1e-5)
          << name << (plain ? " plain" : "");
    }
  }
}

// A prompt, then token by token, as a generation runs. (dynamic RoPE differs from a prefill here: earlier
// keys keep the angles of the length they were made at.)
TEST(Decoder, AgreesWithTransformersByStep) {
  for (const char* name : kTiny) {
    const auto folder = kFixtures / name;
    const auto config = model_config_from_json(
        nlohmann::json::parse(read_file(folder / "config.json")), nullptr, name);
    const Decoder decoder(config, SafetensorsFile(folder));
    const Json expected = parse_json(read_file(folder / "expected.json"), name);
    const auto ids = expected["ids"].get<std::vector<std::int32_t>>();
    HistoryAttention hook;
    auto at = expected["prompt"].get<std::int64_t>();
    decoder.forward({ids.data(), static_cast<std::size_t>(at)}, 0, hook);
    std::size_t step = 0;
    for (; at < std::ssize(ids); ++at) {
      const at::Tensor hidden = decoder.forward({ids.data() + at, std::size_t{1}}, at, hook);
      if (step == expected["steps"].size() || expected["steps"][step] != at) continue;
      const at::Tensor row = decoder.logits(hidden).contiguous();
      const auto want = expected["step_logits"][step++].get<std::vector<float>>();
      for (std::size_t i = 0; i < want.size(); ++i)
        ASSERT_NEAR(row.const_data_ptr<float>()[i], want[i], 1e-4) << name << " at " << at;
    }
    EXPECT_EQ(step, expected["steps"].size());
  }
}

void expect_transformers_numbers(const std::string& model, const std::string& fixture, const std::string& hint) {
  const auto path = std::filesystem::path(VI_SOURCE_DIR) / "data" / "models" / model;
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << model << ": " << hint;
  const GgufFile file(path);
  const Decoder decoder(model_config_from_gguf(file), file);
  const Json expected = parse_json(read_file(kFixtures / fixture), fixture);
  for (const Json& c : expected["cases"]) {
    const auto ids = c["ids"].get<std::vector<std::int32_t>>();
    const at::Tensor hidden = forward(decoder, ids);
    const at::Tensor logits = decoder.logits(hidden.narrow(0, hidden.size(0) - 1, 1)).squeeze(0);
    for (const Json& top : c["top"]) {
      const double want = top["logit"].get<double>();
      const double got = logits.const_data_ptr<float>()[top["id"].get<std::int64_t>()];
      EXPECT_NEAR(got, want, 1e-4 * std::abs(want)) << c["text"];
    }
    EXPECT_EQ(logits.argmax().item<std::int64_t>(), c["top"][0]["id"].get<std::int64_t>());
    const std::vector<std::int32_t> targets(ids.begin() + 1, ids.end());
    EXPECT_NEAR(
        sum(decoder.nll(hidden.narrow(0, 0, hidden.size(0) - 1), targets)) / c["nll"].get<double>(),
        1.0, 1e-5)
        << c["text"];
  }
}

TEST(Decoder, AgreesWithTransformersOnTheEmbeddedModel) {
  expect_transformers_numbers("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2.json", "run `make setup`");
}

TEST(Decoder, AgreesWithTransformersOnQwen) {
  expect_transformers_numbers("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "qwen2.5-coder-0.5b.json",
                              "experiments/models/qwen2.5-coder-0.5b-instruct.yaml names it");
}

TEST(Decoder, EveryFlagAgreesWithTheNaiveTwin) {
  ModelConfig config = random_config();
  config.qkv_bias = config.o_bias = config.mlp_bias = config.qk_norm = true;
  for (const bool tie : {false, true})
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      config.tie_embeddings = tie;
      const RandomWeights weights(config);
      DecoderOptions options;
      options.dtype = dtype;
      const Decoder fast(config, weights, options);
      options.plain = true;
      const Decoder plain(config, weights, options);
      const auto ids = random_ids(70, config.vocab, 3);
      const at::Tensor a = forward(fast, ids), b = forward(plain, ids);
      EXPECT_EQ(a.scalar_type(), dtype);
      const double scale = fast.logits(a).abs().max().item<double>();
      const double worst = (fast.logits(a) - plain.logits(b)).abs().max().item<double>();
      EXPECT_LT(worst, (dtype == at::kFloat ? 1e-5 : 5e-2) * scale);
    }
}

TEST(Decoder, BytesDoNotDependOnThreads) {
  ModelConfig config = random_config();
  const RandomWeights weights(config);
  const auto ids = random_ids(150, config.vocab, 4);
  const std::vector<std::int32_t> targets(ids.rbegin(), ids.rend());
  const int before = at::get_num_threads();
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    DecoderOptions options;
    options.dtype = dtype;
    at::Tensor first;
    std::vector<double> nll;
    for (const int threads : {1, 2, 3}) {
      at::set_num_threads(threads);
      const Decoder decoder(config, weights, options);
      const at::Tensor hidden = forward(decoder, ids);
      if (!first.defined()) first = hidden, nll = decoder.nll(hidden, targets);
      EXPECT_TRUE(same_bytes(first, hidden)) << threads;
      EXPECT_EQ(nll, decoder.nll(hidden, targets));
    }
  }
  at::set_num_threads(before);
}

// Pieces of any size give the bytes of the whole: prefill in parts, decode, batches.
TEST(Decoder, RowsDoNotDependOnTheCall) {
  const ModelConfig config = random_config();
  const RandomWeights weights(config);
  const auto ids = random_ids(140, config.vocab, 5);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    DecoderOptions options;
    options.dtype = dtype;
    const Decoder decoder(config, weights, options);
    const at::Tensor whole = forward(decoder, ids), logits = decoder.logits(whole);
    HistoryAttention hook;
    std::int64_t at = 0;
    for (const std::int64_t n : {1, 6, 1, 33, 95, 1, 1, 2}) {
      const at::Tensor part = decoder.forward(std::span(ids).subspan(at, n), at, hook);
      EXPECT_TRUE(same_bytes(part, whole.narrow(0, at, n))) << at;
      EXPECT_TRUE(same_bytes(decoder.logits(part), logits.narrow(0, at, n))) << at;
      at += n;
    }
    ASSERT_EQ(at, 140);
  }
}

TEST(Decoder, LongPromptsGoInChunks) {  // more rows than a layer's temporaries hold at once
  ModelConfig config = random_config();
  config.max_position = 2000;
  const RandomWeights weights(config);
  const Decoder decoder(config, weights);
  const auto ids = random_ids(1100, config.vocab, 6);
  const at::Tensor whole = forward(decoder, ids);
  const at::Tensor start = forward(decoder, {ids.begin(), ids.begin() + 515});
  EXPECT_TRUE(same_bytes(whole.narrow(0, 0, 515), start));
}

TEST(Decoder, NllIsLogSoftmax) {
  const ModelConfig config = random_config();
  const RandomWeights weights(config);
  const Decoder decoder(config, weights);
  const auto ids = random_ids(300, config.vocab, 7);
  const at::Tensor hidden = forward(decoder, ids);
  const auto nll = decoder.nll(hidden, ids);
  const at::Tensor scores = decoder.logits(hidden).to(at::kDouble).log_softmax(1);
  for (std::size_t i = 0; i < ids.size(); ++i)
    EXPECT_NEAR(nll[i], -scores[static_cast<std::int64_t>(i)][ids[i]].item<double>(), 1e-5);
}

TEST(Decoder, RefusesWhatItCannotDo) {
  ModelConfig config = random_config();
  const RandomWeights weights(config);
  const Decoder decoder(config, weights);
  HistoryAttention hook;
  const std::vector<std::int32_t> none, negative{-1}, beyond{61};
  EXPECT_EQ(decoder.forward(none, 0, hook).size(0), 0);
  EXPECT_THROW(decoder.forward(negative, 0, hook), Error);
  EXPECT_THROW(decoder.forward(beyond, 0, hook), Error);
  EXPECT_THROW(decoder.nll(at::zeros({1, config.hidden}), beyond), Error);
  EXPECT_EQ(decoder.logits(at::zeros({0, config.hidden})).size(0), 0);
  config.hidden = 32;
  EXPECT_THROW(Decoder(config, weights), ContractError);
  config = random_config();
  config.qkv_bias = true;
  EXPECT_THROW(Decoder(config, weights), ContractError);
  config = random_config();
  config.sliding_window = 8;
  const Decoder sliding(config, weights);
  class Full final : public AttentionHook {  // knows no window
   public:
    at::Tensor attend(int, const at::Tensor& q, const at::Tensor&, const at::Tensor&,
                      std::int64_t) override {
      return at::zeros({q.size(1), q.size(0) * q.size(2)}, q.options());
    }
  } full;
  EXPECT_EQ(sliding.forward(random_ids(8, 61, 1), 0, full).size(0), 8);
  EXPECT_THROW(sliding.forward(random_ids(9, 61, 1), 0, full), Error);
}

}  // namespace
}  // namespace vi::model
