// Canonical text of an answer: what is notation goes, what is value stays.
#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "eval/math/answer.h"
#include "eval/math/latex.h"
#include "eval/text/unicode.h"

namespace vi::eval::math {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

// Commands of layout and other spellings; whole commands only.
constexpr Pair kCommands[] = {
    {"\\left", ""},
    {"\\right", ""},
    {"\\bigl", ""},
    {"\\bigr", ""},
    {"\\Bigl", ""},
    {"\\Bigr", ""},
    {"\\big", ""},
    {"\\Big", ""},
    {"\\bigg", ""},
    {"\\Bigg", ""},
    {"\\displaystyle", ""},
    {"\\textstyle", ""},
    {"\\bf", ""},
    {"\\rm", ""},
    {"\\large", ""},
    {"\\Large", ""},
    {"\\sim", ""},
    {"\\limits", ""},
    {"\\quad", " "},
    {"\\qquad", " "},
    {"\\dfrac", "\\frac"},
    {"\\tfrac", "\\frac"},
    {"\\cfrac", "\\frac"},
    {"\\dbinom", "\\binom"},
    {"\\tbinom", "\\binom"},
    {"\\leq", "\\le"},
    {"\\geq", "\\ge"},
    {"\\leqslant", "\\le"},
    {"\\geqslant", "\\ge"},
    {"\\lt", "<"},
    {"\\gt", ">"},
    {"\\neq", "\\ne"},
    {"\\cdotp", "\\cdot"},
    {"\\ast", "*"},
    {"\\degree", ""},
    {"\\varnothing", "\\emptyset"},
    {"\\lbrace", "\\{"},
    {"\\rbrace", "\\}"},
    {"\\lbrack", "["},
    {"\\rbrack", "]"},
    {"\\lvert", "|"},
    {"\\rvert", "|"},
    {"\\vert", "|"},
    {"\\mid", "|"},
    {"\\thinspace", ""},
    {"\\land", ","},
    {"\\lor", ","},
    {"\\infin", "\\infty"},
    {"\\colon", ":"},
    {"\\textdollar", ""},
    {"\\euro", ""},
    {"\\checkmark", ""},
    {"\\hline", ""},
};

constexpr Pair kSymbols[] = {
    {",\\! ", ","},
    {"\\mathbb{R}", "(-\\infty,\\infty)"},
    {"\\mathbb R", "(-\\infty,\\infty)"},
    {"\u211d", "(-\\infty,\\infty)"},
    {"!=", "\\ne "},
    {"\\!", ""},
    {"\\,", " "},
    {"\\;", " "},
    {"\\:", " "},
    {"\\>", ""},
    {"\\ ", " "},
    {"~", " "},
    {"\\$", ""},
    {"$", ""},
    {"\\%", "%"},
    {"{,}", ","},
    {"\u2212", "-"},
    {"\u2013", "-"},
    {"\u00d7", "\\times "},
    {"\u00f7", "/"},
    {"\u03c0", "\\pi "},
    {"\u221e", "\\infty "},
    {"\u221a", "\\sqrt "},
    {"\u2264", "\\le "},
    {"\u2265", "\\ge "},
    {"\u2260", "\\ne "},
    {"\u222a", "\\cup "},
    {"\u2229", "\\cap "},
    {"\u2208", "\\in "},
    {"\u00b1", "\\pm "},
    {"\u00b7", "\\cdot "},
    {"\u22c5", "\\cdot "},
    {"\u00b2", "^2"},
    {"\u00b3", "^3"},
    {"\u00bd", "\\frac{1}{2}"},
    {"\u00bc", "\\frac{1}{4}"},
    {"\u00be", "\\frac{3}{4}"},
    {"\u2205", "\\emptyset "},
    {"\u00b0", ""},
    {"\u20ac", ""},
    {"\u00a3", ""},
    {"\u00a5", ""},
    {"^\\circ", ""},
    {"^{\\circ}", ""},
    {"^ \\circ", ""},
    {"**", ""},
    {"\u03b8", "\\theta "},
    {"\u03b1", "\\alpha "},
    {"\u03b2", "\\beta "},
    {"\n", " "},
    {"\t", " "},
    {"\r", " "},
};

constexpr std::string_view kUnits[] = {
    "mm",      "cm",      "dm",        "km",         "m",          "meter",       "meters",
    "metre",   "metres",  "kilometer", "kilometers", "centimeter", "centimeters", "millimeters",
    "inch",    "inches",  "in",        "ft",         "foot",       "feet",        "yd",
    "yard",    "yards",   "mile",      "miles",      "mi",         "mph",         "kmph",
    "g",       "kg",      "gram",      "grams",      "kilograms",  "lb",          "lbs",
    "pound",   "pounds",  "ounce",     "ounces",     "oz",         "ton",         "tons",
    "second",  "seconds", "sec",       "s",          "minute",     "minutes",     "min",
    "hour",    "hours",   "hr",        "hrs",        "h",          "day",         "days",
    "week",    "weeks",   "month",     "months",     "year",       "years",       "dollar",
    "dollars", "cent",    "cents",     "euro",       "euros",      "usd",         "degree",
    "degrees", "radian",  "radians",   "unit",       "units",      "square",      "cubic",
    "sq",      "per",     "liter",     "liters",     "litre",      "litres",      "gallon",
    "gallons", "people",  "students",  "points",     "times",      "ways",        "apples",
    "books",   "eggs",    "hz",        "rpm",        "volts",      "joules",      "newtons",
    "watts",   "base",    "ten",       "pm",         "am"};

bool letter(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; }
bool digit(char c) { return c >= '0' && c <= '9'; }

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

// Every occurrence of a whole command (no letter after it).
void replace_command(std::string& text, std::string_view command, std::string_view by) {
  for (std::size_t at = text.find(command); at != std::string::npos; at = text.find(command, at)) {
    const std::size_t end = at + command.size();
    if (end < text.size() && letter(text[end])) {
      at = end;
      continue;
    }
    text.replace(at, command.size(), by);
    at += by.size();
  }
}

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (std::size_t at = text.find(what); at != std::string::npos;
       at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

// \name{content} -> content, everywhere.
void unwrap(std::string& text, std::string_view command) {
  for (std::size_t at = text.find(command); at != std::string::npos; at = text.find(command, at)) {
    std::size_t open = at + command.size();
    while (open < text.size() && text[open] == ' ') ++open;
    const std::size_t close =
        open < text.size() && text[open] == '{' ? closing_brace(text, open) : 0;
    if (close == 0) {
      at += command.size();
      continue;
    }
    text.erase(close, 1);
    text.erase(at, open + 1 - at);
  }
}

// Words: a connective becomes a comma, a unit or remark beside a value goes, a word alone stays.
void resolve_text(std::string& text) {
  constexpr std::string_view kWrappers[] = {
      "\\textbf",     "\\textit", "\\textrm", "\\texttt",       "\\textsf", "\\text",
      "\\textnormal", "\\mbox",   "\\mathrm", "\\operatorname", "\\hbox"};
  struct Piece {
    std::size_t begin, end;  // of the command with its braces
    std::string content;
  };
  std::vector<Piece> pieces;
  std::string rest;
  for (std::size_t i = 0; i < text.size();) {
    bool found = false;
    for (const std::string_view wrapper : kWrappers) {
      if (text.compare(i, wrapper.size(), wrapper) != 0) continue;
      std::size_t open = i + wrapper.size();
      while (open < text.size() && text[open] == ' ') ++open;
      const std::size_t close =
          open < text.size() && text[open] == '{' ? closing_brace(text, open) : 0;
      if (close == 0) continue;
      pieces.push_back({i, close + 1, text.substr(open + 1, close - open - 1)});
      i = close + 1;
      found = true;
      break;
    }
    if (!found) rest += text[i++];
  }
  if (pieces.empty()) return;
  bool value = false;
  for (std::size_t i = 0; i < rest.size(); ++i) value = value || digit(rest[i]) || letter(rest[i]);
  std::string result;
  std::size_t done = 0;
  for (const Piece& piece : pieces) {
    result.append(text, done, piece.begin - done);
    done = piece.end;
    const std::string word = lower(text::trim_ascii(piece.content));
    const bool has_digit = std::any_of(word.begin(), word.end(), digit);
    if (word == "and" || word == "or" || word == ", and" || word == "," || word == ", or") {
      result += ',';
    } else if (!value || has_digit || (word.size() == 1 && result.empty())) {
      result += piece.content;
    } else {  // a unit: its power goes with it
      while (done < text.size() && text[done] == ' ') ++done;
      if (done + 1 < text.size() && text[done] == '^') {
        if (digit(text[done + 1]))
          done += 2;
        else if (text[done + 1] == '{') {
          const std::size_t close = closing_brace(text, done + 1);
          if (close != 0) done = close + 1;
        }
      }
    }
  }
  result.append(text, done, std::string::npos);
  text = result;
}

// "5 cm", "12 square feet", "3 dollars per day": trailing unit words after a value.
void drop_units(std::string& text) {
  for (;;) {
    std::size_t end = text.size();
    while (end > 0 && (text[end - 1] == ' ' || text[end - 1] == '.')) --end;
    std::size_t stop = end;  // of the word
    if (stop >= 2 && digit(text[stop - 1]) && text[stop - 2] == '^') stop -= 2;
    std::size_t begin = stop;
    while (begin > 0 && letter(text[begin - 1])) --begin;
    if (begin == stop || begin == 0 || text[begin - 1] == '\\' || text[begin - 1] == '_') return;
    const std::string word = lower(std::string_view(text).substr(begin, stop - begin));
    if (std::find(std::begin(kUnits), std::end(kUnits), word) == std::end(kUnits)) return;
    std::size_t before = begin;
    while (before > 0 && (text[before - 1] == ' ' || text[before - 1] == '/')) --before;
    if (before == 0) return;
    const bool separated = before < begin;
    const char last = text[before - 1];
    const bool after_value = digit(last) || last == '}' || last == ')';
    if (word.size() == 1 ? !(separated && digit(last))
                         : !(after_value || (separated && letter(last))))
      return;  // 5m may be a product, 5 m is a length
    text.erase(before);
  }
}

// 1,234,567 -> 1234567, outside brackets (in them a comma separates).
void drop_thousands(std::string& text) {
  if (text.find_first_of("([{") != std::string::npos) return;
  for (std::size_t at = text.find(','); at != std::string::npos; at = text.find(',', at + 1)) {
    std::size_t first = at;
    while (first > 0 && digit(text[first - 1])) --first;
    std::size_t run = at + 1;
    while (run < text.size() && digit(text[run])) ++run;
    const std::size_t before = at - first, after = run - at - 1;
    if (before < 1 || after != 3 || text[first] == '0') continue;
    if (before > 3 && first > 0) continue;
    text.erase(at, 1);
    --at;
  }
}

// The base of a number system: 4210_5, 4210_{5}, 11_b.
void drop_number_bases(std::string& text) {
  for (std::size_t at = text.find('_'); at != std::string::npos; at = text.find('_', at + 1)) {
    std::size_t before = at;
    while (before > 0 && text[before - 1] == ' ') --before;
    if (before == 0 || !digit(text[before - 1])) continue;
    std::size_t end = at + 2;
    if (at + 1 < text.size() && text[at + 1] == '{') {
      const std::size_t close = closing_brace(text, at + 1);
      if (close == 0) return;
      end = close + 1;
    }
    text.erase(before, std::min(end, text.size()) - before);
    at = before > 0 ? before - 1 : 0;
  }
}

// A value beside its rounding is the value: 2/3 \approx 0.67; x \approx 0.67 is an equation.
void drop_rounding(std::string& text) {
  for (const std::string_view sign : {"\\approx", "\\simeq", "\u2248"}) {
    const std::size_t at = text.find(sign);
    if (at == std::string::npos) continue;
    const std::string_view left = text::trim_ascii(std::string_view(text).substr(0, at));
    const bool name = !left.empty() && left.size() <= 8 && left != "e" && left != "\\pi" &&
                      std::none_of(left.begin(), left.end(), digit) &&
                      left.find('=') == std::string_view::npos;
    if (name || left.empty())
      text.replace(at, sign.size(), name ? "=" : "");
    else
      text.resize(at);
  }
}

void strip_ends(std::string& text) {
  std::string_view view = text::trim_ascii(text);
  while (!view.empty() &&
         (view.back() == '.' || view.back() == ',' || view.back() == ';' || view.back() == ':'))
    view = text::trim_ascii(view.substr(0, view.size() - 1));
  text = std::string(view);
}

}  // namespace

std::string normalise(std::string_view answer) {
  std::string text(text::trim_ascii(answer));
  constexpr std::array<Pair, 4> kEnvironments{
      {{"$$", "$$"}, {"$", "$"}, {"\\(", "\\)"}, {"\\[", "\\]"}}};
  for (const auto& [open, close] : kEnvironments)
    if (text.size() >= open.size() + close.size() && text.starts_with(open) &&
        text.ends_with(close))
      text = text.substr(open.size(), text.size() - open.size() - close.size());
  if (text.find("\\begin") == std::string::npos)  // escaped twice
    for (std::size_t at = text.find("\\\\"); at != std::string::npos;
         at = text.find("\\\\", at + 1))
      if (at + 2 < text.size() && letter(text[at + 2])) text.erase(at, 1);
  constexpr std::string_view kRow = "\x01";  // "\\\\" ends a row of a matrix; "\\ " is a space
  replace_all(text, "\\\\", kRow);
  for (const auto& [command, by] : kCommands) replace_command(text, command, by);
  for (const auto& [symbol, by] : kSymbols) replace_all(text, symbol, by);
  for (const std::string_view wrapper :
       {"\\mathbf", "\\mathit", "\\mathbb", "\\mathcal", "\\boldsymbol", "\\bm", "\\boxed",
        "\\fbox", "\\mathsf", "\\emph"})
    unwrap(text, wrapper);
  resolve_text(text);
  strip_ends(text);
  drop_units(text);
  strip_ends(text);
  drop_number_bases(text);
  for (const std::string_view word : {" and ", " or ", ")or(", ")and("})
    replace_all(text, word, word.front() == ')' ? "),(" : ",");
  for (const std::string_view word : {"percentage", "percent", "pct"})
    if (text.ends_with(word)) text.replace(text.size() - word.size(), word.size(), "%");
  drop_thousands(text);
  drop_rounding(text);
  // Spaces stand for nothing now, except between a command and a letter.
  std::string compact;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ' ') {
      compact += text[i];
      continue;
    }
    std::size_t next = i;
    while (next < text.size() && text[next] == ' ') ++next;
    std::size_t word = compact.size();
    while (word > 0 && letter(compact[word - 1])) --word;
    const bool command = word < compact.size() && word > 0 && compact[word - 1] == '\\';
    const bool numbers = !compact.empty() && digit(compact.back()) && next < text.size() &&
                         digit(text[next]);  // 12 000 is no number and no product
    if (numbers || (command && next < text.size() && letter(text[next]))) compact += ' ';
    i = next - 1;
  }
  replace_all(compact, kRow, "\\\\");
  replace_all(compact, ",,", ",");
  replace_all(compact, "\\}\\cup\\{", ",");  // of finite sets
  if (compact == "\\emptyset") compact = "\\{\\}";
  constexpr std::string_view kAllBut = "(-\\infty,\\infty)\\setminus\\{";
  if (compact.starts_with(kAllBut) && compact.ends_with("\\}") &&
      compact.find(',', kAllBut.size()) == std::string::npos) {
    const std::string point =
        compact.substr(kAllBut.size(), compact.size() - kAllBut.size() - 2);
    compact = std::string("(-\\infty,").append(point).append(")\\cup(").append(point).append(",\\infty)");
  }
  return compact;
}

}  // namespace vi::eval::math
