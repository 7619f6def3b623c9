// The GPU's decoder, cache and steps. On the CPU (no GPU needed) by their naive twins and the kernels'
// oracles, against core/decoder and core/cache; on a GPU, kernels against twins and graphs against eager
// steps. Needs no file.
#include "cuda/torch/batch.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "core/cache/kv_cache.h"
#include "core/common/error.h"
#include "core/decoder/decoder.h"
#include "cuda/common/check.h"
#include "eval/modes/modes.h"
#include "tests/support/random_codec.h"
#include "tests/support/random_model.h"

namespace vi::cuda {
namespace {

using model::ModelConfig;
using vi::testing::random_ids;
using vi::testing::random_vector_codec;

struct Variant {
  const char* name;
  bool qkv_bias, qk_norm, tie, mlp_bias;
  model::RopeScalingKind scaling;
};

ModelConfig config_of(const Variant& v) {
  ModelConfig c = vi::testing::random_config();
  c.qkv_bias = v.qkv_bias, c.qk_norm = v.qk_norm, c.tie_embeddings = v.tie;
  c.o_bias = c.mlp_bias = v.mlp_bias;
  c.rope.scaling = v.scaling;
  c.rope.factor = 2;
  c.rope.original_max_position = 24;
  c.rope.attention_factor = v.scaling == model::RopeScalingKind::yarn ? 1.1 : 1.0;
  return c;
}

const Variant kVariants[] = {{"llama", false, false, false, false, model::RopeScalingKind::none},
                             {"qwen2", true, false, true, false, model::RopeScalingKind::dynamic},
                             {"qwen3", false, true, false, true, model::RopeScalingKind::yarn},
                             {"llama3", false, false, false, false, model::RopeScalingKind::llama3}};

double difference(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kCPU, at::kDouble).reshape({-1}), y = b.to(at::kCPU, at::kDouble).reshape({-1});
  return ((x - y).norm() / y.norm()).item<double>();
}

std::shared_ptr<GpuEngine> engine_of(const ModelConfig& c, at::Device device, at::ScalarType dtype,
                                     const model::WeightFile& weights) {
  model::DecoderOptions options;
  options.device = device;
  options.dtype = dtype;
  return std::make_shared<GpuEngine>(c, weights_of(weights), options);
}

CacheShape shape_of(const ModelConfig& c, int batch, std::int64_t capacity, at::ScalarType dtype = at::kHalf) {
  return {c.n_layers, c.n_q_heads, c.n_kv_heads, c.head_dim, batch, capacity, dtype};
}

TEST(GpuEngine, ForwardIsTheCpuDecodersForEveryArchitecture) {
  for (const Variant& v : kVariants) {
    const ModelConfig c = config_of(v);
    const vi::testing::RandomWeights weights(c);
    const model::Decoder cpu(c, weights);
    const auto engine = engine_of(c, at::kCPU, at::kFloat, weights);
    const auto ids = random_ids(37, c.vocab, 3);
    eval::ExactAttention hook, other;
    const at::Tensor want = cpu.forward(ids, 0, hook), got = engine->forward(ids, 0, other);
    EXPECT_LT(difference(got, want), 1e-5) << v.name;
    EXPECT_LT(difference(engine->logits(got), cpu.logits(want)), 1e-5) << v.name;
    const auto targets = random_ids(37, c.vocab, 4);
    const auto a = engine->nll(got, targets), b = cpu.nll(want, targets);
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-4) << v.name;
  }
}

// Prompt and steps of one sequence on the CPU's decoder and cache: logits of each step.
std::vector<at::Tensor> cpu_steps(const ModelConfig& c, const model::WeightFile& weights,
                                  const std::shared_ptr<const codec::Codec>& codec,
                                  std::span<const std::int32_t> ids, std::size_t prompt) {
  const model::Decoder decoder(c, weights);
  const auto cache = codec ? cache::make_coded_cache(codec, c.n_q_heads)
                           : cache::make_dense_cache(c.n_layers, c.n_q_heads, c.n_kv_heads, c.head_dim);
  eval::PrefillAttention prefill(*cache);
  eval::DecodeAttention decode(*cache);
  std::vector<at::Tensor> out;
  const at::Tensor hidden = decoder.forward(ids.first(prompt), 0, prefill);
  out.push_back(decoder.logits(hidden.narrow(0, static_cast<std::int64_t>(prompt) - 1, 1)));
  for (std::size_t i = prompt; i < ids.size(); ++i)
    out.push_back(decoder.logits(
        decoder.forward(ids.subspan(i, 1), static_cast<std::int64_t>(i), decode)));
  return out;
}

