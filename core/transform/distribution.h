// How hard samples of one (layer, KV head, side) are to quantise: outlier channels, tails, means, and how
// many directions carry the variance. Measured, never used by a codec.
#pragma once

#include <cstddef>

namespace vi::transform {

struct Distribution {
  double max_to_median = 0;   // the largest channel's max |x| over the median channel's (VecInfer Figure 2)
  double top_energy = 0;      // share of sum x^2 in the head_dim / 16 largest channels
  double mean_share = 0;      // share of sum x^2 in the channels' means
  double kurtosis = 0;        // of all entries, each channel centred and scaled to variance 1; normal: 3
  double rank = 0;            // participation ratio of the covariance's eigenvalues, (sum l)^2 / sum l^2
  // Arithmetic over geometric mean of the channels' variances in dB: what unequal channels cost a quantiser
  // that spends the same bits on each; and the same of the covariance's eigenvalues, which adds what
  // correlated channels leave unused. Variances below 1e-9 of the largest count as that.
  double channel_gain = 0;
  double principal_gain = 0;
};

// rows [n_rows, head_dim], finite, n_rows >= 2. All in f64. Constant rows: rank, kurtosis and gains are 0.
Distribution distribution(const float* rows, std::size_t n_rows, int head_dim);

}  // namespace vi::transform
