// The best levels of numbers: k-means in one dimension, solved exactly (Wang and Song, The R Journal 3(2), 2011, with divide and
// conquer over the monotone optimum). Lloyd's iteration from random starts stays up to a fifth above it where weights have heavy tails.
#pragma once

#include <span>
#include <vector>

namespace vi::quant {

inline constexpr int kMostLevels = 256;

// k <= kMostLevels levels, ascending, of least weighted squared error. weights empty: all 1; finite, from 0, not all zero. Fewer different points
// than levels: the last ones repeat. O(k n log n) time, O(n k) bytes x 4.
std::vector<float> optimal_levels(std::span<const float> points, std::span<const float> weights, int k);

}  // namespace vi::quant
