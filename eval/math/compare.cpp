#include "eval/math/compare.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "eval/math/latex.h"
#include "eval/math/value.h"

namespace vi::eval::math {
namespace {

constexpr int kMaxDepth = 6;            // of nested brackets; bounds the work of hostile input
constexpr std::size_t kMaxItems = 200;  // of a collection without an order: its cost is quadratic

void collect_symbols(const Expression& e, std::set<std::string>& names) {
  if (e.kind == Expression::Kind::symbol && e.text != "\\pi" && e.text != "e") names.insert(e.text);
  for (const Expression& part : e.parts) collect_symbols(part, names);
}

bool only_symbols(const Expression& e) {
  if (e.kind == Expression::Kind::symbol) return e.text != "\\pi" && e.text != "e";
  if (e.kind == Expression::Kind::number || e.kind == Expression::Kind::negative) return false;
  return std::all_of(e.parts.begin(), e.parts.end(), only_symbols);
}

// A side that an equation gives a value to: x, f(x), S_{AB}, (x,y); not 2x + 1 and not 7.
bool is_name(std::string_view side) {
  const Collection items = collection(side);
  if (items.kind == Collection::Kind::bracketed)
    return std::all_of(items.items.begin(), items.items.end(), is_name);
  const std::optional<Expression> e = parse_expression(side);
  return e && only_symbols(*e);
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
    if (std::isalnum(static_cast<unsigned char>(c)) || static_cast<unsigned char>(c) >= 0x80 ||
        c == '-' || c == '.')
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return word;
}

bool is_symbol(const Expression& e) {
  return e.kind == Expression::Kind::symbol && e.text != "\\pi" && e.text != "e" &&
         e.text != "\\infty";
}

// Letters side by side, which may stand for a word; "" if it is anything else.
std::string spelled(const Expression& e) {
  std::string word;
  if (e.kind == Expression::Kind::symbol) return e.text;
  if (e.kind != Expression::Kind::product) return {};
  for (const Expression& part : e.parts) {
    if (part.kind != Expression::Kind::symbol) return {};
    word += part.text;
  }
  return word;
}

char turned(char sign) {
  switch (sign) {
    case '<': return '>';
    case '>': return '<';
    case 'l': return 'g';
    case 'g': return 'l';
    default: return sign;
  }
}

}  // namespace

bool Comparer::same_in_order(const Parts& a, const Parts& b, int depth) const {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!same(a[i], b[i], depth + 1)) return false;
  return true;
}

// A set holds each value once.
Parts Comparer::without_repeats(const Parts& items, int depth) const {
  Parts kept;
  for (const std::string& item : items)
    if (std::none_of(kept.begin(), kept.end(),
                     [&](const std::string& k) { return same(k, item, depth + 1); }))
      kept.push_back(item);
  return kept;
}

