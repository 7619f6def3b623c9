// Equality of two normalised answers by their structure, down to single expressions. The rules are
// those of the Python package Math-Verify 0.9, named at each place in compare.cpp.
#pragma once

#include <optional>
#include <string_view>

#include "eval/math/expression.h"
#include "eval/math/structure.h"

namespace vi::eval::math {

// Algebra for two expressions that numbers alone leave open; see checker/. nullopt: no verdict.
class SymbolicTest {
 public:
  virtual ~SymbolicTest() = default;
  virtual std::optional<bool> equal(const Expression& a, const Expression& b) const = 0;
};

class Comparer {
 public:
  // `letters_differ`: one answer has the letter i standing alone (3 i, -i), the other has not (3i).
  // Math-Verify then takes the letters of the first for complex, of the second for real variables,
  // and finds expressions in them different.
  explicit Comparer(const SymbolicTest* symbolic = nullptr, bool letters_differ = false)
      : symbolic_(symbolic), letters_differ_(letters_differ) {}

  // Not symmetric: an answer that is an inequality may be met by an interval, not the reverse.
  bool same(std::string_view prediction, std::string_view answer, int depth = 0) const;

 private:
  bool same_in_order(const Parts& a, const Parts& b, int depth) const;
  bool same_in_any_order(const Parts& a, const Parts& b, int depth) const;
  Parts without_repeats(const Parts& items, int depth) const;
  bool same_collection(const Collection& a, const Collection& b, int depth) const;
  bool same_relation(Relation a, Relation b, int depth) const;
  bool same_link(const Relation& a, const Relation& b, std::size_t link, int depth) const;
  bool same_expression(std::string_view a, std::string_view b) const;

  const SymbolicTest* symbolic_;
  bool letters_differ_;
};

}  // namespace vi::eval::math
