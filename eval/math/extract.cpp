// Taking the final answer out of a generation.
#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <vector>

#include "eval/math/answer.h"
#include "eval/math/latex.h"
#include "eval/text/unicode.h"

namespace vi::eval::math {
namespace {

constexpr std::size_t npos = std::string_view::npos;
// What a hostile text may cost: the longest box that is looked for, and boxes that never close.
constexpr std::size_t kLongestBox = 20000;
constexpr int kBrokenBoxes = 64;
constexpr std::size_t kLongestLine = 2000;

bool digit(char c) { return c >= '0' && c <= '9'; }

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

struct Span {
  std::size_t begin = npos, end = npos;  // of the content
  std::size_t outer_begin = npos, outer_end = npos;
  bool found() const { return begin != npos; }
};

// The content of the box whose command begins at `at`; not found if it is empty or cut off.
Span box_at(std::string_view text, std::size_t at, std::size_t command_size) {
  std::size_t open = at + command_size;
  while (open < text.size() && text[open] == ' ') ++open;
  Span span;
  if (open < text.size() && text[open] == '{') {
    const std::size_t close = closing_brace(text.substr(0, open + kLongestBox), open);
    if (close != 0) span = {open + 1, close, at, close + 1};
  } else {  // \boxed 5
    std::size_t end = open;
    while (end < text.size() && !std::isspace(static_cast<unsigned char>(text[end])) &&
           text[end] != '$')
      ++end;
    span = {open, end, at, end};
  }
  const bool empty =
      !span.found() || text::trim_ascii(text.substr(span.begin, span.end - span.begin)).empty();
  return empty ? Span{} : span;
}

// The last \boxed, \fbox or \framebox that begins before `limit`.
Span find_boxed(std::string_view text, std::size_t limit) {
  Span best;
  int broken = 0;
  for (const std::string_view command : {"\\boxed", "\\fbox", "\\framebox"})
    for (std::size_t end = limit; end > 0 && broken < kBrokenBoxes;) {
      const std::size_t at = text.rfind(command, end - 1);
      if (at == npos) break;
      end = at;
      const Span span = box_at(text, at, command.size());
      if (!span.found()) {
        ++broken;
        continue;
      }
      if (!best.found() || at > best.outer_begin) best = span;
      break;
    }
  return best;
}

// Only a connective, punctuation or math delimiters: two boxes with this between them are one
// answer.
bool is_connective(std::string_view between) {
  std::string word;
  for (const char c : lower(between))
    if (!std::isspace(static_cast<unsigned char>(c)) &&
        std::string_view("$\\(),{}").find(c) == npos)
      word += c;
  for (const std::string_view layout : {"qquad", "quad", "text"})
    for (std::size_t at = word.find(layout); at != npos; at = word.find(layout))
      word.erase(at, layout.size());
  if (word.empty() || word == "and" || word == "or") return true;
  return between.size() <= 30 && between.find('\n') == npos && between.find(" and ") != npos;
}

// The place lies inside $..$, \(..\) or \[..\].
bool in_environment(std::string_view text, std::size_t at) {
  std::size_t dollars = 0;
  for (std::size_t i = at; i < text.size(); ++i) {
    if (text[i] == '\\') {
      const char next = i + 1 < text.size() ? text[i + 1] : '\0';
      if (dollars == 0 && (next == ')' || next == ']')) return true;
      if (dollars == 0 && (next == '(' || next == '[')) return false;
      ++i;
    } else if (text[i] == '$') {
      ++dollars;
      if (i + 1 < text.size() && text[i + 1] == '$') ++i;
    }
  }
  return dollars % 2 == 1;
}

// Outside formulas Math-Verify takes two boxes for one answer if little stands between them, or a
// comma, semicolon, "and" or "or" does within 70 characters.
bool joins_plain_boxes(std::string_view between) {
  if (between.size() < 10) return true;
  if (between.size() >= 70) return false;
  if (between.find_first_of(",;") != npos) return true;
  const std::string small = lower(between);
  return small.find(" and ") != npos || small.find(" or ") != npos;
}

// Behind a \frac{number}{number} that begins here, else npos: one outside any formula, or in one that never closes
// (a cut answer), counts as a formula.
std::size_t fraction_end(std::string_view text, std::size_t at) {
  if (text.substr(at, 5) != "\\frac") return npos;
  at += 5;
  for (int part = 0; part < 2; ++part) {
    if (at >= text.size() || text[at] != '{') return npos;
    ++at;
    if (at < text.size() && text[at] == '-') ++at;
    const std::size_t digits = at;
    while (at < text.size() && digit(text[at])) ++at;
    if (at == digits) return npos;
    if (at + 1 < text.size() && (text[at] == '.' || text[at] == ',') && digit(text[at + 1])) {
      ++at;
      while (at < text.size() && digit(text[at])) ++at;
    }
    if (at >= text.size() || text[at] != '}') return npos;
    ++at;
  }
  return at;
}

// $..$, $$..$$, \(..\), \[..\], with `fractions` a bare fraction too: the last one, or the first one that begins at or
// after `from` if `first`.
Span find_environment(std::string_view text, std::size_t from, bool first, bool fractions = false) {
  Span best;
  std::vector<std::string_view> missing;  // closing signs that do not come any more
  for (std::size_t i = from; i < text.size(); ++i) {
    std::string_view open, close;
    if (text.substr(i, 2) == "$$")
      open = close = "$$";
    else if (text.substr(i, 2) == "\\$") {
      ++i;
      continue;
    } else if (text[i] == '$')
      open = close = "$";
    else if (text.substr(i, 2) == "\\(")
      open = "\\(", close = "\\)";
    else if (text.substr(i, 2) == "\\[")
      open = "\\[", close = "\\]";
    else {
      const std::size_t end = fractions ? fraction_end(text, i) : npos;
      if (end == npos) continue;
      const std::size_t begin = i > from && text[i - 1] == '-' ? i - 1 : i;
      best = {begin, end, begin, end};
      if (first) return best;
      i = end - 1;
      continue;
    }
    const std::size_t begin = i + open.size();
    if (std::find(missing.begin(), missing.end(), close) != missing.end()) continue;
    std::size_t end = text.find(close, begin);
    while (end != npos && close == "$" && text[end - 1] == '\\') end = text.find(close, end + 1);
    if (end == npos) missing.push_back(close);
    if (end == npos || (close == "$" && text.substr(begin, end - begin).find('\n') != npos))
      continue;
    if (end > begin) {
      best = {begin, end, i, end + close.size()};
      if (first) return best;
    }
    i = end + close.size() - 1;
  }
  return best;
}

// The last number, or the first one: sign, thousands, decimals, a simple fraction, a percent sign.
Span find_number(std::string_view text, bool first = false) {
  Span best;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!digit(text[i]) && !(text[i] == '.' && i + 1 < text.size() && digit(text[i + 1]))) continue;
    if (i > 0 && (std::isalpha(static_cast<unsigned char>(text[i - 1])) || text[i - 1] == '_')) {
      while (i + 1 < text.size() && std::isalnum(static_cast<unsigned char>(text[i + 1]))) ++i;
      continue;
    }
    std::size_t begin = i;
    if (begin > 0 && text[begin - 1] == '-' &&
        (begin == 1 || !std::isalnum(static_cast<unsigned char>(text[begin - 2]))))
      --begin;
    std::size_t end = i;
    const auto group = [&](std::size_t at) {  // ,ddd
      return at + 3 < text.size() && text[at] == ',' && digit(text[at + 1]) &&
             digit(text[at + 2]) && digit(text[at + 3]) &&
             !(at + 4 < text.size() && digit(text[at + 4]));
    };
    while (end < text.size() && (digit(text[end]) || group(end))) ++end;
    const auto more = [&](char c) {
      return end + 1 < text.size() && text[end] == c && digit(text[end + 1]);
    };
    if (more('.') || (more(',') && !group(end))) {
      ++end;
      while (end < text.size() && digit(text[end])) ++end;
    }
    if (more('/')) {
      ++end;
      while (end < text.size() && digit(text[end])) ++end;
    }
    if (end < text.size() && text[end] == '%') ++end;
    best = {begin, end, begin, end};
    if (first) break;
    i = end - 1;
  }
  return best;
}

