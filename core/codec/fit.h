// A codec fitted to samples in memory, as the stages calibrate, transform and books fit it to files: for one tensor
// (`vecinfer reconstruct`) and for tests.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/codec/train.h"
#include "core/transform/calibrate.h"

namespace vi::codec {

struct FitSamples {
  int n_layers = 1, n_kv_heads = 0, head_dim = 0;
  std::int64_t n_tokens = 0;
  std::vector<std::vector<float>> key, value;  // [layer * n_kv_heads + head]: [n_tokens, head_dim], keys post-RoPE
  std::vector<double> rope;                    // [head_dim / 2] radians a token; what a pre-RoPE tap needs
};

// What some methods ask beside the samples; a source that is not given is an Error of the method that needs it.
struct FitSources {
  std::function<std::vector<double>(Side side, int layer, int head, transform::Moment moment)> moment;
  // [n_tokens] or, for `fisher`, [n_tokens, head_dim / dsub]
  std::function<std::vector<float>(Side side, int layer, int head, const SideSpec& spec)> weights;
};

// Fisher weights, not yet tempered: of gradients [n_tokens, head_dim] the sums of squares of each sub-vector [n_tokens, head_dim / dsub].
std::vector<float> fisher_weights(std::span<const float> gradients, int dsub);

// Tokens stand at positions 0, 1, ... ConfigError with no `rope` for a pre-RoPE tap.
std::shared_ptr<const Codec> fit(const CodecSpec& spec, const FitSamples& samples, const TrainSettings& settings,
                                 const FitSources& sources = {});

// Integer groups of channels wider than the head become the head: a group of 128 at head_dim 64 is one of 64 (and costs
// what that costs). True if any did.
bool fit_groups(CodecSpec& spec, int head_dim);

}  // namespace vi::codec
