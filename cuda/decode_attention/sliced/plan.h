// How the sliced kernel (sliced.cuh) cuts a problem. C++17.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vi::cuda {

struct Problem;

constexpr int kSlicedHeads = 4;          // query heads a pass
constexpr int kSlicedUnit = 64;          // tokens a warp takes at once
constexpr int kSlicedValueWarps = 16;    // of a CTA of the values' launch
constexpr int kSlicedQueryBytes = 4096;  // f32 queries of a pass, head_dim 256

struct SlicedPlan {
  int passes = 1;
  int key_books = 0, key_slices = 0, score_splits = 1;  // sub-spaces of a slice of keys, slices, CTAs a slice
  int value_books = 0, value_slices = 0, splits = 1;    // likewise of values
  int value_rows = 0;                                   // 1, 2 or 4 groups of eight sub-spaces
  int exact_unit = 0, units = 0;                        // an item's units: exact tokens start here; all of them
  int slots = 0;                                        // scores of an item and key slice, where there are several
  std::size_t key_bytes = 0, value_bytes = 0;           // shared memory of a CTA
  // Of the workspace: probabilities, their facts, scores, scores of exact tokens, partial outputs.
  std::size_t stats_at = 0, scores_at = 0, exact_at = 0, partial_at = 0, bytes = 0;
};

// Whether it serves the problem's codes (not whether the device has the memory).
bool sliced_serves(const Problem& problem);
// Of a problem that it serves.
SlicedPlan plan_sliced(const Problem& problem);

}  // namespace vi::cuda
