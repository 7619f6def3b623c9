// How the sliced kernel (sliced.cuh) cuts a problem. C++17.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vi::cuda {

struct Problem;

constexpr int kSlicedHeads = 4;          // query heads a pass
constexpr int kSlicedValueWarps = 16;    // of a CTA of the second launch
constexpr int kSlicedQueryBytes = 4096;  // f32 queries of a pass, head_dim 256
constexpr int kSharedBytes = 227 * 1024;

struct SlicedPlan {
  int passes = 1;
  int key_books = 0, key_slices = 0, score_splits = 1;  // sub-spaces of a slice of keys, slices, CTAs a slice
  int value_books = 0, value_slices = 0, splits = 1;    // value_books: a power of two up to 32
  int exact_slot = 0, slots = 0;  // of an item's scores: exact tokens start here; all of them
  std::size_t key_bytes = 0, value_bytes = 0;  // shared memory of a CTA
  std::size_t score_bytes = 0;                 // of the workspace: scores, then partial outputs
};

// Whether it serves the problem's codes (not whether the device has the memory).
bool sliced_serves(const Problem& problem);
// Of a problem that it serves.
SlicedPlan plan_sliced(const Problem& problem);

}  // namespace vi::cuda
