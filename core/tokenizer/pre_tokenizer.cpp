#include "core/tokenizer/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/common/error.h"
#include "core/common/utf8.h"
#include "core/tokenizer/unicode.h"

namespace vi::model {

constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct MatchDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct ContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

// Oniguruma -> PCRE2: \s, \p{L} and \p{N} become explicit classes; what means different things to
// the two is refused.
std::string translate(std::string_view in, std::string_view place) {
  const auto reject = [&](std::string_view what) {
    fail<ContractError>("{}: regular expression {}: {}", place, printable(in), what);
  };
  if (in.size() > 4000) reject("expected at most 4000 bytes");
  require_utf8(in, place);
  std::string out;
  bool in_class = false, class_start = false;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const char c = in[i];
    const bool first = class_start;
    class_start = false;
    if (c == '\\') {
      if (++i == in.size()) reject("expected a character after the last backslash");
      const char e = in[i];
      const auto put = [&](const std::string& body) { out += in_class ? body : "[" + body + "]"; };
      if (e == 's') {
        put(white_space_class());
      } else if (e == 'S') {
        if (in_class) reject("expected no \\S inside brackets");
        out += "[^" + white_space_class() + "]";
      } else if (in.substr(i, 4) == "p{L}") {
        put(letter_class());
        i += 3;
      } else if (in.substr(i, 4) == "p{N}") {
        put(number_class());
        i += 3;
      } else if (e == 'p' || e == 'P') {
        const std::size_t close = in.find('}', i);
        if (i + 1 >= in.size() || in[i + 1] != '{' || close == std::string_view::npos)
          reject("expected \\p{...}");
        out += '\\';
        out += in.substr(i, close - i + 1);
        i = close;
      } else if (e == 'r' || e == 'n' || e == 't' ||
                 (static_cast<unsigned char>(e) < 0x80 && !is_word(static_cast<char32_t>(e)))) {
        out += '\\';
        out += e;
      } else {
        reject(fmt::format(
            "expected an escape of \\s \\S \\p \\P \\r \\n \\t or punctuation, got \\{}",
            printable(in.substr(i, 1))));
      }
      continue;
    }
    if (in_class) {
      if (c == '[' || (c == '&' && in.substr(i, 2) == "&&"))
        reject("expected no sets inside brackets");
      if (c == ']') {
        if (first) reject("expected no empty brackets");
        in_class = false;
      }
      class_start = first && c == '^';
    } else if (c == '[') {
      in_class = class_start = true;
    } else if (c == '^' || c == '$') {
      reject("expected no anchors");
    } else if (c == '(' && in.substr(i, 2) == "(*") {
      reject("expected no verbs");
    } else if (c == '(' && in.substr(i, 2) == "(?") {
      const std::string_view rest = in.substr(i + 2);
      if (!rest.starts_with("i:") && !rest.starts_with(":") && !rest.starts_with("!") &&
          !rest.starts_with("="))
        reject("expected groups of (?i: (?: (?! or (?=");
    } else if (c == '}' && i + 1 < in.size() && in[i + 1] == '+') {
      reject("expected no possessive {n,m}+");
    }
    out += c;
  }
  return out;
}

CutRule rule_of(std::string_view regex) {
  if (regex == kGpt2Regex) return CutRule::gpt2;
  if (regex == kLlama3Regex || regex == kQwen2Regex) return CutRule::llama3;
  return CutRule::never;
}

}  // namespace

struct PreTokenizer::Step {
  bool digits = false;
  std::string mark;  // metaspace
  Prepend prepend = Prepend::never;
  bool split_marks = false;
  CutRule rule = CutRule::never;
  std::unique_ptr<pcre2_code, CodeDeleter> code;
  std::unique_ptr<pcre2_match_context, ContextDeleter> context;
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

void PreTokenizer::add_digits() {
  steps_.push_back(std::make_unique<Step>());
  steps_.back()->digits = true;
}

void PreTokenizer::add_metaspace(std::string_view mark, Prepend prepend, bool split) {
  VI_CHECK(steps_.empty() && !mark.empty(), "metaspace is the only step");
  steps_.push_back(std::make_unique<Step>());
  steps_.back()->mark = mark;
  steps_.back()->prepend = prepend;
  steps_.back()->split_marks = split;
}

void PreTokenizer::add_regex(std::string_view expression, std::string_view place) {
  const std::string pattern = translate(expression, place);
  auto step = std::make_unique<Step>();
  step->rule = rule_of(expression);
  int code = 0;
  PCRE2_SIZE at = 0;
  step->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at,
                                 nullptr));
  if (!step->code) {
    PCRE2_UCHAR text[200] = {};
    pcre2_get_error_message(code, text, sizeof text);
    fail<ContractError>("{}: regular expression {}: {}", place, printable(expression),
                        reinterpret_cast<const char*>(text));
  }
  pcre2_jit_compile(step->code.get(), PCRE2_JIT_COMPLETE);  // without JIT it runs interpreted
  step->context.reset(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(step->context.get(), 10'000'000);
  pcre2_set_heap_limit(step->context.get(), 1 << 17);  // KiB
  steps_.push_back(std::move(step));
}