// Two sequences of different lengths side by side: their blocks fill at different steps.
struct TwoSequences {
  std::vector<std::int32_t> one, two;
  static constexpr std::size_t kFirst = 20, kSecond = 2, kSteps = 18;
  explicit TwoSequences(const ModelConfig& c) : one(random_ids(40, c.vocab, 5)), two(random_ids(40, c.vocab, 6)) {}
  // Logits [2, vocab] of the prompts and of every step.
  std::vector<at::Tensor> run(Stepper& stepper) const {
    stepper.reset();
    std::vector<at::Tensor> out{at::cat({stepper.prefill(0, std::span(one).first(kFirst)),
                                         stepper.prefill(1, std::span(two).first(kSecond))})
                                    .to(at::kCPU)};
    for (std::size_t t = 0; t < kSteps; ++t) {
      const std::int32_t ids[2] = {one[kFirst + t], two[kSecond + t]};
      out.push_back(stepper.step(ids).to(at::kCPU, at::kFloat, false, true));
    }
    EXPECT_EQ(stepper.cache().len(0), 38);
    EXPECT_EQ(stepper.cache().len(1), 20);
    return out;
  }
};

std::shared_ptr<const codec::Codec> small_codec(const ModelConfig& c, int step = 0) {
  codec::WindowSpec window;
  window.recent = 8;
  window.sinks = 3;
  window.step = step;
  return random_vector_codec(c.n_layers, c.n_kv_heads, c.head_dim, window);
}

// The same, and layers by another code.
std::shared_ptr<const codec::Codec> mixed_codec(const ModelConfig& c) {
  const auto base = small_codec(c);
  const auto other = random_vector_codec(c.n_layers, c.n_kv_heads, c.head_dim, base->spec().window, 8, 3);
  return std::make_shared<codec::Codec>(base, std::vector<codec::LayerPart>{{other, {c.n_layers - 1}}});
}

std::unique_ptr<Stepper> two_stepper(const ModelConfig& c, const model::WeightFile& weights,
                                     const std::shared_ptr<const codec::Codec>& codec, at::Device device,
                                     const StepOptions& options) {
  const auto tables = codec ? std::make_shared<const eval::DeviceCodec>(codec, device) : nullptr;
  return std::make_unique<Stepper>(
      engine_of(c, device, at::kFloat, weights),
      std::make_unique<DeviceCache>(shape_of(c, 2, 64), tables, device, true), options);
}

TEST(Stepper, StepsAreTheCpuCachesOnTheCpu) {
  for (const Variant& v : kVariants)
    for (const std::string coded : {"one code", "mixed", "two at once", "four at once", ""}) {
      const ModelConfig c = config_of(v);
      const vi::testing::RandomWeights weights(c);
      const auto codec = coded.empty() ? nullptr : coded == "mixed" ? mixed_codec(c) : small_codec(c, coded[0] == 't' ? 2 : coded[0] == 'f' ? 4 : 0);
      const TwoSequences ids(c);
      const auto one = cpu_steps(c, weights, codec, std::span(ids.one).first(ids.kFirst + ids.kSteps), ids.kFirst);
      const auto two = cpu_steps(c, weights, codec, std::span(ids.two).first(ids.kSecond + ids.kSteps), ids.kSecond);
      const auto stepper = two_stepper(c, weights, codec, at::kCPU, {});
      for (int round = 0; round < 2; ++round) {  // reset gives the same again
        const auto got = ids.run(*stepper);
        for (std::size_t t = 0; t < got.size(); ++t) {
          // Exact rows are f16 here, f32 there: no code of these seeds turns over by that.
          EXPECT_LT(difference(got[t][0], one[t]), 0.02) << v.name << " step " << t << " coded " << coded;
          EXPECT_LT(difference(got[t][1], two[t]), 0.02) << v.name << " step " << t << " coded " << coded;
        }
      }
    }
}

