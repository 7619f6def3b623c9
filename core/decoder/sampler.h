// Choosing the next token: greedy, or seeded temperature and nucleus (top-p) sampling.
// Invariant: the same logits, settings and seed give the same token on every machine with the same
// logits: ties go to the lower id, the nucleus is summed in sorted order, random numbers are core/common/rng.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/common/rng.h"

namespace vi::model {

struct SamplerSettings {
  double temperature = 0.0;  // 0: greedy, the seed is unused
  double top_p = 1.0;  // in (0, 1]: the smallest set of most likely tokens of at least this mass
  std::uint64_t seed = 0;
};

using Candidate = std::pair<float, std::int32_t>;  // a logit and its token

class Sampler {
 public:
  explicit Sampler(const SamplerSettings& settings);  // Error if a setting is out of range
  // One token of logits [vocab]; ids in `banned` are never chosen. Error if no logit is finite.
  std::int32_t next(std::span<const float> logits, std::span<const std::int32_t> banned = {});
  // The same from the largest logits alone, in any order, and the sum over all tokens of exp((logit - largest) / temperature):
  // what a device can find. Nothing, and no number drawn, where they do not decide: too wide a nucleus, a tie at their end.
  std::optional<std::int32_t> next(std::span<const Candidate> largest, double mass);
  const SamplerSettings& settings() const { return settings_; }

 private:
  std::int32_t pick(double drawn, double total) const;
  SamplerSettings settings_;
  Rng rng_;
  std::vector<Candidate> order_;  // scratch: candidates, the likeliest first as far as needed
  std::vector<double> mass_;                           // their running sums, the nucleus only
};

}  // namespace vi::model
