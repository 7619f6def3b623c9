// Cuts text into the words that merges never cross: a list of steps, each applied to every piece of the one
// before. Expressions are Hugging Face's (Oniguruma), run by PCRE2 with the classes of unicode.h.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace vi::model {

// Where a text may be cut so that both halves give the words of the whole (see may_cut()).
enum class CutRule { never, spaces, gpt2, llama3 };

class PreTokenizer {
 public:
  using Emit = std::function<void(std::string_view)>;

  PreTokenizer();
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;

  void add_digits();  // every numeric character by itself
  // Spaces become `mark`, and one is put before a text that has none in front: SentencePiece's way. It is
  // the only step then. `split`: a word begins at each mark.
  enum class Prepend { never, first, always };
  void add_metaspace(std::string_view mark, Prepend prepend, bool split);
  // A match is a piece, and so is what lies between two matches. ContractError "<place>: ..." if the
  // expression is outside the syntax that means the same to Oniguruma and PCRE2.
  void add_regex(std::string_view expression, std::string_view place);

  // Pieces in order. Thread-safe. ContractError if an expression backtracks without end on this text.
  // `first`: the text stands at the very front (no added token before it).
  void split(std::string_view text, const Emit& emit, bool first = true) const;

  CutRule cut_rule() const;
  // Whether the text may be cut between `left` and `right` (the two characters there).
  static bool may_cut(CutRule rule, char32_t left, char32_t right);

 private:
  struct Step;
  void run(std::size_t step, std::string_view text, const Emit& emit) const;
  static void metaspace(const Step& step, std::string_view text, const Emit& emit, bool first);
  std::vector<std::unique_ptr<Step>> steps_;
};

extern const std::string_view kGpt2Regex, kLlama3Regex, kQwen2Regex;
// The steps of tokenizer.ggml.pre; ContractError for a name that is not known.
PreTokenizer pre_tokenizer_by_name(std::string_view name, std::string_view place);

}  // namespace vi::model