void PreTokenizer::split(std::string_view text, const Emit& emit, bool first) const {
  if (text.empty()) return;
  if (!steps_.empty() && !steps_[0]->mark.empty())
    metaspace(*steps_[0], text, emit, first);
  else
    run(0, text, emit);
}

void PreTokenizer::metaspace(const Step& step, std::string_view text, const Emit& emit,
                             bool first) {
  std::string marked;
  for (const char c : text) c == ' ' ? marked += step.mark : marked += c;
  const bool wanted = step.prepend == Prepend::always || (step.prepend == Prepend::first && first);
  if (wanted && !marked.starts_with(step.mark)) marked.insert(0, step.mark);
  const std::string_view all = marked;
  std::size_t begin = 0;
  while (step.split_marks) {
    const std::size_t next = all.find(step.mark, begin + 1);
    if (next == std::string_view::npos) break;
    emit(all.substr(begin, next - begin));
    begin = next;
  }
  emit(all.substr(begin));
}

void PreTokenizer::run(std::size_t index, std::string_view text, const Emit& emit) const {
  if (index == steps_.size()) {
    emit(text);
    return;
  }
  const Step& step = *steps_[index];
  std::size_t done = 0;  // everything before it has gone on
  const auto pass = [&](std::size_t begin, std::size_t end) {
    if (done < begin) run(index + 1, text.substr(done, begin - done), emit);
    if (begin < end) run(index + 1, text.substr(begin, end - begin), emit);
    done = end;
  };
  if (step.digits) {
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t begin = i;
      if (is_numeric(next_code_point(text, i))) pass(begin, i);
    }
    pass(text.size(), text.size());
    return;
  }
  const std::unique_ptr<pcre2_match_data, MatchDeleter> data(
      pcre2_match_data_create_from_pattern(step.code.get(), nullptr));
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (std::size_t from = 0; from < text.size();) {
    int found = pcre2_match(step.code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                            data.get(), step.context.get());
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
      found = pcre2_match(step.code.get(), subject, text.size(), from,
                          PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(), step.context.get());
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0)
      fail<ContractError>(
          "text: byte {}: the pre-tokenizer's regular expression fails (PCRE2 error {})", from,
          found);
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    if (ends[1] <= ends[0]) {  // an empty match cuts nothing
      from = std::max<std::size_t>(from, ends[0]);
      next_code_point(text, from);
      continue;
    }
    pass(ends[0], ends[1]);
    from = ends[1];
  }
  pass(text.size(), text.size());
}

CutRule PreTokenizer::cut_rule() const {
  CutRule rule = CutRule::never;
  for (const auto& step : steps_) {
    if (step->digits) continue;  // metaspace has rule never: words of any length
    if (step->rule == CutRule::never) return CutRule::never;
    if (rule != CutRule::never && rule != step->rule) return CutRule::spaces;
    rule = step->rule;
  }
  return rule;
}

// A word's last character is never white space, so a word ends where a blank follows: no expression
// of the table takes a blank after anything but a blank. What differs is newlines: GPT-2's treats
// them as blanks; Llama-3's takes them behind punctuation, and ends every run of white space at its
// last newline.
bool PreTokenizer::may_cut(CutRule rule, char32_t left, char32_t right) {
  if (rule == CutRule::never) return false;
  const bool left_space = is_white_space(left), right_space = is_white_space(right);
  const auto newline = [](char32_t c) { return c == '\n' || c == '\r'; };
  if (!left_space && right_space) {
    return !newline(right) || rule == CutRule::gpt2 ||
           (rule == CutRule::llama3 && is_letter_or_number_ascii(left));
  }
  return rule == CutRule::llama3 && newline(left) && !right_space;
}

PreTokenizer pre_tokenizer_by_name(std::string_view name, std::string_view place) {
  PreTokenizer steps;
  if (name == "gpt-2" || name == "gpt2") {
    steps.add_regex(kGpt2Regex, place);
  } else if (name == "smollm") {
    steps.add_digits();
    steps.add_regex(kGpt2Regex, place);
  } else if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
    steps.add_regex(kLlama3Regex, place);
  } else if (name == "qwen2" || name == "deepseek-r1-qwen") {
    steps.add_regex(kQwen2Regex, place);
  } else {
    fail<ContractError>("{}: expected gpt-2, smollm, llama-bpe, qwen2 or deepseek-r1-qwen, got {}", place,
                        printable(name));
  }
  return steps;
}

}  // namespace vi::model
