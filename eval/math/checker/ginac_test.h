// SPDX-License-Identifier: GPL-2.0-or-later
// Equality of two expressions by GiNaC (GPL-2.0-or-later, hence this file's licence).
#pragma once

#include "eval/math/compare.h"

namespace vi::eval::math {

// By value to 40 digits at four points where every letter is a fixed number of either sign, with
// exact rationals and complex values; where no point has a value, by GiNaC's rational normal form of
// the difference. nullopt: neither says anything (numbers too large to hold, undefined).
class GinacTest : public SymbolicTest {
 public:
  std::optional<bool> equal(const Expression& a, const Expression& b) const override;
};

}  // namespace vi::eval::math
