// From samples of one (layer, KV head, side) to its HeadTransform (VecInfer section 3.2, Eq. 3-4).
// Each step measures the rows as earlier steps left them: "hadamard, smooth" smooths rotated rows.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include "core/transform/head_transform.h"
#include "core/transform/spec.h"

namespace vi::transform {

// A channel whose statistic is below this (a dead channel) is divided by floor^exponent.
inline constexpr double kStatisticFloor = 1e-4;

// The statistic of each channel of rows [n_rows, head_dim], summed in f64 in row order.
std::vector<double> channel_statistic(Statistic statistic, const float* rows, std::size_t n_rows,
                                      int head_dim);

// M of the `metric` steps, [head_dim, head_dim] in the model's space (metric.h); not asked for without one.
using MomentSource = std::function<std::vector<double>(Moment)>;

// rows [n_rows, head_dim]. `place` ("layer 3 head 1 key") begins the message of an Error: NaN or
// infinite rows, no rows where a step measures, head_dim not a power of two with a Hadamard.
HeadTransform calibrate(const std::vector<TransformSpec>& specs, const float* rows,
                        std::size_t n_rows, int head_dim, std::string_view place = "samples",
                        const MomentSource& moment = {});

}  // namespace vi::transform
