// Steps that measure each token when it is coded and keep what they measured with its code, as halves:
//   token_norm   n = f16(|x|_2);                 y = x sqrt(d) / n      one number   (TurboQuant, OScaR, NSNQuant)
//   token_range  z = f16((hi + lo) / 2), r = f16((hi - lo) / 2); y = (x - z) / r     two (KVQuant's values)
// hi and lo are the extremes of the token without the `trim` values farthest from its mean. A token whose
// n (or r) is 0 in f16 gives y = 0, and comes back as 0 (or z). Beyond f16 the numbers saturate.
#pragma once

#include <cstdint>

#include "core/transform/head_transform.h"

namespace vi::transform {

inline constexpr int kTokenNumbers = 2;  // at most

constexpr bool per_token(Step::Kind kind) {
  return kind == Step::Kind::token_norm || kind == Step::Kind::token_range;
}
constexpr int token_numbers(Step::Kind kind) { return kind == Step::Kind::token_range ? 2 : 1; }

// How many of d values a fraction leaves out: 0 for 0, else at least 1.
int outlier_count(double fraction, int d);

// row [d] in place; numbers [token_numbers(kind)].
void token_forward(const Step& step, float* row, int d, std::uint16_t* numbers);
void token_inverse(const Step& step, float* row, int d, const std::uint16_t* numbers);

}  // namespace vi::transform