std::string cut(std::string_view text, const Span& span) {
  return std::string(text::trim_ascii(text.substr(span.begin, span.end - span.begin)));
}

// A number before a full stop inside a formula is that number, "80." and "x = 80." alike; anything
// else with a full stop is what Math-Verify cannot read, and stays as it is.
std::string formula(std::string_view text, const Span& span) {
  std::string content = cut(text, span);
  if (content.size() < 2 || content.back() != '.') return content;
  std::size_t at = content.size() - 1;
  while (at > 0 && (digit(content[at - 1]) || content[at - 1] == '.' || content[at - 1] == ',')) --at;
  const bool number = at < content.size() - 1;
  while (at > 0 && (content[at - 1] == ' ' || content[at - 1] == '-')) --at;
  const bool value = at == 0 || (content[at - 1] == '=' &&
                                 std::string_view(content).substr(0, at).find('^') == npos);
  if (number && value) content.pop_back();
  return content;
}

// "and", "or" or a comma between two formulas makes them one answer.
bool joins_formulas(std::string_view between) {
  const std::string_view word = text::trim_ascii(between);
  return word == "and" || word == ",and" || word == "or" || word == ",or" || word == ",";
}

// The last environment or number, whichever ends later.
std::optional<std::string> last_value(std::string_view text) {
  std::string answer;  // of the last environment and those that are joined to it
  std::size_t answer_end = npos;
  for (Span one = find_environment(text, 0, true, true); one.found();
       one = find_environment(text, one.outer_end, true, true)) {
    const bool joined = answer_end != npos &&
                        joins_formulas(text.substr(answer_end, one.outer_begin - answer_end));
    answer = joined ? answer + "," + formula(text, one) : formula(text, one);
    answer_end = one.outer_end;
  }
  const Span number = find_number(text);
  if (answer_end != npos && (!number.found() || answer_end >= number.end)) return answer;
  if (number.found()) return cut(text, number);
  return std::nullopt;
}

