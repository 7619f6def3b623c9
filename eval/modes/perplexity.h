// Perplexity of a text: consecutive windows of `window` tokens from its start, no BOS, each its own
// context. A window is the unit of resuming: its result is two numbers.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/codec/codec.h"
#include "core/config/options.h"
#include "core/decoder/decoder.h"

namespace vi::eval {

// all     every key and value reconstructed inside the forward, the query's own included
// window  each query sees its newest `recent` and the first `sinks` tokens exactly, the rest
// reconstructed stream  `prefill` tokens exactly, then true token-by-token decode on the coded
// cache with its flush rule
enum class PerplexityMode { all, window, stream };
constexpr auto enum_names(PerplexityMode) {
  using P = std::pair<std::string_view, PerplexityMode>;
  return std::array{P{"all", PerplexityMode::all}, P{"window", PerplexityMode::window},
                    P{"stream", PerplexityMode::stream}};
}

struct PerplexitySettings {
  PerplexityMode mode = PerplexityMode::window;
  int window = 2048;   // tokens of a window, at least 2
  int count = 16;      // windows of a file at most; 0: all
  int prefill = 1024;  // stream: tokens before the first decoded one, 1..window-1
  int stride = 0;      // tokens from one window to the next; 0: window
  template <class V>
  void visit(V& v) {
    v("mode", mode, "all | window | stream");
    v("window", window, "tokens of a window");
    v("count", count, "windows of each file at most, 0: all");
    v("prefill", prefill, "stream: tokens prefilled exactly before decoding");
    v("stride", stride, "tokens from one window to the next, 0: window");
  }
  void check(const config::Mark& mark) const;
};

struct WindowScore {
  double nll = 0.0;         // sum over the scored tokens, nats
  std::int64_t tokens = 0;  // scored: window - 1 or stride (all, window), window - prefill (stream)
};

// The whole windows of a text: views into ids; empty if the text is shorter than one window.
std::vector<std::span<const std::int32_t>> text_windows(std::span<const std::int32_t> ids,
                                                        const PerplexitySettings& settings);

// One window. codec == nullptr, or one that is exact on both sides, gives full precision (mode
// `stream` then decodes on a dense cache). With a stride below the window, a window that is not the
// first of its text scores its newest `stride` tokens only, so that each token is scored once.
WindowScore score_window(const model::Decoder& decoder, std::span<const std::int32_t> window,
                         const PerplexitySettings& settings,
                         std::shared_ptr<const codec::Codec> codec, bool first = true);

// exp(sum nll / sum tokens); Error if nothing was scored.
double perplexity(std::span<const WindowScore> scores);

}  // namespace vi::eval
