// The outer form of a normalised answer: matrices, lists, sets, tuples and intervals, relations.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vi::eval::math {

using Parts = std::vector<std::string>;

// Rows of \begin{?matrix} or array, cells split at '&'; empty if it is none.
std::vector<Parts> matrix_rows(std::string_view text);

struct Collection {
  enum class Kind { none, list, set, bracketed } kind = Kind::none;
  char open = 0, close = 0;  // of bracketed: a tuple or an interval
  Parts items;
};
// 1,2 | {1,2} | (1,2] | 1 \pm 2. An interval is open at an infinite end whatever was written.
Collection collection(std::string_view text);

// A chain of relations; signs '=', '<', 'l' (at most), '>', 'g' (at least), '!' (unequal).
struct Relation {
  Parts sides;
  std::string signs;  // one fewer than sides; empty: no relation
  bool is_equation() const {
    return !signs.empty() && signs.find_first_not_of('=') == std::string::npos;
  }
};
Relation relation(std::string_view text);

// The interval or union that x > 3, -2 <= x < 7 or x != 2 describes; "" if it is none.
std::string set_of(const Relation& relation);

// The bracket that closes the first character of `text` is its last one.
bool enclosed(std::string_view text);

// S of x \in S; the text itself if it is none.
std::string_view without_membership(std::string_view text);

}  // namespace vi::eval::math
