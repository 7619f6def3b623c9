// Finds added tokens in text: leftmost, then longest, as Hugging Face's AddedVocabulary does, with
// lstrip, rstrip and single_word.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "core/tokenizer/tokenizer.h"

namespace vi::model {

class AddedTokenMatcher {
 public:
  struct Piece {
    std::size_t begin, end;
    std::int32_t id;  // -1: text
  };
  struct Hit {
    std::size_t begin, end;
    std::size_t token;  // index into the list of add()
  };

  void add(const AddedToken& token);  // an empty content is never found
  bool empty() const { return tokens_.empty(); }
  std::size_t longest() const { return longest_; }

  // Tokens and the text between them, in order. skip_special: special tokens stay text.
  std::vector<Piece> split(std::string_view text, bool skip_special) const;
  // The next raw occurrence at or after `from`, before any flag is looked at; false at the end.
  bool next(std::string_view text, std::size_t from, Hit& hit) const;

 private:
  struct Node {
    std::vector<std::pair<std::uint8_t, std::int32_t>> children;
    std::int32_t token = -1;
  };
  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_{1};
  bool starts_[256] = {};
  std::size_t longest_ = 0;
};

}  // namespace vi::model
