// Equality of answers: normal form, then structure (matrix, relation, union, set, tuple, interval,
// list), then value.
#include "eval/math/answer.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include "eval/math/latex.h"
#include "eval/math/value.h"
#include "eval/text/unicode.h"

namespace vi::eval::math {
namespace {

constexpr std::size_t kLongest = 2000;  // longer answers are compared as text
constexpr int kMaxDepth = 6;            // of nested brackets; bounds the work of hostile input
using Parts = std::vector<std::string>;

bool same(std::string_view a, std::string_view b, int depth);

bool same_in_order(const Parts& a, const Parts& b, int depth) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!same(a[i], b[i], depth + 1)) return false;
  return true;
}

// A set holds each value once.
Parts without_repeats(const Parts& items, int depth) {
  Parts kept;
  for (const std::string& item : items)
    if (std::none_of(kept.begin(), kept.end(),
                     [&](const std::string& k) { return same(k, item, depth + 1); }))
      kept.push_back(item);
  return kept;
}

bool same_in_any_order(const Parts& all_a, const Parts& all_b, int depth) {
  const Parts a = without_repeats(all_a, depth), b = without_repeats(all_b, depth);
  if (a.size() != b.size()) return false;
  std::vector<bool> used(b.size());
  for (const std::string& item : a) {
    bool found = false;
    for (std::size_t j = 0; j < b.size() && !found; ++j)
      if (!used[j] && same(item, b[j], depth + 1)) used[j] = found = true;
    if (!found) return false;
  }
  return true;
}

// Rows of \begin{?matrix} or array, cells split at '&'; empty if it is none.
std::vector<Parts> matrix(std::string_view text) {
  if (text.size() > 2 && (text[0] == '(' || text[0] == '[') &&
      text.substr(1).starts_with("\\begin{") && (text.back() == ')' || text.back() == ']'))
    text = text.substr(1, text.size() - 2);
  for (const std::string_view name :
       {"pmatrix", "bmatrix", "vmatrix", "Bmatrix", "matrix", "array", "smallmatrix"}) {
    const std::string open = "\\begin{" + std::string(name) + "}",
                      close = "\\end{" + std::string(name) + "}";
    if (!text.starts_with(open) || !text.ends_with(close)) continue;
    std::string_view body = text.substr(open.size(), text.size() - open.size() - close.size());
    if (name == "array" && body.starts_with('{')) body.remove_prefix(closing_brace(body, 0) + 1);
    std::vector<Parts> rows;
    for (const std::string& row : split_top(body, {"\\\\"}))
      if (!row.empty()) rows.push_back(split_top(row, {"&"}));
    return rows;
  }
  return {};
}

// The bracket that closes the first character of `text` is its last one.
bool enclosed(std::string_view text) {
  int depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
      continue;
    }
    if (text[i] == '(' || text[i] == '[' || text[i] == '{') ++depth;
    if (text[i] == ')' || text[i] == ']' || text[i] == '}') --depth;
    if (depth == 0) return i + 1 == text.size();
  }
  return false;
}

struct Collection {
  enum class Kind { none, list, set, bracketed } kind = Kind::none;
  char open = 0, close = 0;
  Parts items;
};

Collection collection(std::string_view text) {
  Collection result;
  if (text.starts_with("\\{") && text.ends_with("\\}") && text.size() >= 4) {
    const std::string_view inner = text.substr(2, text.size() - 4);
    if (inner.find("\\}") == std::string_view::npos || inner.find("\\{") < inner.find("\\}")) {
      result.kind = Collection::Kind::set;
      if (!inner.empty()) result.items = split_top(inner, {",", ";"});
      return result;
    }
  }
  if (text.size() >= 2 && text[0] == '{' && enclosed(text)) {
    Parts items = split_top(text.substr(1, text.size() - 2), {",", ";"});
    if (items.size() > 1) {
      result.kind = Collection::Kind::set;
      result.items = std::move(items);
      return result;
    }
  }
  if (text.size() >= 2 && (text[0] == '(' || text[0] == '[') && enclosed(text)) {
    Parts items = split_top(text.substr(1, text.size() - 2), {",", ";"});
    if (items.size() > 1) {
      result = {Collection::Kind::bracketed, text.front(), text.back(), std::move(items)};
      return result;
    }
  }
  Parts items = split_top(text, {",", ";"});
  if (items.size() > 1) {
    result.kind = Collection::Kind::list;
    result.items = std::move(items);
  } else if (text.find("\\pm") != std::string_view::npos) {
    const std::size_t at = text.find("\\pm");
    for (const char sign : {'+', '-'})
      result.items.push_back(std::string(text.substr(0, at)) + sign +
                             std::string(text.substr(at + 3)));
    result.kind = Collection::Kind::list;
  }
  return result;
}

