// What sampling needs of the logits of a batch, found where they are: a GPU's 256 sequences of 152 thousand logits are 156 MB a step,
// and reading them all on the CPU takes longer than the step.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "core/decoder/sampler.h"

namespace vi::eval {

struct LargestLogits {
  std::vector<model::Candidate> candidates;  // [n, count]: the largest of each row, in no order
  std::vector<double> mass;                  // [n]: sum over the row of exp((logit - largest) / temperature)
  std::size_t count = 0;
  std::span<const model::Candidate> row(std::size_t i) const { return std::span(candidates).subspan(i * count, count); }
};

// Of f32 logits [n, vocab] on any device; a temperature for each row, 0 for greedy rows (their mass is not used).
LargestLogits largest_logits(const at::Tensor& logits, std::span<const double> temperatures, int count = 64);

}  // namespace vi::eval
