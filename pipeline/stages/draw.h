// Which tokens of the calibration text are looked at: sequences drawn by a reservoir while the text streams
// by, and an even sample of their tokens. dump and statistics draw the same.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/session.h"

namespace vi::pipeline {

struct Sequence {
  std::int64_t ordinal = 0;  // among all sequences of the text
  std::int32_t doc = 0;
  std::vector<std::int32_t> ids;
};

// Memory is bounded by the drawn token ids, whatever the text's length. ContractError: text too short.
std::vector<Sequence> draw_sequences(Session& session);

// Indices floor(i * total / n), i < n: an even sample of [0, total).
std::vector<std::int64_t> even_sample(std::int64_t total, std::int64_t n);

}  // namespace vi::pipeline
