// Batched generation against one sequence at a time: logits byte for byte, texts, stop reasons, and what happens
// where memory is short.
#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <new>
#include <set>

#include "core/common/out_of_memory.h"
#include "eval/generation/generate_batch.h"
#include "tests/support/random_codec.h"
#include "tests/support/random_model.h"

namespace vi::eval {
namespace {

using vi::testing::random_ids;

using CodecPtr = std::shared_ptr<const codec::Codec>;

struct Kind {
  std::string name;
  CodecPtr codec;  // null: exact
  bool reconstructing = false;
};

struct Fixture {
  explicit Fixture(at::ScalarType dtype = at::kFloat)
      : config(vi::testing::random_config()), weights(config), decoder(config, weights, {dtype}) {}
  std::vector<Kind> kinds() const {
    codec::WindowSpec block, sliding;
    block.recent = 8, block.sinks = 2;
    sliding = block;
    sliding.key_flush = sliding.value_flush = codec::Flush::sliding;
    const auto vector = [&](const codec::WindowSpec& w) {
      return vi::testing::random_vector_codec(config.n_layers, config.n_kv_heads, config.head_dim, w);
    };
    const auto integer = vi::testing::integer_codec(config.n_layers, config.n_kv_heads, config.head_dim, block);
    return {{"exact", nullptr},         {"vector", vector(block)},          {"sliding", vector(sliding)},
            {"integer", integer},       {"reconstructed exact", nullptr, true}, {"reconstructed", vector(block), true}};
  }
  std::unique_ptr<StepModel> one(const Kind& kind) const {
    return kind.reconstructing ? make_reconstructing_model(decoder, kind.codec)
                               : make_step_model(decoder, kind.codec, 512);
  }
  std::unique_ptr<BatchModel> many(const Kind& kind, int slots) const {
    return kind.reconstructing ? make_reconstructing_batch(decoder, kind.codec, slots)
                               : make_batch_model(decoder, kind.codec, slots, 512);
  }
  model::ModelConfig config;
  vi::testing::RandomWeights weights;
  model::Decoder decoder;
};

// Twelve requests of every kind: greedy and sampled, with end, stop and text rules, long and short.
std::vector<BatchRequest> requests_of(const Fixture& f) {
  std::vector<BatchRequest> out;
  for (std::size_t i = 0; i < 12; ++i) {
    BatchRequest r;
    r.index = i;
    r.prompt = random_ids(3 + 7 * static_cast<std::int64_t>(i * 5 % 12), f.config.vocab, 40 + i);
    r.settings.max_new_tokens = 4 + static_cast<int>(i * 7 % 20);
    if (i % 3) r.settings.sampler = {1.5, 0.9, 7 + i};
    if (i % 4 == 1) r.settings.end_ids = {0, 5, 9, 11, 17, 23, 30};
    if (i % 4 == 2) r.settings.stop_ids = {2, 3, 4, 8, 20, 21, 22}, r.settings.min_new_tokens = 2;
    if (i == 7) r.settings.stop = [](std::span<const std::int32_t> ids) { return ids.size() == 3; };
    if (i == 8) r.settings.context = std::ssize(r.prompt) + 2;
    out.push_back(std::move(r));
  }
  return out;
}

using Texts = std::map<std::size_t, std::pair<std::vector<std::int32_t>, StopReason>>;

struct Outcome {
  Texts texts;
  std::vector<std::string> notes;
  int least = 0;
};

Outcome run(std::vector<BatchRequest> requests, int slots, const BatchFactory& make, std::int64_t context = 512, bool by_largest = false) {
  Outcome out;
  BatchEvents events;
  events.done = [&](std::size_t index, Generation&& g) {
    EXPECT_TRUE(out.texts.emplace(index, std::pair(g.ids, g.reason)).second) << "request " << index << " twice";
  };
  events.note = [&](const std::string& line) { out.notes.push_back(line); };
  out.least = generate_batch(std::move(requests), slots, context, make, events, by_largest);
  return out;
}

Texts one_by_one(const Fixture& f, const Kind& kind) {
  Texts out;
  const auto model = f.one(kind);
  for (const BatchRequest& r : requests_of(f)) {
    const Generation g = generate(*model, r.prompt, r.settings);
    out[r.index] = {g.ids, g.reason};
  }
  return out;
}

// Sequences come and go in three slots; every row of every step is compared with the sequence alone.
TEST(BatchModel, LogitsAreThoseOfOneSequenceByteForByte) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Fixture f(dtype);
    for (const Kind& kind : f.kinds()) {
      const auto batch = f.many(kind, 3);
      std::vector<std::unique_ptr<StepModel>> alone;
      for (int i = 0; i < 3; ++i) alone.push_back(f.one(kind));
      const auto expect_same = [&](const at::Tensor& row, const at::Tensor& want, int step) {
        const at::Tensor a = row.contiguous(), b = want.contiguous();
        ASSERT_EQ(a.numel(), b.numel());
        EXPECT_EQ(std::memcmp(a.const_data_ptr(), b.const_data_ptr(), b.nbytes()), 0)
            << kind.name << " " << at::toString(dtype) << " step " << step;
      };
      const auto begin = [&](int slot, int n, int step) {
        const auto prompt = random_ids(n, f.config.vocab, static_cast<std::uint64_t>(n));
        alone[static_cast<std::size_t>(slot)]->reset();
        expect_same(batch->prefill(slot, prompt), alone[static_cast<std::size_t>(slot)]->prefill(prompt), step);
      };
      begin(0, 40, -1), begin(1, 2, -1), begin(2, 17, -1);
      for (int step = 0; step < 40; ++step) {
        if (step == 10) begin(1, 33, step);  // refilled while the others wait
        if (step == 20) batch->release(0);
        std::vector<SlotToken> tokens;
        for (int slot = 2; slot >= 0; --slot)  // rows in another order than slots
          if (slot > 0 || step < 20)
            tokens.push_back({slot, static_cast<std::int32_t>((step * 13 + slot * 5) % f.config.vocab)});
        const at::Tensor logits = batch->step(tokens).clone();
        for (std::size_t i = 0; i < tokens.size(); ++i)
          expect_same(logits.narrow(0, static_cast<std::int64_t>(i), 1),
                      alone[static_cast<std::size_t>(tokens[i].slot)]->step(tokens[i].id), step);
      }
    }
  }
}

