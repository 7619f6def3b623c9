#include "eval/modes/perplexity.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/cache/kv_cache.h"
#include "core/common/error.h"
#include "core/common/interrupt.h"
#include "core/model/model_config.h"
#include "eval/modes/modes.h"
#include "eval/generation/step_model.h"

namespace vi::eval {
namespace {

using Ids = std::span<const std::int32_t>;

bool is_exact(const codec::Codec* codec) { return codec == nullptr || codec->exact(); }

std::unique_ptr<model::AttentionHook> make_hook(PerplexityMode mode,
                                                std::shared_ptr<const codec::Codec> codec) {
  if (is_exact(codec.get())) return std::make_unique<ExactAttention>();
  if (mode == PerplexityMode::all) return std::make_unique<AllAttention>(std::move(codec));
  return std::make_unique<WindowAttention>(std::move(codec));
}

WindowScore sum(const std::vector<double>& nll) {
  WindowScore score;
  for (const double x : nll) score.nll += x;
  score.tokens = std::ssize(nll);
  if (!std::isfinite(score.nll))
    fail("a window's log-loss is {}: the model's numbers overflow", score.nll);
  return score;
}

// Teacher forcing knows every token beforehand, so the decoder may take all of them through a layer
// at once: rows do not depend on each other, and in each layer the hook appends and attends token
// by token, just as single steps would. The bytes are those of single steps
// (tests/eval/modes_test.cpp).
WindowScore stream(const model::Decoder& decoder, Ids window, std::int64_t prefill,
                   const std::shared_ptr<const codec::Codec>& codec) {
  const model::ModelConfig& c = decoder.config();
  const auto cache = is_exact(codec.get()) ? cache::make_dense_cache(c.n_layers, c.n_q_heads,
                                                                     c.n_kv_heads, c.head_dim)
                                           : cache::make_coded_cache(codec, c.n_q_heads);
  PrefillAttention prefill_hook(*cache);
  const at::Tensor before =
      decoder.forward(window.first(static_cast<std::size_t>(prefill)), 0, prefill_hook);
  const auto rest = window.subspan(static_cast<std::size_t>(prefill));
  std::vector<double> nll = decoder.nll(before.narrow(0, prefill - 1, 1), rest.first(1));
  DecodeAttention decode_hook(*cache);
  const at::Tensor after = decoder.forward(rest.first(rest.size() - 1), prefill, decode_hook);
  const std::vector<double> decoded = decoder.nll(after, rest.subspan(1));
  nll.insert(nll.end(), decoded.begin(), decoded.end());
  return sum(nll);
}

// On a GPU: token by token, as generation decodes.
WindowScore stream_steps(const model::Decoder& decoder, Ids window, std::int64_t prefill,
                         const std::shared_ptr<const codec::Codec>& codec) {
  const auto model = make_step_model(decoder, codec, std::ssize(window));
  std::vector<double> nll;
  at::Tensor scores = model->prefill(window.first(static_cast<std::size_t>(prefill)));
  for (const std::int32_t id : window.subspan(static_cast<std::size_t>(prefill))) {
    if (!nll.empty()) {
      check_interrupt();
      scores = model->step(window[static_cast<std::size_t>(prefill) + nll.size() - 1]);
    }
    nll.push_back((scores.logsumexp(1) - scores.select(1, id)).item<double>());
  }
  return sum(nll);
}

}  // namespace

void PerplexitySettings::check(const config::Mark& mark) const {
  if (window < 2) config::config_fail(mark, "window is {}, expected at least 2 tokens", window);
  if (count < 0) config::config_fail(mark, "count is {}, expected 0 (all) or more windows", count);
  if (mode == PerplexityMode::stream && (prefill < 1 || prefill >= window))
    config::config_fail(mark, "prefill is {}, expected 1..{}", prefill, window - 1);
  if (stride < 0 || stride > window)
    config::config_fail(mark, "stride is {}, expected 0 (the window) to {}", stride, window);
  if (mode == PerplexityMode::stream && stride != 0 && stride != window)
    config::config_fail(mark, "stride belongs to modes all and window");
}

std::vector<Ids> text_windows(Ids ids, const PerplexitySettings& settings) {
  std::vector<Ids> out;
  const auto size = static_cast<std::size_t>(settings.window);
  const auto stride = settings.stride > 0 ? static_cast<std::size_t>(settings.stride) : size;
  for (std::size_t at = 0; at + size <= ids.size(); at += stride) {
    if (settings.count > 0 && std::ssize(out) == settings.count) break;
    out.push_back(ids.subspan(at, size));
  }
  return out;
}

WindowScore score_window(const model::Decoder& decoder, Ids window,
                         const PerplexitySettings& settings,
                         std::shared_ptr<const codec::Codec> codec, bool first) {
  const auto n = std::ssize(window);
  VI_CHECK(n >= 2, "a window of {} tokens", n);
  if (settings.mode == PerplexityMode::stream) {
    VI_CHECK(settings.prefill >= 1 && settings.prefill < n, "prefill {} of {} tokens",
             settings.prefill, n);
    return decoder.options().device.is_cpu()
               ? stream(decoder, window, settings.prefill, codec)
               : stream_steps(decoder, window, settings.prefill, codec);
  }
  const auto hook = make_hook(settings.mode, std::move(codec));
  const at::Tensor hidden = decoder.forward(window.first(window.size() - 1), 0, *hook);
  const std::int64_t scored = first || settings.stride == 0 ? n - 1 : std::min<std::int64_t>(settings.stride, n - 1);
  return sum(decoder.nll(hidden.narrow(0, n - 1 - scored, scored), window.last(static_cast<std::size_t>(scored))));
}

double perplexity(std::span<const WindowScore> scores) {
  double nll = 0.0;
  std::int64_t tokens = 0;
  for (const WindowScore& score : scores) {
    nll += score.nll;
    tokens += score.tokens;
  }
  if (tokens == 0) fail("no token was scored");
  return std::exp(nll / static_cast<double>(tokens));
}

}  // namespace vi::eval
