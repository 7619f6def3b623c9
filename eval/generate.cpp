#include "eval/generate.h"

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

Generation generate(StepModel& model, std::span<const std::int32_t> prompt,
                    const GenerateSettings& settings) {
  const std::int64_t context =
      settings.context > 0 ? settings.context : model.config().max_position;
  if (prompt.empty()) fail("an empty prompt");
  if (context > 0 && std::ssize(prompt) >= context)
    fail("a prompt of {} tokens: expected fewer than the context's {}", prompt.size(), context);
  VI_CHECK(settings.max_new_tokens > 0, "max_new_tokens {}", settings.max_new_tokens);

  model.reset();
  std::vector<std::int32_t> banned = settings.end_ids;
  banned.insert(banned.end(), settings.stop_ids.begin(), settings.stop_ids.end());
  model::Sampler sampler(settings.sampler);
  Generation out;
  at::Tensor scores = model.prefill(prompt);
  for (;;) {
    check_interrupt();
    const at::Tensor logits = scores.to(at::kCPU).contiguous();
    const bool early = std::ssize(out.ids) < settings.min_new_tokens;
    const std::int32_t id = sampler.next(
        {logits.const_data_ptr<float>(), static_cast<std::size_t>(logits.numel())},
        early ? std::span<const std::int32_t>(banned) : std::span<const std::int32_t>());
    if (holds(settings.end_ids, id)) {
      out.reason = StopReason::end_token;
      break;
    }
    if (holds(settings.stop_ids, id)) {
      out.reason = StopReason::task_stop;
      break;
    }
    out.ids.push_back(id);
    if (settings.stop && settings.stop(out.ids)) {
      out.reason = StopReason::task_stop;
      break;
    }
    if (std::ssize(out.ids) >= settings.max_new_tokens) {
      out.reason = StopReason::max_new_tokens;
      break;
    }
    const std::int64_t position = std::ssize(prompt) + std::ssize(out.ids) - 1;
    if (context > 0 && position + 1 >= context) {
      out.reason = StopReason::context_full;
      break;
    }
    scores = model.step(id);
  }
  return out;
}

}  // namespace vi::eval
