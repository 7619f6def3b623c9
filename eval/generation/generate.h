// Text generation on a cache: exact (or `chunked`) prefill of the prompt, then one token at a time.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/cache/kv_cache.h"
#include "core/codec/codec.h"
#include "core/decoder/decoder.h"
#include "core/decoder/sampler.h"
#include "eval/generation/step_model.h"

namespace vi::eval {

enum class StopReason { end_token, task_stop, max_new_tokens, context_full };
constexpr auto enum_names(StopReason) {
  using P = std::pair<std::string_view, StopReason>;
  return std::array{P{"end_token", StopReason::end_token}, P{"task_stop", StopReason::task_stop},
                    P{"max_new_tokens", StopReason::max_new_tokens},
                    P{"context_full", StopReason::context_full}};
}
std::string_view name(StopReason reason);

struct GenerateSettings {
  model::SamplerSettings sampler;
  int max_new_tokens = 128;
  int min_new_tokens = 0;              // no end or stop id is chosen before this many
  std::vector<std::int32_t> end_ids;   // the model's end tokens
  std::vector<std::int32_t> stop_ids;  // the task's: end the text too
  std::int64_t context = 0;            // prompt and text together at most; 0: the model's context
  // Called after each token with the text so far; true ends the text (stop strings): task_stop.
  std::function<bool(std::span<const std::int32_t>)> stop;
  // > 0: `chunked` prefill of this many tokens (codec needed); 0: exact prefill.
  int prefill_chunk = 0;
  std::shared_ptr<const codec::Codec> codec;
};

struct Generation {
  std::vector<std::int32_t> ids;  // without the end or stop id that ended it
  StopReason reason = StopReason::max_new_tokens;
};

// One sequence under way: chooses tokens from the model's logits until it ends. Error if the prompt is empty or
// does not leave room for one token.
class Sequence {
 public:
  // `settings` outlive it; `context` where they say 0.
  Sequence(std::int64_t prompt_tokens, const GenerateSettings& settings, std::int64_t context);
  // The next token of logits [vocab]; false: the sequence has ended.
  bool take(std::span<const float> logits);
  // The same from the largest logits alone (model::Sampler); nothing where all are needed.
  std::optional<bool> take(std::span<const model::Candidate> largest, double mass);
  double temperature() const { return settings_.sampler.temperature; }
  std::int32_t id() const { return out_.ids.back(); }  // of the last take(), for the next step
  Generation&& result() && { return std::move(out_); }

 private:
  bool early() const { return std::ssize(out_.ids) < settings_.min_new_tokens; }
  bool accept(std::int32_t id);
  const GenerateSettings& settings_;
  std::int64_t prompt_tokens_, context_;
  model::Sampler sampler_;
  std::vector<std::int32_t> banned_;  // before min_new_tokens
  Generation out_;
};

// The cache is reset first and holds prompt and text afterwards (its last token apart). Interrupts
// are checked once a token. Error if the prompt is empty or does not leave room for one token.
Generation generate(const model::Decoder& decoder, std::span<const std::int32_t> prompt,
                    cache::KvCache& cache, const GenerateSettings& settings);
// The same on any model; prefill_chunk and codec are not used.
Generation generate(StepModel& model, std::span<const std::int32_t> prompt,
                    const GenerateSettings& settings);

}  // namespace vi::eval
