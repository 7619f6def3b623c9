// The orders of channels that `permute` knows:
//   bit_reversal  channel j from the place with j's bits reversed (OSCAR; d a power of two)
//   volume        channels sorted by variance and dealt to the d / group groups like cards, so that the
//                 groups' volumes are alike (NOVA-KV)
//   covariance    RoPE pairs (i, i + d/2) merged, two groups into one, into groups of `group` channels
//                 that depend on each other most: the least det(S + e I)^(1/size) (TaSQ). A greedy
//                 matching stands for the paper's minimum-weight matching.
#pragma once

#include <cstddef>
#include <vector>

#include "core/transform/spec.h"

namespace vi::transform {

// order [d]: y_j = x_order[j]. rows [n_rows, d] as the earlier steps left them. Error where d does not fit.
std::vector<int> channel_order(ChannelOrder order, int group, const float* rows, std::size_t n_rows,
                               int d);

}  // namespace vi::transform