// Words of two or more letters outside commands and their names (\text{}, \begin{}).
int count_words(std::string_view line) {
  int words = 0;
  for (std::size_t i = 0; i < line.size();) {
    const bool command = line[i] == '\\';
    std::size_t end = i + (command ? 1 : 0);
    while (end < line.size() && std::isalpha(static_cast<unsigned char>(line[end]))) ++end;
    const std::string_view run = line.substr(i, end - i);
    words += !command && run.size() >= 2 && run != "and" && run != "or";
    i = std::max(end, i + 1);
    constexpr std::string_view kNamed[] = {"\\text",   "\\textbf", "\\mbox", "\\mathrm",
                                           "\\mathbf", "\\begin",  "\\end"};
    if (i < line.size() && line[i] == '{' &&
        std::find(std::begin(kNamed), std::end(kNamed), run) != std::end(kNamed))
      if (const std::size_t close = closing_brace(line, i); close != 0) i = close + 1;
  }
  return words;
}
// Words beside a number: 5 since 6 > 5; not a word alone.
bool has_remark(std::string_view line) {
  const int words = count_words(line);
  return words >= 2 ||
         (words == 1 && line.find('\\') == npos && line.find_first_of("0123456789") != npos);
}

// One line of mathematics, or one word, and nothing else: (1,2) is not its last number.
bool is_bare(std::string_view text) {
  constexpr std::size_t kLongestBare = 400;
  if (text.size() > kLongestBare || text.find('\n') != npos) return false;
  if (find_environment(text, 0, true).found()) return false;
  return text.find(' ') == npos || count_words(text) == 0 ||
         (count_words(text) == 1 && text.find('\\') != npos);
}

