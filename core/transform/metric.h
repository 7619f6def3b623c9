// The basis in which a key or value error is measured where it does harm: y = x A with A = M^(1/2) P, so
// that |dy|^2 = dx M dx^T (up to one factor). For keys M is the second moment of the queries that meet
// them, for values that of the output projection; P turns the principal axes of what is left towards the
// sub-spaces. In place of smooth + Hadamard (VecInfer section 3.3); ours: docs/vecinfer_plus.md.
#pragma once

#include <span>
#include <string_view>

#include "core/transform/head_transform.h"
#include "core/transform/spec.h"

namespace vi::transform {

// An eigenvalue of M below this share of their mean is raised to it: a direction that no query met in
// calibration may still matter later, and M^(-1/2) must exist.
inline constexpr double kMetricFloor = 1e-3;

struct MetricBasis {
  Step step;        // dense, with its inverse
  int floored = 0;  // directions raised to the floor
};

// moment [d, d]: M, symmetric, of the space of `rows` [n_rows, d]. Axes are dealt to sub-spaces of
// spec.subspace dimensions so that the products of their variances are even (Ge et al., Optimized Product
// Quantization, CVPR 2013, section 4.2). A is scaled so that the mean variance of y is 1. Error naming
// `place` where M is not finite or zero, or subspace does not divide d.
MetricBasis metric_basis(const TransformSpec& spec, std::span<const double> moment, const float* rows,
                         std::size_t n_rows, int d, std::string_view place);

// M in the space behind `transform`: B^-1 M B^-T for its linear part B.
std::vector<double> moment_behind(const HeadTransform& transform, std::span<const double> moment);

}  // namespace vi::transform
