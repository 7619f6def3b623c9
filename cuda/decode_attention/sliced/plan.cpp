#include "cuda/decode_attention/sliced/plan.h"

#include <algorithm>

#include "cuda/decode_attention/select.h"

namespace vi::cuda {
namespace {

constexpr std::size_t kShared = 227 * 1024;

bool serves(const CodeShape& s, int head_dim) {
  return (s.dsub == 2 || s.dsub == 4 || s.dsub == 8) && (s.code_bits == 8 || s.code_bits == 10 || s.code_bits == 12) &&
         head_dim % s.dsub == 0 && head_dim / s.dsub % 4 == 0;  // rows of codes are read 16 bytes at once
}

// CTAs a slice: the cheapest number of waves, a CTA costing its table (in tokens of the slice) and its share of tokens.
int splits_for(std::int64_t ctas, int capacity, int table_tokens, int n_sms) {
  const int most = std::clamp((capacity + 1023) / 1024, 1, 64);
  int best = 1;
  std::int64_t least = -1;
  for (int s = 1; s <= most; ++s) {
    const std::int64_t waves = (ctas * s + n_sms - 1) / n_sms, cost = waves * (table_tokens + (capacity + s - 1) / s);
    if (least < 0 || cost < least) least = cost, best = s;
  }
  return best;
}

// Even slices of at most `most` of n sub-spaces.
void cut(int n, int most, int& books, int& slices) {
  slices = (n + most - 1) / most;
  books = (n + slices - 1) / slices;
  slices = (n + books - 1) / books;
}

}  // namespace

bool sliced_serves(const Problem& p) {
  return p.head_dim <= 256 && serves(p.key, p.head_dim) && serves(p.value, p.head_dim);
}

SlicedPlan plan_sliced(const Problem& p) {
  SlicedPlan plan;
  const int group = p.n_q_heads / p.n_kv_heads;
  plan.passes = (group + kSlicedHeads - 1) / kSlicedHeads;
  const std::size_t entry = 2 * kSlicedHeads;  // bytes
  cut(p.head_dim / p.key.dsub, static_cast<int>((kShared - kSlicedQueryBytes - entry) / (entry << p.key.code_bits)), plan.key_books,
      plan.key_slices);
  plan.key_bytes = kSlicedQueryBytes + entry + ((entry * plan.key_books) << p.key.code_bits);
  const std::size_t book = std::size_t{2} * p.value.dsub << p.value.code_bits;
  const int registers = p.value.dsub == 8 ? 16 : 32;  // sub-spaces whose sums a warp's registers hold
  cut(p.head_dim / p.value.dsub, std::min(registers, static_cast<int>(kShared / book)), plan.value_books, plan.value_slices);
  plan.value_rows = plan.value_books <= 8 ? 1 : plan.value_books <= 16 ? 2 : 4;
  const std::size_t merge = sizeof(float) * kSlicedValueWarps * kSlicedHeads * (2 + plan.value_books * p.value.dsub);
  plan.value_bytes = std::max(book * plan.value_books, merge);
  const auto items = static_cast<std::size_t>(p.batch) * p.n_kv_heads * plan.passes;
  // In look-ups: about two for an entry of a score table, one for a centroid's copy.
  plan.score_splits = splits_for(static_cast<std::int64_t>(items) * plan.key_slices, p.capacity, 2 << p.key.code_bits, p.n_sms);
  plan.splits = splits_for(static_cast<std::int64_t>(items) * plan.value_slices, p.capacity + p.dense_capacity, 1 << p.value.code_bits, p.n_sms);
  plan.exact_unit = (p.capacity + kSlicedUnit - 1) / kSlicedUnit;
  plan.units = plan.exact_unit + (p.dense_capacity + kSlicedUnit - 1) / kSlicedUnit;
  plan.slots = plan.exact_unit * kSlicedUnit;
  plan.stats_at = items * plan.units * kSlicedUnit * kSlicedHeads * 2;
  plan.scores_at = plan.stats_at + items * plan.units * 2 * kSlicedHeads * sizeof(float);
  plan.exact_at = plan.scores_at + (plan.key_slices > 1 ? items * plan.key_slices * plan.slots * kSlicedHeads * sizeof(float) : 0);
  plan.partial_at = plan.exact_at + items * p.dense_capacity * kSlicedHeads * sizeof(float);
  plan.bytes = plan.partial_at + sizeof(float) * p.batch * p.n_q_heads * plan.splits * (static_cast<std::size_t>(p.head_dim) + 1);
  return plan;
}

}  // namespace vi::cuda
