#include "eval/generation/generate.h"

#include <algorithm>

#include "core/common/error.h"
#include "core/common/interrupt.h"
#include "core/model/model_config.h"

namespace vi::eval {
namespace {

bool holds(const std::vector<std::int32_t>& ids, std::int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

std::string_view name(StopReason reason) {
  return enum_names(reason)[static_cast<std::size_t>(reason)].first;
}

Generation generate(const model::Decoder& decoder, std::span<const std::int32_t> prompt,
                    cache::KvCache& cache, const GenerateSettings& settings) {
  return generate(*make_cache_model(decoder, cache, settings.codec, settings.prefill_chunk), prompt, settings);
}

Sequence::Sequence(std::int64_t prompt_tokens, const GenerateSettings& settings, std::int64_t context)
    : settings_(settings),
      prompt_tokens_(prompt_tokens),
      context_(settings.context > 0 ? settings.context : context),
      sampler_(settings.sampler),
      banned_(settings.end_ids) {
  if (prompt_tokens == 0) fail("an empty prompt");
  if (context_ > 0 && prompt_tokens >= context_)
    fail("a prompt of {} tokens: expected fewer than the context's {}", prompt_tokens, context_);
  VI_CHECK(settings.max_new_tokens > 0, "max_new_tokens {}", settings.max_new_tokens);
  banned_.insert(banned_.end(), settings.stop_ids.begin(), settings.stop_ids.end());
}

bool Sequence::take(std::span<const float> logits) {
  return accept(sampler_.next(logits, early() ? std::span<const std::int32_t>(banned_) : std::span<const std::int32_t>()));
}

std::optional<bool> Sequence::take(std::span<const model::Candidate> largest, double mass) {
  if (early() && !banned_.empty()) return std::nullopt;
  const auto id = sampler_.next(largest, mass);
  return id ? std::optional(accept(*id)) : std::nullopt;
}

bool Sequence::accept(std::int32_t id) {
  const auto end = [&](StopReason reason) {
    out_.reason = reason;
    return false;
  };
  if (holds(settings_.end_ids, id)) return end(StopReason::end_token);
  if (holds(settings_.stop_ids, id)) return end(StopReason::task_stop);
  out_.ids.push_back(id);
  if (settings_.stop && settings_.stop(out_.ids)) return end(StopReason::task_stop);
  if (std::ssize(out_.ids) >= settings_.max_new_tokens) return end(StopReason::max_new_tokens);
  if (context_ > 0 && prompt_tokens_ + std::ssize(out_.ids) >= context_) return end(StopReason::context_full);
  return true;
}

Generation generate(StepModel& model, std::span<const std::int32_t> prompt,
                    const GenerateSettings& settings) {
  Sequence sequence(std::ssize(prompt), settings, model.config().max_position);
  model.reset();
  at::Tensor scores = model.prefill(prompt);
  for (;;) {
    check_interrupt();
    const at::Tensor logits = scores.to(at::kCPU).contiguous();
    if (!sequence.take({logits.const_data_ptr<float>(), static_cast<std::size_t>(logits.numel())})) break;
    scores = model.step(sequence.id());
  }
  return std::move(sequence).result();
}

}  // namespace vi::eval