// Prompt and steps of one sequence in a batch of one slot.
std::vector<at::Tensor> steps_alone(const ModelConfig& c, const std::shared_ptr<const codec::Codec>& codec, const model::WeightFile& weights,
                                    at::Device device, std::span<const std::int32_t> ids, std::size_t prompt) {
  const auto tables = codec ? std::make_shared<const eval::DeviceCodec>(codec, device) : nullptr;
  const auto one = make_gpu_batch(engine_of(c, device, at::kFloat, weights),
                                  std::make_unique<DeviceCache>(shape_of(c, 1, 64), tables, device, true));
  std::vector<at::Tensor> out{one->prefill(0, ids.first(prompt)).to(at::kCPU, at::kFloat, false, true)};
  for (std::size_t i = prompt; i < ids.size(); ++i)
    out.push_back(one->step(std::array{eval::SlotToken{0, ids[i]}}).to(at::kCPU, at::kFloat, false, true));
  return out;
}

// Slots of a batch that begin and end at different steps; the free one is stepped along and harms nobody. Coded
// slots are held to a batch of one: a cache of the CPU has f32 rows where this one has f16, and some code turns over.
void expect_slots_are_cpu_caches(const ModelConfig& c, const std::shared_ptr<const codec::Codec>& codec,
                                 const model::WeightFile& weights, at::Device device, double tolerance) {
  const auto tables = codec ? std::make_shared<const eval::DeviceCodec>(codec, device) : nullptr;
  const auto batch = make_gpu_batch(engine_of(c, device, at::kFloat, weights),
                                    std::make_unique<DeviceCache>(shape_of(c, 3, 64), tables, device, true));
  struct Sequence {
    int slot, begin, end;  // steps
    std::size_t prompt;
    std::uint64_t seed;
  };
  // Slot 1 is refilled by a shorter prompt than it held, slot 2 is free in between.
  const Sequence sequences[] = {{0, 0, 36, 20, 1}, {1, 0, 9, 41, 2}, {1, 9, 36, 5, 3}, {2, 4, 12, 2, 4}, {2, 30, 36, 33, 5}};
  std::vector<std::vector<at::Tensor>> want;
  std::vector<std::vector<std::int32_t>> ids;
  for (const Sequence& s : sequences) {
    ids.push_back(random_ids(static_cast<std::int64_t>(s.prompt) + s.end - s.begin, c.vocab, s.seed));
    want.push_back(codec ? steps_alone(c, codec, weights, device, ids.back(), s.prompt) : cpu_steps(c, weights, codec, ids.back(), s.prompt));
  }
  for (int step = 0; step < 36; ++step) {
    std::vector<eval::SlotToken> tokens;
    std::vector<at::Tensor> rows;
    for (std::size_t i = 0; i < std::size(sequences); ++i) {
      const Sequence& s = sequences[i];
      if (step == s.begin) {
        const at::Tensor logits = batch->prefill(s.slot, std::span(ids[i]).first(s.prompt));
        EXPECT_LT(difference(logits, want[i][0]), tolerance);
      }
      if (step < s.begin || step >= s.end) continue;
      const std::size_t at = static_cast<std::size_t>(step - s.begin);
      tokens.push_back({s.slot, ids[i][s.prompt + at]});
      rows.push_back(want[i][at + 1]);
    }
    const at::Tensor got = batch->step(tokens);
    for (std::size_t i = 0; i < rows.size(); ++i)
      EXPECT_LT(difference(got[static_cast<std::int64_t>(i)], rows[i][0]), tolerance)
          << "step " << step << " slot " << tokens[i].slot << " coded " << (codec != nullptr);
    for (const Sequence& s : sequences)
      if (step + 1 == s.end) batch->release(s.slot);
  }
  EXPECT_THROW(batch->step(std::array{eval::SlotToken{0, 1}}), Error);  // released
}

