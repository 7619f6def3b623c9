// How strongly the channels of a head stand out, before and after the transforms (VecInfer Fig. 1
// and 10): per channel absolute maximum, mean, standard deviation, kurtosis; per head max / median.
#pragma once

#include <cstddef>
#include <vector>

#include "core/transform/head_transform.h"

namespace vi::transform {

struct ChannelStats {
  std::vector<float> absmax, mean, stddev,
      kurtosis;                // [head_dim]; kurtosis of a normal channel is 3
  double max_over_median = 0;  // largest absmax / median absmax
  double max_over_rms = 0;     // largest |x| / root mean square of all elements
  double head_kurtosis = 0;    // of all elements of the head around their mean
};

// rows [n_rows, head_dim], sums in f64 in row order. A channel of zero variance has kurtosis 0; a
// head whose median absmax is 0 has max_over_median 0. Error: no rows, or not finite.
ChannelStats channel_stats(const float* rows, std::size_t n_rows, int head_dim);

struct OutlierStats {
  ChannelStats before, after;
};
OutlierStats outlier_stats(const HeadTransform& transform, const float* rows, std::size_t n_rows,
                           int head_dim);

}  // namespace vi::transform
