#include "cuda/decode_attention/sliced_plan.h"

#include <algorithm>

#include "cuda/decode_attention/select.h"

namespace vi::cuda {
namespace {

bool serves(const CodeShape& s, int head_dim) {
  return (s.dsub == 2 || s.dsub == 4 || s.dsub == 8) && (s.code_bits == 8 || s.code_bits == 10 || s.code_bits == 12) &&
         head_dim % s.dsub == 0 && head_dim / s.dsub % 4 == 0;  // rows of codes are read 16 bytes at once
}

std::size_t value_shared(const CodeShape& s, int books) {
  const std::size_t book = (std::size_t{2} * s.dsub * books) << s.code_bits;
  const std::size_t prob = std::size_t{16} * kSlicedValueWarps * (32 / books) * 16;
  // After the loop: tops, sums and outputs of every warp.
  const std::size_t merge = sizeof(float) * kSlicedValueWarps * kSlicedHeads * (2 + books * s.dsub);
  return std::max(book + prob, merge);
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

}  // namespace

bool sliced_serves(const Problem& p) {
  return p.head_dim <= 256 && serves(p.key, p.head_dim) && serves(p.value, p.head_dim);
}

SlicedPlan plan_sliced(const Problem& p) {
  SlicedPlan plan;
  const int group = p.n_q_heads / p.n_kv_heads;
  plan.passes = (group + kSlicedHeads - 1) / kSlicedHeads;
  const int key_books = p.head_dim / p.key.dsub, value_books = p.head_dim / p.value.dsub;
  const int most = static_cast<int>((kSharedBytes - kSlicedQueryBytes) / ((2 * kSlicedHeads) << p.key.code_bits));
  plan.key_slices = (key_books + most - 1) / most;
  plan.key_books = (key_books + plan.key_slices - 1) / plan.key_slices;
  plan.key_slices = (key_books + plan.key_books - 1) / plan.key_books;
  plan.key_bytes = kSlicedQueryBytes + (static_cast<std::size_t>(2 * kSlicedHeads * plan.key_books) << p.key.code_bits);
  plan.value_books = 32;
  while (plan.value_books > 1 && (plan.value_books / 2 >= value_books || value_shared(p.value, plan.value_books) > kSharedBytes))
    plan.value_books /= 2;
  plan.value_slices = (value_books + plan.value_books - 1) / plan.value_books;
  plan.value_bytes = value_shared(p.value, plan.value_books);
  const std::int64_t items = static_cast<std::int64_t>(p.batch) * p.n_kv_heads * plan.passes;
  // In look-ups: about two for an entry of a score table, one for a centroid's copy.
  plan.score_splits = splits_for(items * plan.key_slices, p.capacity, 1 << (p.key.code_bits + 1), p.n_sms);
  plan.splits = splits_for(items * plan.value_slices, p.capacity + p.dense_capacity, 1 << p.value.code_bits, p.n_sms);
  plan.exact_slot = (p.capacity + 31) / 32 * 32;
  plan.slots = plan.exact_slot + p.dense_capacity;
  plan.score_bytes = sizeof(float) * kSlicedHeads * static_cast<std::size_t>(items) * plan.key_slices * plan.slots;
  return plan;
}

}  // namespace vi::cuda