TEST(GpuBatch, SlotsAreTheCpuCachesOnTheCpu) {
  for (const Variant& v : kVariants)
    for (const int step : {0, 2, -1}) {
      const ModelConfig c = config_of(v);
      const vi::testing::RandomWeights weights(c);
      // Exact rows are f16 here, f32 there.
      expect_slots_are_cpu_caches(c, step >= 0 ? small_codec(c, step) : nullptr, weights, at::kCPU, 0.02);
    }
}

// Many sequences that code a piece at one step, from different places and of different lengths: as each alone.
void expect_many_flush_as_each_alone(const ModelConfig& c, const model::WeightFile& weights, at::Device device, double tolerance) {
  codec::WindowSpec window;
  window.recent = 48, window.sinks = 3, window.step = 16;
  const auto codec = random_vector_codec(c.n_layers, c.n_kv_heads, c.head_dim, window);
  const auto tables = std::make_shared<const eval::DeviceCodec>(codec, device);
  const std::vector<std::size_t> prompts = {41, 57, 73, 20, 9, 58};  // the first four flush at one step
  const auto batch = make_gpu_batch(engine_of(c, device, at::kFloat, weights),
                                    std::make_unique<DeviceCache>(shape_of(c, static_cast<int>(prompts.size()), 256), tables, device, true));
  constexpr int kSteps = 45;
  std::vector<std::vector<std::int32_t>> ids;
  std::vector<std::vector<at::Tensor>> want;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    ids.push_back(random_ids(static_cast<std::int64_t>(prompts[i]) + kSteps, c.vocab, 70 + i));
    const auto one = make_gpu_batch(engine_of(c, device, at::kFloat, weights),
                                    std::make_unique<DeviceCache>(shape_of(c, 1, 256), tables, device, true));
    want.push_back({one->prefill(0, std::span(ids[i]).first(prompts[i])).to(at::kCPU, at::kFloat, false, true)});
    for (int t = 0; t < kSteps; ++t)
      want[i].push_back(one->step(std::array{eval::SlotToken{0, ids[i][prompts[i] + static_cast<std::size_t>(t)]}}).to(at::kCPU, at::kFloat, false, true));
    EXPECT_LT(difference(batch->prefill(static_cast<int>(i), std::span(ids[i]).first(prompts[i])), want[i][0]), tolerance);
  }
  for (int t = 0; t < kSteps; ++t) {
    std::vector<eval::SlotToken> tokens;
    for (std::size_t i = 0; i < prompts.size(); ++i) tokens.push_back({static_cast<int>(i), ids[i][prompts[i] + static_cast<std::size_t>(t)]});
    const at::Tensor got = batch->step(tokens);
    for (std::size_t i = 0; i < prompts.size(); ++i)
      EXPECT_LT(difference(got[static_cast<std::int64_t>(i)], want[i][static_cast<std::size_t>(t) + 1][0]), tolerance) << "step " << t << " sequence " << i;
  }
}

TEST(GpuBatch, ManyFlushAsEachAloneOnTheCpu) {
  const ModelConfig c = config_of(kVariants[0]);
  expect_many_flush_as_each_alone(c, vi::testing::RandomWeights(c), at::kCPU, 5e-3);
}

