// Rows of keys or values that are about to be coded must be finite. Private to core/quant.
#pragma once

#include <cmath>
#include <cstddef>

#include "core/common/error.h"

namespace vi::quant::detail {

inline void check_finite(const float* rows, std::size_t n, int head_dim) {
  const std::size_t count = n * head_dim;
  float sum[8] = {};  // 0 * x is NaN for NaN and infinity: no branch a value
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int j = 0; j < 8; ++j) sum[j] += 0.0f * rows[i + j];
  for (; i < count; ++i) sum[0] += 0.0f * rows[i];
  for (int j = 1; j < 8; ++j) sum[0] += sum[j];
  if (sum[0] == 0.0f) return;
  for (i = 0; i < count; ++i)
    if (!std::isfinite(rows[i]))
      fail("cannot code row {}: channel {} is not finite ({})", i / head_dim, i % head_dim,
           rows[i]);
}

}  // namespace vi::quant::detail
