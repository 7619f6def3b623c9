// Equality of answers and the verdict on a generation.
#include "eval/math/answer.h"

#include <cctype>

#include "eval/math/compare.h"
#include "eval/math/latex.h"
#include "eval/text/unicode.h"

namespace vi::eval::math {
namespace {

// The whole answer is one \text{}, \mathbf{}, ... around more than a word or a whole number: to
// Math-Verify a name that equals itself only.
std::string opaque_text(std::string_view answer) {
  answer = text::trim_ascii(answer);
  for (const std::string_view command :
       {"\\text", "\\textbf", "\\textrm", "\\textit", "\\mathbf", "\\mathrm", "\\mathit", "\\mbox"}) {
    if (!answer.starts_with(command) || answer.size() <= command.size() + 2 ||
        answer[command.size()] != '{' || closing_brace(answer, command.size()) + 1 != answer.size())
      continue;
    const std::string_view content =
        answer.substr(command.size() + 1, answer.size() - command.size() - 2);
    std::string name;
    bool digits = false, letters = false;
    for (const char c : content) {
      const char small = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      digits = digits || (c >= '0' && c <= '9');
      letters = letters || (small >= 'a' && small <= 'z');
      if (c != ' ' && c != '(' && c != ')') name += small;
    }
    const bool plain = content.find_first_of("\\.,^=:_") == std::string_view::npos;
    return plain && !(digits && letters) ? std::string() : name;
  }
  return {};
}

// The letter i between characters that are neither letters nor digits.
bool has_lone_i(std::string_view text) {
  const auto word = [&](std::size_t at) {
    return at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) ||
                                text[at] == '_' || static_cast<unsigned char>(text[at]) >= 0x80);
  };
  for (std::size_t at = text.find('i'); at != std::string_view::npos; at = text.find('i', at + 1))
    if (!(at > 0 && word(at - 1)) && !word(at + 1)) return true;
  return false;
}

std::string gold_answer(std::string_view answer) {
  if (const auto boxed = last_boxed(answer)) return *boxed;
  if (answer.find("####") != std::string_view::npos)
    return extract_answer(answer).value_or(std::string(answer));
  return std::string(answer);
}

}  // namespace

bool equal(std::string_view prediction, std::string_view answer, const SymbolicTest* symbolic) {
  if (prediction.size() > kLongestAnswer || answer.size() > kLongestAnswer)
    return text::trim_ascii(prediction) == text::trim_ascii(answer);
  const std::string name = opaque_text(prediction);
  if (name != opaque_text(answer)) return false;
  if (!name.empty()) return true;
  const std::string_view whole = text::trim_ascii(prediction);
  if (whole.ends_with('.') && !text::trim_ascii(answer).ends_with('.')) return false;
  const std::string a = normalise(prediction), b = normalise(answer);
  return !a.empty() && !b.empty() && 
         Comparer(symbolic, has_lone_i(prediction) != has_lone_i(answer)).same(a, b);
}

Verdict judge(std::string_view prediction, std::string_view answer) {
  const std::string gold = gold_answer(answer);
  Verdict verdict;
  verdict.extracted = extract_answer(prediction);
  verdict.equal = verdict.extracted && answers_equal(*verdict.extracted, gold);
  return verdict;
}

}  // namespace vi::eval::math