bool Comparer::same_in_any_order(const Parts& all_a, const Parts& all_b, int depth) const {
  if (all_a.size() > kMaxItems || all_b.size() > kMaxItems) return all_a == all_b;
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

bool Comparer::same_collection(const Collection& a, const Collection& b, int depth) const {
  using Kind = Collection::Kind;
  const auto open_pair = [](const Collection& c) { return c.open == '(' && c.close == ')'; };
  if (a.kind == Kind::bracketed && b.kind == Kind::bracketed) {
    const auto paired = [](const Collection& c) { return (c.open == '(') == (c.close == ')'); };
    const bool fit = a.items.size() == 2 ? a.open == b.open && a.close == b.close
                                         : paired(a) == paired(b);  // [1,2,3] is (1,2,3)
    return fit && same_in_order(a.items, b.items, depth);
  }
  if (b.kind == Kind::bracketed) return open_pair(b) && same_in_order(a.items, b.items, depth);
  if (a.kind == Kind::bracketed) return open_pair(a) && same_in_any_order(a.items, b.items, depth);
  return same_in_any_order(a.items, b.items, depth);
}

// One link of two chains: equal differences of the sides, straight or turned. A linear
// equation in several unknowns may also be scaled (Math-Verify solves both); with one it may not.
bool Comparer::same_link(const Relation& a, const Relation& b, std::size_t link,
                         int depth) const {
  const std::string &a0 = a.sides[link], &a1 = a.sides[link + 1];
  const std::string &b0 = b.sides[link], &b1 = b.sides[link + 1];
  const char sign = b.signs[link];
  const bool straight = a.signs[link] == sign, flips = sign != '!' && a.signs[link] == turned(sign);
  if (!straight && !flips) return false;
  if (straight && same(a0, b0, depth + 1) && same(a1, b1, depth + 1)) return true;
  if (flips && same(a0, b1, depth + 1) && same(a1, b0, depth + 1)) return true;
  const auto difference = [](const std::string& x, const std::string& y) {
    return std::string("(").append(x).append(")-(").append(y).append(")");
  };
  if (straight && same_expression(difference(a0, a1), difference(b0, b1))) return true;
  if (flips && same_expression(difference(a0, a1), difference(b1, b0))) return true;
  if (sign != '=') return false;
  const auto left = parse_expression(difference(a0, a1)), right = parse_expression(difference(b0, b1));
  if (!left || !right) return false;
  std::set<std::string> names;
  collect_symbols(*right, names);
  const auto curved = [](const std::string& side) {
    return side.find('^') != std::string::npos || side.find("\\sqrt") != std::string::npos;
  };
  if (names.size() < 2 || curved(a0) || curved(a1) || letters_differ_) return false;
  const auto x = evaluate(*left), y = evaluate(*right);
  return x && y && constant_ratio(*x, *y).has_value();
}

bool Comparer::same_relation(Relation a, Relation b, int depth) const {
  for (Relation* chain : {&a, &b})  // x = 2 + 3 = 5 states x = 5
    if (chain->is_equation() && chain->signs.size() > 1 && is_name(chain->sides[0])) {
      chain->sides = {chain->sides.front(), chain->sides.back()};
      chain->signs.resize(1);
    }
  if (a.signs.size() != b.signs.size()) return false;
  for (std::size_t link = 0; link < a.signs.size(); ++link)
    if (!same_link(a, b, link, depth)) return false;
  return true;
}

bool Comparer::same_expression(std::string_view a, std::string_view b) const {
  if (a == b && !letters_differ_) return true;
  const auto x = parse_expression(a), y = parse_expression(b);
  if (!x || !y) return false;
  if (is_symbol(*x) || is_symbol(*y)) return spelled(*x) == spelled(*y);
  if (letters_differ_) {
    std::set<std::string> names;
    collect_symbols(*x, names);
    collect_symbols(*y, names);
    names.erase("\\infty");
    if (!names.empty()) return false;
  }
  const auto value_x = evaluate(*x), value_y = evaluate(*y);
  const bool exact = value_x && value_y &&
                     ((value_x->exact && value_y->exact) || value_x->decimal || value_y->decimal ||
                      value_x->percent || value_y->percent);
  if (!exact && symbolic_)
    if (const std::optional<bool> verdict = symbolic_->equal(*x, *y)) return *verdict;
  return value_x && value_y && same_value(*value_x, *value_y);
}

bool Comparer::same(std::string_view a, std::string_view b, int depth) const {
  if (a == b && !letters_differ_) return true;
  for (std::string_view* text : {&a, &b}) {
    *text = without_membership(*text);
    while (text->size() > 2 && text->front() == '{' && enclosed(*text) &&
           collection(*text).kind != Collection::Kind::set)
      *text = text->substr(1, text->size() - 2);
  }
  if (a == b && !letters_differ_) return true;
  if (depth > kMaxDepth || a.empty() || b.empty()) return false;
  const auto rows_a = matrix_rows(a), rows_b = matrix_rows(b);
  const bool matrix_a = !rows_a.empty(), matrix_b = !rows_b.empty();
  if (matrix_a && matrix_b) {
    if (rows_a.size() != rows_b.size()) return false;
    for (std::size_t i = 0; i < rows_a.size(); ++i)
      if (!same_in_order(rows_a[i], rows_b[i], depth)) return false;
    return true;
  }
  if (!matrix_a && !matrix_b && (is_words(a) || is_words(b))) {
    const std::string word = bare_word(a);
    return !word.empty() && word == bare_word(b);
  }
  const Parts union_a = split_top(a, {"\\cup"}), union_b = split_top(b, {"\\cup"});
  if (union_a.size() > 1 && union_b.size() > 1) return same_in_any_order(union_a, union_b, depth);
  const Relation relation_a = relation(a), relation_b = relation(b);
  using Kind = Collection::Kind;
  const Collection items_a = collection(a), items_b = collection(b);
  const bool several_a = items_a.kind == Kind::list, several_b = items_b.kind == Kind::list;
  if (!several_a && !several_b) {  // x=1,y=2 is a list of relations
    if (!relation_a.signs.empty() && !relation_b.signs.empty())
      return same_relation(relation_a, relation_b, depth);
    if (relation_a.is_equation()) return same(relation_a.sides.back(), b, depth + 1);
    if (relation_b.is_equation())
      return is_name(relation_b.sides[0]) && same(a, relation_b.sides.back(), depth + 1);
    if (!relation_b.signs.empty()) {
      const std::string set = set_of(relation_b);
      return !set.empty() && same(a, set, depth + 1);
    }
    if (!relation_a.signs.empty()) return false;
  } else if (several_b != several_a) {
    // (x,y) = (1,2) beside 1,2, and x = 1 \pm 2 beside 1 \pm 2
    if (several_b && relation_a.signs == "=" && is_name(relation_a.sides[0]))
      return same(relation_a.sides[1], b, depth + 1);
    if (several_a && relation_b.signs == "=" && is_name(relation_b.sides[0]))
      return same(a, relation_b.sides[1], depth + 1);
  }
  if (union_a.size() > 1 || union_b.size() > 1 || matrix_a || matrix_b) return false;
  if (several_a && relation_a.signs == "=" && is_name(relation_a.sides[0]) &&
      a.find("\\pm") != std::string_view::npos && relation_b.signs.empty())
    return same(relation_a.sides[1], b, depth + 1);
  if (items_a.kind != Kind::none && items_b.kind != Kind::none)
    return same_collection(items_a, items_b, depth);
  if (items_a.kind == Kind::set || items_b.kind == Kind::set || several_a || several_b)  // {5} is 5
    return same_in_any_order(items_a.kind == Kind::none ? Parts{std::string(a)} : items_a.items,
                             items_b.kind == Kind::none ? Parts{std::string(b)} : items_b.items,
                             depth);
  if (items_a.kind != Kind::none || items_b.kind != Kind::none) return false;
  if (same_expression(a, b)) return true;
  const std::string word = bare_word(a);
  const bool letters = std::any_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalpha(c) || c >= 0x80;
  });
  return letters && !parse_expression(a) && a.find('\\') == std::string_view::npos &&
         word == bare_word(b);
}

}  // namespace vi::eval::math