TEST(DeviceCache, RefusesWhatItCannotHold) {
  const ModelConfig c = vi::testing::random_config();
  codec::WindowSpec window;
  window.recent = 8;
  const auto integers = vi::testing::integer_codec(c.n_layers, c.n_kv_heads, c.head_dim, window);
  EXPECT_EQ(*why_not_coded(*integers), "keys have no vector code");
  const auto whole = random_vector_codec(c.n_layers, c.n_kv_heads, c.head_dim, window);
  EXPECT_EQ(*why_not_coded(codec::Codec(whole, {{integers, {1}}})), "keys of layer 1 have no vector code");
  window.value_flush = codec::Flush::sliding;
  const auto sliding = random_vector_codec(c.n_layers, c.n_kv_heads, c.head_dim, window);
  EXPECT_EQ(*why_not_coded(*sliding), "the window slides");
  const auto tables = std::make_shared<const eval::DeviceCodec>(sliding, at::kCPU);
  EXPECT_THROW(DeviceCache(shape_of(c, 1, 64), tables, at::kCPU), Error);
  window.value_flush = codec::Flush::block;
  window.step = 3;
  EXPECT_EQ(*why_not_coded(*random_vector_codec(c.n_layers, c.n_kv_heads, c.head_dim, window)), "the window's 8 tokens are no multiple of its step of 3");
  window.step = 0;
  const auto good = std::make_shared<const eval::DeviceCodec>(
      random_vector_codec(c.n_layers, c.n_kv_heads, c.head_dim, window), at::kCPU);
  CacheShape other = shape_of(c, 1, 64);
  other.n_layers = 1;
  EXPECT_THROW(DeviceCache(other, good, at::kCPU), Error);
  DeviceCache cache(shape_of(c, 1, 64), good, at::kCPU);
  const auto f16 = at::TensorOptions().dtype(at::kHalf);
  at::Tensor q = at::zeros({1, 4, 16}, f16), out = at::zeros({1, 4, 16}, f16);
  EXPECT_THROW(cache.attend(0, at::zeros({1, 4, 16}), out), Error);             // f32
  EXPECT_THROW(cache.attend(0, at::zeros({2, 4, 16}, f16), out), Error);        // batch
  EXPECT_THROW(cache.attend(0, at::zeros({1, 16, 4}, f16).transpose(1, 2), out), Error);  // strided
  EXPECT_THROW(cache.put_prompt(0, 0, at::zeros({2, 65, 16}), at::zeros({2, 65, 16})), Error);
  EXPECT_THROW(cache.put_prompt(2, 0, at::zeros({2, 4, 16}), at::zeros({2, 4, 16})), Error);
  EXPECT_THROW(cache.put_prompt(0, 0, at::zeros({2, 4, 8}), at::zeros({2, 4, 8})), Error);
}

TEST(MemoryPlan, CountsEightBillionWeightsAndTwoBitCodes) {
  const ModelConfig c = llama_8b_config();
  EXPECT_EQ(GpuEngine::plan(c, at::kBFloat16).total(), 2 * std::int64_t{8030257152});
  EXPECT_NE(GpuEngine::plan(c, at::kBFloat16).text().find("weights 14.96 GiB"), std::string::npos);
}

// --- on a GPU ------------------------------------------------------------------------------------

class OnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_device()) GTEST_SKIP() << "no GPU";
  }
};

TEST_F(OnGpu, StepsAreTheTwinsOfTheCpu) {
  for (const Variant& v : kVariants) {
    ModelConfig c = config_of(v);
    c.head_dim = 32;  // the least that the fused encode serves
    const vi::testing::RandomWeights weights(c);
    const auto codec = v.qkv_bias ? mixed_codec(c) : small_codec(c, v.tie ? 2 : 0);
    const TwoSequences ids(c);
    const auto want = ids.run(*two_stepper(c, weights, codec, at::kCPU, {}));
    for (const StepOptions& options : {StepOptions{false, true}, StepOptions{false, false}, StepOptions{true, false}}) {
      const auto stepper = two_stepper(c, weights, codec, at::Device(at::kCUDA, 0), options);
      for (int round = 0; round < 2; ++round) {
        const auto got = ids.run(*stepper);
        for (std::size_t t = 0; t < got.size(); ++t)
          EXPECT_LT(difference(got[t], want[t]), 3e-3)
              << v.name << " step " << t << " graph " << options.graph << " plain " << options.plain;
      }
    }
  }
}

TEST_F(OnGpu, SlotsAreTheCpuCaches) {
  for (const Variant& v : kVariants) {
    ModelConfig c = config_of(v);
    c.head_dim = 32;
    const vi::testing::RandomWeights weights(c);
    for (const int step : {0, 2}) expect_slots_are_cpu_caches(c, small_codec(c, step), weights, at::Device(at::kCUDA, 0), 0.03);
  }
}

TEST_F(OnGpu, ManyFlushAsEachAlone) {
  ModelConfig c = config_of(kVariants[0]);
  c.head_dim = 32;
  expect_many_flush_as_each_alone(c, vi::testing::RandomWeights(c), at::Device(at::kCUDA, 0), 0.03);
}

