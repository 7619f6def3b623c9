#include "eval/math/structure.h"

#include <cctype>

#include "eval/math/latex.h"
#include "eval/math/value.h"

namespace vi::eval::math {

std::vector<Parts> matrix_rows(std::string_view text) {
  if (text.size() > 2 && (text[0] == '(' || text[0] == '[') &&
      text.substr(1).starts_with("\\begin{") && (text.back() == ')' || text.back() == ']'))
    text = text.substr(1, text.size() - 2);
  std::string factor;  // 2\begin{pmatrix}..: a factor of every cell
  if (const std::size_t begin = text.find("\\begin{"); begin != 0 && begin != text.npos) {
    factor = std::string("(").append(text.substr(0, begin)).append(")");
    if (!evaluate(factor)) return {};
    text.remove_prefix(begin);
  }
  for (const std::string_view name :
       {"pmatrix", "bmatrix", "Bmatrix", "matrix", "array", "smallmatrix"}) {
    const std::string open = "\\begin{" + std::string(name) + "}",
                      close = "\\end{" + std::string(name) + "}";
    if (!text.starts_with(open) || !text.ends_with(close)) continue;
    std::string_view body = text.substr(open.size(), text.size() - open.size() - close.size());
    if (name == "array" && body.starts_with('{')) body.remove_prefix(closing_brace(body, 0) + 1);
    std::vector<Parts> rows;
    for (const std::string& row : split_top(body, {"\\\\"}))
      if (!row.empty()) rows.push_back(split_top(row, {"&"}));
    if (!factor.empty())
      for (Parts& row : rows)
        for (std::string& cell : row) cell = std::string(factor).append("(").append(cell).append(")");
    return rows;
  }
  return {};
}

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

namespace {

// Each item with a \pm is two.
Parts with_both_signs(const Parts& items) {
  Parts result;
  for (const std::string& item : items) {
    const std::size_t at = item.find("\\pm");
    if (at == std::string::npos) {
      result.push_back(item);
      continue;
    }
    for (const char sign : {'+', '-'})
      result.push_back(item.substr(0, at).append(1, sign).append(item, at + 3));
  }
  return result;
}

}  // namespace

Collection collection(std::string_view text) {
  Collection result;
  if (text.starts_with("\\{") && text.ends_with("\\}") && text.size() >= 4) {
    const std::string_view inner = text.substr(2, text.size() - 4);
    if (inner.find("\\}") == std::string_view::npos || inner.find("\\{") < inner.find("\\}")) {
      result.kind = Collection::Kind::set;
      if (!inner.empty()) result.items = with_both_signs(split_top(inner, {",", ";"}));
      return result;
    }
  }
  if (text.size() >= 2 && text[0] == '{' && enclosed(text)) {
    Parts items = split_top(text.substr(1, text.size() - 2), {",", ";"});
    if (items.size() > 1) {
      result.kind = Collection::Kind::set;
      result.items = with_both_signs(items);
      return result;
    }
  }
  if (text.size() >= 2 && (text[0] == '(' || text[0] == '[') && enclosed(text)) {
    Parts items = split_top(text.substr(1, text.size() - 2), {",", ";"});
    if (items.size() > 1) {
      result = {Collection::Kind::bracketed, text.front(), text.back(), std::move(items)};
      if (result.items.size() == 2) {
        if (result.items[0] == "-\\infty") result.open = '(';
        if (result.items[1].starts_with('+')) result.items[1].erase(0, 1);
        if (result.items[1] == "\\infty") result.close = ')';
      }
      return result;
    }
  }
  Parts items = split_top(text, {",", ";"});
  items = with_both_signs(items);
  if (items.size() > 1) {
    result.kind = Collection::Kind::list;
    result.items = std::move(items);
  }
  return result;
}

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
  return result;
}

std::string set_of(const Relation& given) {
  Relation r = given;
  const auto constant = [](const std::string& side) {
    const auto value = evaluate(side);
    return side == "\\infty" || side == "-\\infty" || (value && value->constant);
  };
  if (r.sides.size() == 2 && r.signs == "!") {
    if (constant(r.sides[0])) std::swap(r.sides[0], r.sides[1]);
    if (constant(r.sides[0]) || !constant(r.sides[1])) return {};
    return "(-\\infty," + r.sides[1] + ")\\cup(" + r.sides[1] + ",\\infty)";
  }
  if (!r.signs.empty() && r.signs.find_first_not_of(">g") == std::string::npos) {
    r.sides.assign(given.sides.rbegin(), given.sides.rend());
    r.signs.assign(given.signs.rbegin(), given.signs.rend());
    for (char& sign : r.signs) sign = sign == '>' ? '<' : 'l';
  }
  if (r.signs.empty() || r.signs.find_first_not_of("<l") != std::string::npos) return {};
  if (r.sides.size() == 3 && !constant(r.sides[1]))
    return (r.signs[0] == '<' ? "(" : "[") + r.sides[0] + "," + r.sides[2] +
           (r.signs[1] == '<' ? ")" : "]");
  if (r.sides.size() != 2 || constant(r.sides[0]) == constant(r.sides[1])) return {};
  if (constant(r.sides[0])) return (r.signs[0] == '<' ? "(" : "[") + r.sides[0] + ",\\infty)";
  return "(-\\infty," + r.sides[1] + (r.signs[0] == '<' ? ")" : "]");
}

std::string_view without_membership(std::string_view text) {
  const std::size_t at = text.find("\\in");
  if (at == std::string_view::npos || at > 8 || at + 3 >= text.size()) return text;
  if (std::isalpha(static_cast<unsigned char>(text[at + 3]))) return text;  // \infty, \int
  return text.substr(at + 3);
}

}  // namespace vi::eval::math