TEST(GenerateBatch, TextsDependOnNoBatchAndNoOrder) {
  const Fixture f;
  for (const Kind& kind : f.kinds()) {
    const Texts want = one_by_one(f, kind);
    const BatchFactory make = [&](int slots, std::int64_t) { return f.many(kind, slots); };
    for (const int slots : {1, 3, 8}) {
      std::vector<BatchRequest> requests = requests_of(f);
      EXPECT_EQ(run(requests, slots, make).texts, want) << kind.name << " " << slots;
      EXPECT_EQ(run(requests, slots, make, 512, true).texts, want) << kind.name << " " << slots << ", by the largest logits";
      if (slots == 1) continue;
      std::reverse(requests.begin(), requests.end());
      std::rotate(requests.begin(), requests.begin() + slots, requests.end());
      EXPECT_EQ(run(requests, slots, make).texts, want) << kind.name << " " << slots << ", another order";
    }
    std::set<StopReason> reasons;
    for (const auto& [index, text] : want) reasons.insert(text.second);
    EXPECT_EQ(reasons.size(), 4u) << "a stop reason is not met";
  }
}

// A model that counts, and runs out of memory where it is told to.
struct Script {
  int models = 0, prefills = 0, steps = 0, rows = 0;
  int most_slots = 1000;       // making more is refused
  int failing_prefill = -1;    // std::bad_alloc at this one
  int failing_step = -1;       // c10::OutOfMemoryError at this one
  std::vector<std::int64_t> capacities;
};

class Scripted final : public BatchModel {
 public:
  Scripted(std::unique_ptr<BatchModel> model, Script& script) : model_(std::move(model)), script_(script) {}
  const model::ModelConfig& config() const override { return model_->config(); }
  int slots() const override { return model_->slots(); }
  at::Tensor prefill(int slot, std::span<const std::int32_t> prompt) override {
    if (script_.prefills++ == script_.failing_prefill) throw std::bad_alloc();
    return model_->prefill(slot, prompt);
  }
  at::Tensor step(std::span<const SlotToken> tokens) override {
    if (script_.steps++ == script_.failing_step) TORCH_CHECK_WITH(OutOfMemoryError, false, "no room");
    script_.rows += static_cast<int>(tokens.size());
    return model_->step(tokens);
  }
  void release(int slot) override { model_->release(slot); }

 private:
  std::unique_ptr<BatchModel> model_;
  Script& script_;
};