ModelConfig wide_config() {
  ModelConfig c = vi::testing::random_config();
  c.hidden = 512, c.ffn = 1032, c.vocab = 1000;
  c.n_layers = 3, c.n_q_heads = 8, c.n_kv_heads = 2, c.head_dim = 128;
  c.max_position = 4096;
  return c;
}

std::shared_ptr<const codec::Codec> d4b8_codec(const ModelConfig& c, bool shared) {
  codec::CodecSpec spec;
  spec.window.recent = 128;
  spec.window.sinks = 4;
  if (shared) spec.window.step = 16;
  codec::TransformSet transforms{c.n_layers, c.n_kv_heads, c.head_dim, {}, {}};
  codec::CodebookSet books;
  codec::TransformSpec smooth;
  smooth.kind = codec::TransformKind::smooth;
  spec.key.transforms = {smooth, {}};
  const int n_books = shared ? 1 : c.head_dim / 4;
  for (codec::SideSpec* side : {&spec.key, &spec.value}) {
    side->code.kind = codec::CodeKind::vector;
    side->code.dsub = 4, side->code.bits = 8;
    side->code.scope = shared ? codec::BookScope::shared : codec::BookScope::subspace;
    codec::CodebookSide& book = side == &spec.key ? books.key : books.value;
    book = {c.n_layers, c.n_kv_heads, n_books, 256, 4, {}};
    book.centroids = vi::testing::normals(
        static_cast<std::size_t>(c.n_layers) * c.n_kv_heads * n_books * 1024, side == &spec.key ? 1 : 2);
    for (float& x : book.centroids) x = half_to_float(float_to_half(x));
  }
  for (int i = 0; i < c.n_layers * c.n_kv_heads; ++i) {
    transform::HeadTransform t;
    t.head_dim = c.head_dim;
    transform::Step scale, rotate;
    scale.kind = transform::Step::Kind::scale;
    scale.vector = vi::testing::normals(static_cast<std::size_t>(c.head_dim), 10 + i);
    for (float& x : scale.vector) x = 0.5f + std::abs(x);
    rotate.kind = transform::Step::Kind::hadamard;
    t.steps = {scale, rotate};
    transforms.key.push_back(t);
  }
  return std::make_shared<codec::Codec>(spec, c.n_layers, c.n_kv_heads, c.head_dim, transforms, books);
}

// Matrices scaled so that activations keep their size: a wide random model is no chaos then.
WeightSource tame_weights(const model::WeightFile& weights) {
  return [source = weights_of(weights)](const std::string& name, at::IntArrayRef shape) {
    const at::Tensor t = source(name, shape);
    return shape.size() < 2 ? t : t * (4.0 / std::sqrt(static_cast<double>(shape[1])));
  };
}