// What stands after "answer is": an environment if one follows at once, else up to the end of the
// sentence.
std::optional<std::string> after_claim(std::string_view text, std::size_t at) {
  std::string_view rest = text.substr(at);
  const std::size_t skip = rest.find_first_not_of(" \t\r\n:*=_");
  if (skip == npos) return std::nullopt;
  rest.remove_prefix(skip);
  for (const std::string_view word : {"that ", "is ", "therefore ", "simply ", "thus "})
    if (rest.starts_with(word)) rest.remove_prefix(word.size());
  const std::size_t line_end = std::min(rest.find('\n'), rest.size());
  const Span environment = find_environment(rest, 0, true);
  if (environment.found() && environment.outer_begin <= std::min<std::size_t>(line_end, 3)) {
    std::string answer = formula(rest, environment);
    for (std::size_t end = environment.outer_end;;) {  // $3$, $4$ and $5$
      const Span next = find_environment(rest.substr(0, std::min(rest.size(), end + kLongestLine)), end, true);
      if (!next.found() || !joins_formulas(rest.substr(end, next.outer_begin - end))) return answer;
      answer += "," + formula(rest, next);
      end = next.outer_end;
    }
  }
  std::string_view line = rest.substr(0, line_end);
  if (line.size() > kLongestLine) return last_value(line);
  for (std::size_t i = 0; i < line.size(); ++i) {  // a full stop that ends a sentence
    const bool stop =
        line[i] == '.' && (i + 1 == line.size() || line[i + 1] == ' ' || line[i + 1] == '*');
    if (stop ||
        (line[i] == ',' && i + 1 < line.size() && line[i + 1] == ' ' && line[0] != '(' &&
         line[0] != '[' && line[0] != '{' && line[0] != '\\' &&
         std::isalpha(static_cast<unsigned char>(line[std::min(i + 2, line.size() - 1)])))) {
      line = line.substr(0, i);
      break;
    }
  }
  while (!line.empty() && (line.back() == '*' || line.back() == ' ' || line.back() == '.'))
    line.remove_suffix(1);
  line = text::trim_ascii(line);
  if (line.empty()) return std::nullopt;
  if (!has_remark(line)) return std::string(line);
  // In a sentence: the first formula or number that is near, whichever ends later.
  const Span number = find_number(line, true);
  if (environment.found() && environment.outer_begin <= 50 &&
      (!number.found() || environment.outer_end > number.end))
    return formula(rest, environment);
  if (number.found() && number.begin <= 50) return cut(line, number);
  return last_value(line).value_or(std::string(line));
}

// Where the claim with the latest of these phrases ends; npos if there is none.
std::size_t find_claim(std::string_view small, std::initializer_list<std::string_view> phrases) {
  std::size_t claim = npos;
  for (const std::string_view phrase : phrases) {
    const std::size_t at = small.rfind(phrase);
    if (at != npos && (claim == npos || at + phrase.size() > claim)) claim = at + phrase.size();
  }
  return claim;
}

std::optional<std::string> extract_from(std::string_view text) {
  const std::string small = lower(text);
  if (const auto boxed = last_boxed(text)) {
    const std::size_t final_claim = find_claim(small, {"final answer is"});
    if (final_claim != npos && final_claim > find_boxed(text, text.size()).outer_end)
      if (auto answer = after_claim(text, final_claim)) return answer;
    return boxed;
  }
  if (const std::size_t mark = text.rfind("####"); mark != npos) {
    const std::size_t end = text.find('\n', mark);
    const std::string_view line =
        text::trim_ascii(text.substr(mark + 4, end == npos ? npos : end - mark - 4));
    if (!line.empty()) return std::string(line);
  }
  const std::size_t claim =
      find_claim(small, {"answer is", "answer:", "answer =", "answer**:", "answer:**",
                         "answers are", "solution is", "final result is"});
  if (claim != npos)
    if (auto answer = after_claim(text, claim)) return answer;
  if (std::string_view whole = text::trim_ascii(text); !whole.empty() && is_bare(whole)) {
    if (whole.ends_with('.')) whole.remove_suffix(1);
    return std::string(whole);
  }
  return last_value(text);
}

}  // namespace

std::optional<std::string> last_boxed(std::string_view text) {
  Span last = find_boxed(text, text.size());
  if (!last.found()) return std::nullopt;
  std::string answer = cut(text, last);
  const bool formula = in_environment(text, last.outer_end);
  for (int joined = 0; joined < 8; ++joined) {  // \boxed{1} and \boxed{2}
    const Span before = find_boxed(text, last.outer_begin);
    if (!before.found() || before.outer_end > last.outer_begin) break;
    const std::string_view between =
        text.substr(before.outer_end, last.outer_begin - before.outer_end);
    if (!is_connective(between) && (formula || !joins_plain_boxes(between))) break;
    const std::string one = cut(text, before);
    if (one != cut(text, last)) answer = one + "," + answer;
    last = before;
  }
  return answer;
}

std::optional<std::string> extract_answer(std::string_view text) {
  constexpr std::string_view kThought = "</think>";
  if (const std::size_t end = text.rfind(kThought); end != npos)
    if (auto answer = extract_from(text.substr(end + kThought.size()))) return answer;
  return extract_from(text);
}

}  // namespace vi::eval::math