BatchFactory scripted(const Fixture& f, const Kind& kind, Script& script) {
  return [&f, kind, &script](int slots, std::int64_t capacity) -> std::unique_ptr<BatchModel> {
    ++script.models;
    script.capacities.push_back(capacity);
    if (slots > script.most_slots) fail<OutOfMemoryError>("the plan needs more than there is");
    return std::make_unique<Scripted>(f.many(kind, slots), script);
  };
}

TEST(GenerateBatch, EndedSequencesMakeRoomAtOnce) {
  const Fixture f;
  std::vector<BatchRequest> requests;
  for (std::size_t i = 0; i < 9; ++i) {  // the first is long, the others short
    requests.push_back({i, random_ids(5, f.config.vocab, i), {}});
    requests.back().settings.max_new_tokens = i == 0 ? 33 : 5;
  }
  Script script;
  EXPECT_EQ(run(requests, 3, scripted(f, f.kinds()[0], script)).texts.size(), 9u);
  EXPECT_EQ(script.models, 1);
  EXPECT_EQ(script.prefills, 9);
  EXPECT_EQ(script.rows, 32 + 8 * 4);  // nothing is stepped that nobody reads
  EXPECT_EQ(script.steps, 32);         // two slots take the eight short ones while the long one goes on
}

TEST(GenerateBatch, LikeLengthsShareAModel) {
  EXPECT_EQ(bucket_capacity(1, 0), 2048);
  EXPECT_EQ(bucket_capacity(2048, 0), 2048);
  EXPECT_EQ(bucket_capacity(2049, 0), 4096);
  EXPECT_EQ(bucket_capacity(100, 512), 512);
  EXPECT_EQ(bucket_capacity(5000, 6000), 6000);
  const Fixture f;
  std::vector<BatchRequest> requests;
  for (std::size_t i = 0; i < 4; ++i) {
    requests.push_back({i, random_ids(4, f.config.vocab, i), {}});
    requests.back().settings.max_new_tokens = i % 2 ? 3000 : 3;
    requests.back().settings.stop = [](std::span<const std::int32_t> ids) { return ids.size() == 2; };
  }
  Script script;
  EXPECT_EQ(run(requests, 2, scripted(f, f.kinds()[0], script), 1 << 20).texts.size(), 4u);
  EXPECT_THAT(script.capacities, ::testing::ElementsAre(4096, 2048));
}

TEST(GenerateBatch, MemoryThatRunsOutHalvesTheBatchAndLosesNothing) {
  const Fixture f;
  const Kind kind = f.kinds()[1];
  const Texts want = one_by_one(f, kind);
  for (const auto& [refused, prefill, step, least] :
       std::vector<std::tuple<int, int, int, int>>{{3, -1, -1, 2}, {1000, 0, -1, 4}, {1000, 9, -1, 4}, {1000, -1, 0, 4},
                                                   {1000, -1, 6, 4}, {4, 5, -1, 2}}) {
    Script script;
    script.most_slots = refused, script.failing_prefill = prefill, script.failing_step = step;
    const Outcome got = run(requests_of(f), 8, scripted(f, kind, script));
    EXPECT_EQ(got.texts, want) << refused << " " << prefill << " " << step;
    EXPECT_EQ(got.least, least) << refused << " " << prefill << " " << step;
    ASSERT_FALSE(got.notes.empty());
    EXPECT_NE(got.notes[0].find("batch of 8 up to 512 tokens: "), std::string::npos) << got.notes[0];
    EXPECT_NE(got.notes[0].find("going on with 4"), std::string::npos) << got.notes[0];
    EXPECT_EQ(got.notes[0].find('\n'), std::string::npos);
  }
  Script script;
  script.most_slots = 0;
  EXPECT_THROW(run(requests_of(f), 8, scripted(f, kind, script)), OutOfMemoryError);
  EXPECT_EQ(script.models, 4);  // 8, 4, 2, 1
}

TEST(GenerateBatch, RefusesWhatOneSequenceRefuses) {
  const Fixture f;
  const BatchFactory make = [&](int slots, std::int64_t) { return f.many(f.kinds()[0], slots); };
  EXPECT_THROW(run({{0, {}, {}}}, 2, make), Error);
  EXPECT_THROW(run({{0, random_ids(600, f.config.vocab, 1), {}}}, 2, make), Error);
  EXPECT_THROW(run({}, 0, make), Error);
  EXPECT_TRUE(run({}, 2, make).texts.empty());
  // Not even one cache of this length: a plan of two is refused before anything is taken.
  EXPECT_THROW(make_batch_model(f.decoder, nullptr, 2, std::int64_t{1} << 40), OutOfMemoryError);
}

}  // namespace
}  // namespace vi::eval