bool same_collection(const Collection& a, const Collection& b, int depth) {
  using Kind = Collection::Kind;
  if (a.kind == Kind::bracketed && b.kind == Kind::bracketed)
    return a.open == b.open && a.close == b.close && same_in_order(a.items, b.items, depth);
  if (a.kind == Kind::bracketed || b.kind == Kind::bracketed)
    return same_in_order(a.items, b.items, depth);
  return same_in_any_order(a.items, b.items, depth);
}

// Sides of a chain of relations, signs '=', '<' (with sides turned), 'l' (at most) and '!'
// (unequal).
struct Relation {
  Parts sides;
  std::string signs;
};

Relation relation(std::string_view text) {
  Relation result;
  const std::vector<std::string_view> kSigns{"\\le", "\\ge", "\\ne", "<=", ">=", "=", "<", ">"};
  result.sides = split_top(text, kSigns);
  std::size_t at = 0;
  for (std::size_t i = 0; i + 1 < result.sides.size(); ++i) {
    at += result.sides[i].size();
    for (const std::string_view sign : kSigns) {
      if (text.substr(at, sign.size()) != sign) continue;
      result.signs += sign == "\\le" || sign == "<="   ? 'l'
                      : sign == "\\ge" || sign == ">=" ? 'g'
                      : sign == "\\ne"                 ? '!'
                                                       : sign[0];
      at += sign.size();
      break;
    }
  }
  if (!result.signs.empty() && result.signs.find_first_not_of(">g") == std::string::npos) {
    std::reverse(result.sides.begin(), result.sides.end());
    std::reverse(result.signs.begin(), result.signs.end());
    for (char& sign : result.signs) sign = sign == '>' ? '<' : 'l';
  }
  return result;
}

bool same_relation(const Relation& a, const Relation& b, int depth) {
  if (a.signs != b.signs) return false;
  if (same_in_order(a.sides, b.sides, depth)) return true;
  if (a.sides.size() != 2) return false;
  const bool symmetric = a.signs == "=" || a.signs == "!";
  if (symmetric && same(a.sides[0], b.sides[1], depth + 1) &&
      same(a.sides[1], b.sides[0], depth + 1))
    return true;
  const auto a0 = evaluate(a.sides[0]), a1 = evaluate(a.sides[1]);
  const auto b0 = evaluate(b.sides[0]), b1 = evaluate(b.sides[1]);
  if (!a0 || !a1 || !b0 || !b1) return false;
  const Scalar left = difference(*a0, *a1), right = difference(*b0, *b1);
  if (left.constant || right.constant) return false;
  const auto factor = constant_ratio(left, right);
  return factor && (symmetric || *factor > 0);
}

// A name that an equation gives a value to: x, \theta, f(x), S_{AB}; not 2x + 1 and not 7.
bool is_name(std::string_view side) {
  return !side.empty() && !std::isdigit(static_cast<unsigned char>(side[0])) &&
         side.find_first_of("+-*/^") == std::string_view::npos;
}

// The interval that a chain such as -2 <= x < 7 or x > 3 describes; "" if it is none.
std::string interval_of(const Relation& r) {
  if (r.signs.empty() || r.signs.find_first_not_of("<l") != std::string::npos) return {};
  if (r.sides.size() == 3 && !evaluate(r.sides[1]).value_or(Scalar{}).constant)
    return (r.signs[0] == '<' ? "(" : "[") + r.sides[0] + "," + r.sides[2] +
           (r.signs[1] == '<' ? ")" : "]");
  if (r.sides.size() != 2) return {};
  const auto low = evaluate(r.sides[0]), high = evaluate(r.sides[1]);
  if (!low || !high || low->constant == high->constant) return {};
  if (low->constant) return (r.signs[0] == '<' ? "(" : "[") + r.sides[0] + ",\\infty)";
  return "(-\\infty," + r.sides[1] + (r.signs[0] == '<' ? ")" : "]");
}

// 1,22 as some languages write 1.22.
std::string with_decimal_comma(const Collection& list) {
  if (list.kind != Collection::Kind::list || list.items.size() != 2) return {};
  for (const std::string& item : list.items)
    if (item.empty() ||
        !std::all_of(item.begin(), item.end(), [](unsigned char c) { return std::isdigit(c); }))
      return {};
  return list.items[0] + "." + list.items[1];
}

// A run of four or more letters outside commands: a word, not a product of variables.
bool is_words(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    if (text.substr(i, 7) == "\\begin{" || text.substr(i, 5) == "\\end{") {
      i = std::min(text.find('}', i), text.size());
      continue;
    }
    if (text[i] == '\\') {
      ++i;
      while (i < text.size() && std::isalpha(static_cast<unsigned char>(text[i]))) ++i;
      continue;
    }
    std::size_t end = i;
    while (end < text.size() && std::isalpha(static_cast<unsigned char>(text[end]))) ++end;
    if (end - i >= 4) return true;
    i = std::max(end, i + 1);
  }
  return false;
}

std::string bare_word(std::string_view text) {
  std::string word;
  for (const char c : text)
    if (std::isalnum(static_cast<unsigned char>(c)) || static_cast<unsigned char>(c) >= 0x80)
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return word;
}

