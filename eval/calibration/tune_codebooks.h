// Centroids tuned end to end, after k-means: gradient descent on how far the model's next-token
// distributions move when queries find older tokens coded (mode `window`), over calibration text. Codes stay
// nearest neighbours, chosen anew at every step; only the centroids move, so nothing changes at run time.
// Not in the paper; AQLM (arXiv 2401.06118) tunes weight codebooks alike.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/codec/codec.h"
#include "core/common/progress.h"
#include "core/decoder/decoder.h"

namespace vi::eval {

struct TuneSettings {
  int steps = 0;       // of Adam, one window each; the rate falls to 0 along a cosine
  double rate = 0.01;  // of the first step, in units of each codebook's root mean square
  int recent = 128, sinks = 0;  // exact tokens of mode `window`
  std::uint64_t seed = 0;       // order of the windows
};

// The codecs whose codebooks are tuned: `codec`, or of a composed one its members that have any, by their first layer.
std::vector<std::shared_ptr<const codec::Codec>> tuned_members(const std::shared_ptr<const codec::Codec>& codec);

struct TuneResult {
  std::vector<codec::CodebookSet> books;  // of tuned_members(); rounded to f16; the given ones if tuning did not help
  double before = 0, after = 0;  // Kullback-Leibler divergence on `held_out`, nats a token
  bool kept = false;             // whether `books` are the tuned ones
};

// Where the state after some steps is kept, so that a killed run goes on from there to the same bytes; empty: nowhere.
struct TuneCheckpoint {
  std::function<std::optional<std::string>()> load;
  std::function<void(std::string_view)> save;
};

// decoder: plain and f32 (core/decoder/decoder.h: autograd goes through ATen operations only), on any
// device. codec: plain vector codes on at least one side, else Error; composed: of every member that codes anything, and
// all are tuned together, each by the layers it codes. windows, held_out: token ids, not
// empty. Memory grows with window length squared x query heads x layers: 7 GiB at 1024 tokens of a model of
// 135M parameters; the hidden states of all windows are kept beside. Interrupts are checked in each layer; `progress` advances by one a step.
TuneResult tune_codebooks(const model::Decoder& decoder, std::shared_ptr<const codec::Codec> codec,
                          const std::vector<std::vector<std::int32_t>>& windows,
                          const std::vector<std::vector<std::int32_t>>& held_out, const TuneSettings& settings,
                          Progress& progress, const TuneCheckpoint& checkpoint = {});

}  // namespace vi::eval
