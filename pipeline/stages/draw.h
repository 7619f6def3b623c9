// Which tokens of the calibration text are looked at: sequences drawn by a reservoir while the text streams
// by, and an even sample of their tokens; or what the model wrote (stage `text`). dump, statistics, gradients and tune draw the same.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/graph.h"
#include "pipeline/session.h"

namespace vi::pipeline {

struct Sequence {
  std::int64_t ordinal = 0;  // among all sequences of the text
  std::int32_t doc = 0;
  std::vector<std::int32_t> ids;
};

// Memory is bounded by the drawn token ids, whatever the text's length. ContractError: text too short.
std::vector<Sequence> draw_sequences(StageContext& context);

// An even sample of the sequences' tokens, laid end to end: tokens floor(i * total / n), i < n, or all where there are
// fewer than `most`.
struct TokenSample {
  std::vector<std::vector<std::int64_t>> rows;  // of each sequence, ascending
  std::int64_t n = 0;                           // of all together
};
TokenSample even_sample(const std::vector<Sequence>& sequences, std::int64_t most);

}  // namespace vi::pipeline