// Kernels against their twins, graphs against eager steps: 300 steps of ragged batches over the flushes.
TEST_F(OnGpu, GraphEagerAndPlainAgree) {
  const at::Device device(at::kCUDA, 0);
  ModelConfig c = wide_config();
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf})
    for (const int batch : {1, 3})
      for (const bool coded : {true, false}) {
        c.qkv_bias = batch == 3;
        c.qk_norm = dtype == at::kHalf;
        const vi::testing::RandomWeights weights(c);
        model::DecoderOptions engine_options;
        engine_options.device = device;
        engine_options.dtype = dtype;
        const auto engine = std::make_shared<GpuEngine>(c, tame_weights(weights), engine_options);
        const auto tables =
            coded ? std::make_shared<const eval::DeviceCodec>(d4b8_codec(c, batch == 3), device) : nullptr;
        const auto make = [&](const StepOptions& options) {
          auto stepper = std::make_unique<Stepper>(
              engine, std::make_unique<DeviceCache>(shape_of(c, batch, 1024, dtype), tables, device), options);
          for (int b = 0; b < batch; ++b)  // the last two fill their blocks together
            stepper->prefill(b, random_ids(200 + 77 * std::min(b, 1), c.vocab, 20 + b));
          return stepper;
        };
        const auto graph = make({}), eager = make({.graph = false}), plain = make({.graph = false, .plain = true});
        EXPECT_TRUE(coded ? graph->cache().kernel() == "lookup" || graph->cache().kernel() == "gather"
                          : graph->cache().kernel() == "dense");
        // Rows that differ by rounding get the same codes but for near ties; from the first block that fills
        // (the 60th step; with a step of 16 tokens the 12th) such codes are part of the cache, and a code more or less is seen in the logits:
        // an f32 and an f16 engine on the f64 oracles differ by as much (0.15).
        double worst = 0, before = 0;
        for (int t = 0; t < 300; ++t) {
          const auto ids = random_ids(batch, c.vocab, 100 + t);
          const at::Tensor a = graph->step(ids), b = eager->step(ids), p = plain->step(ids);
          ASSERT_TRUE(at::equal(a, b)) << "step " << t;
          ASSERT_TRUE(at::isfinite(a).all().item<bool>()) << "step " << t;
          worst = std::max(worst, difference(a, p));
          if (t < (batch == 3 ? 10 : 55)) before = worst;
        }
        std::printf("%s batch %d %s: kernels against twins, largest logit error %.1e before a block fills, %.1e after\n",
                    at::toString(dtype), batch, coded ? "d4b8" : "dense", before, worst);
        EXPECT_LT(before, dtype == at::kHalf ? 5e-3 : 4e-2);
        EXPECT_LT(worst, coded ? 0.4 : dtype == at::kHalf ? 5e-3 : 4e-2);
        EXPECT_EQ(graph->next(), eager->next());
      }
}

TEST_F(OnGpu, GemvIsTheF64Product) {
  const at::Device device(at::kCUDA, 0);
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf})
    for (const auto& [rows, columns] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {1, 8}, {2, 576}, {31, 1536}, {62, 4096}, {4096, 14336}, {1001, 264}}) {
      const auto options = at::TensorOptions().dtype(dtype).device(device);
      const at::Tensor x = at::randn({1, columns}, options), norm = at::randn({columns}, options);
      const Linear w{at::randn({rows, columns}, options) / std::sqrt(static_cast<double>(columns)),
                     at::randn({rows}, options)};
      at::Tensor scratch = at::empty_like(x);
      const at::Tensor xd = x.to(at::kDouble), wd = w.weight.to(at::kDouble), bd = w.bias.to(at::kDouble);
      const at::Tensor normed = xd * at::rsqrt(xd.square().mean() + 1e-5) * norm.to(at::kDouble);
      at::Tensor y = at::full({1, rows}, NAN, options.dtype(at::kFloat));
      linear(x, norm, 1e-5, w, false, y, scratch, false);
      EXPECT_LT(difference(y, at::mm(normed, wd.t()) + bd), 1e-5) << rows << " x " << columns;
      at::Tensor sum = at::randn({1, rows}, options);
      const at::Tensor want = sum.to(at::kDouble) + at::mm(xd, wd.t()) + bd;
      linear(x, {}, 0, w, true, sum, scratch, false);
      EXPECT_LT(difference(sum, want), dtype == at::kHalf ? 1e-3 : 5e-3) << rows << " x " << columns;
      if (rows % 2) continue;
      at::Tensor half = at::full({1, rows / 2}, NAN, options), both = at::empty({1, rows}, options);
      gated(x, norm, 1e-5, w, half, scratch, both, false);
      const auto parts = (at::mm(normed, wd.t()) + bd).chunk(2, -1);
      EXPECT_LT(difference(half, at::silu(parts[0]) * parts[1]), dtype == at::kHalf ? 1e-3 : 5e-3)
          << rows << " x " << columns;
    }
}

TEST_F(OnGpu, TooLittleMemoryNamesThePlan) {
  MemoryPlan plan;
  plan.add("everything", std::int64_t{1} << 50);
  try {
    check_fits(plan);
    FAIL() << "expected a CudaError";
  } catch (const CudaError& error) {
    EXPECT_NE(std::string(error.what()).find("everything 1048576.00 GiB"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("free"), std::string::npos);
  }
}

}  // namespace
}  // namespace vi::cuda
