// SPDX-License-Identifier: GPL-2.0-or-later
// Equality of two expressions by GiNaC (GPL-2.0-or-later, hence this file's licence).
#pragma once

#include "eval/math/compare.h"

namespace vi::eval::math {

// Equal if the difference vanishes in GiNaC's rational normal form; else by its value to 40 digits
// at points where every letter is a fixed number, complex values included. nullopt where an
// expression has no value there or would be too large to hold.
class GinacTest : public SymbolicTest {
 public:
  std::optional<bool> equal(const Expression& a, const Expression& b) const override;
};

}  // namespace vi::eval::math