std::string_view without_membership(std::string_view text) {  // x \in S
  const std::size_t at = text.find("\\in");
  if (at == std::string_view::npos || at > 8 || at + 3 >= text.size()) return text;
  if (std::isalpha(static_cast<unsigned char>(text[at + 3]))) return text;  // \infty, \int
  return text.substr(at + 3);
}

bool same(std::string_view a, std::string_view b, int depth) {
  if (a == b) return true;
  if (depth > kMaxDepth || a.empty() || b.empty()) return false;
  a = without_membership(a);
  b = without_membership(b);
  const auto rows_a = matrix(a), rows_b = matrix(b);
  if (!rows_a.empty() && !rows_b.empty()) {
    if (rows_a.size() != rows_b.size()) return false;
    for (std::size_t i = 0; i < rows_a.size(); ++i)
      if (!same_in_order(rows_a[i], rows_b[i], depth)) return false;
    return true;
  }
  if (rows_a.empty() && rows_b.empty() && (is_words(a) || is_words(b))) {
    const std::string word = bare_word(a);
    return !word.empty() && word == bare_word(b);
  }
  const Parts union_a = split_top(a, {"\\cup"}), union_b = split_top(b, {"\\cup"});
  if (union_a.size() > 1 || union_b.size() > 1) return same_in_any_order(union_a, union_b, depth);
  const Collection items_a = collection(a), items_b = collection(b);
  if (items_a.kind != Collection::Kind::none && items_b.kind != Collection::Kind::none)
    return same_collection(items_a, items_b, depth);
  const Relation relation_a = relation(a), relation_b = relation(b);
  const auto only_equals = [](const Relation& r) {
    return !r.signs.empty() && r.signs.find_first_not_of('=') == std::string::npos;
  };
  if (!relation_a.signs.empty() && !relation_b.signs.empty()) {
    if (same_relation(relation_a, relation_b, depth)) return true;
    return only_equals(relation_a) && only_equals(relation_b) &&
           relation_a.signs.size() + relation_b.signs.size() > 2 &&  // a = b = 5 and b = 5
           same(relation_a.sides.back(), relation_b.sides.back(), depth + 1);
  }
  if (only_equals(relation_a)) return same(relation_a.sides.back(), b, depth + 1);
  if (only_equals(relation_b))
    return is_name(relation_b.sides[0]) && same(a, relation_b.sides.back(), depth + 1);
  if (!relation_b.signs.empty()) {  // an answer given as x > 3 may be met by an interval
    const std::string interval = interval_of(relation_b);
    return !interval.empty() && same(a, interval, depth + 1);
  }
  using Kind = Collection::Kind;  // {5} is 5, and so is "5 or 5.0"
  if (const std::string number = with_decimal_comma(items_a);
      !number.empty() && items_b.kind == Kind::none)
    return same(number, b, depth + 1);
  if (const std::string number = with_decimal_comma(items_b);
      !number.empty() && items_a.kind == Kind::none)
    return same(a, number, depth + 1);
  if (items_a.kind == Kind::set || items_a.kind == Kind::list || items_b.kind == Kind::set ||
      items_b.kind == Kind::list)
    return same_in_any_order(items_a.kind == Kind::none ? Parts{std::string(a)} : items_a.items,
                             items_b.kind == Kind::none ? Parts{std::string(b)} : items_b.items,
                             depth);
  if (items_a.kind != Collection::Kind::none || items_b.kind != Collection::Kind::none)
    return false;
  const auto value_a = evaluate(a), value_b = evaluate(b);
  if (value_a && value_b) return same_value(*value_a, *value_b);
  const std::string word = bare_word(a);
  return !word.empty() && a.find('\\') == std::string_view::npos && word == bare_word(b);
}

std::string gold_answer(std::string_view answer) {
  if (const auto boxed = last_boxed(answer)) return *boxed;
  if (answer.find("####") != std::string_view::npos)
    return extract_answer(answer).value_or(std::string(answer));
  return std::string(answer);
}

}  // namespace

bool equal(std::string_view prediction, std::string_view answer) {
  if (prediction.size() > kLongest || answer.size() > kLongest)
    return text::trim_ascii(prediction) == text::trim_ascii(answer);
  const std::string a = normalise(prediction), b = normalise(answer);
  return !a.empty() && !b.empty() && same(a, b, 0);
}

Verdict judge(std::string_view prediction, std::string_view answer) {
  const std::string gold = gold_answer(answer);
  Verdict verdict;
  verdict.extracted = extract_answer(prediction);
  verdict.equal = verdict.extracted && equal(*verdict.extracted, gold);
  if (verdict.equal || last_boxed(prediction)) return verdict;
  const std::string_view whole = text::trim_ascii(prediction);  // a bare answer, not a generation
  if (whole.find('\n') == std::string_view::npos && equal(whole, gold)) {
    verdict.equal = true;
    verdict.extracted = std::string(whole);
  }
  return verdict;
}

}  // namespace vi::eval::math
