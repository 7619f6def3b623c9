// What is done to a text (between added tokens) before it is cut into words: Hugging Face's
// normalizers of the families we know. NFC (Qwen), Prepend and Replace (SentencePiece).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vi::model {

class Normalizer {
 public:
  void add_nfc();
  void add_prepend(std::string_view text);  // not to an empty text
  void add_replace(std::string_view from, std::string_view to);  // `from` is not empty

  bool empty() const { return steps_.empty(); }
  bool only_nfc() const;
  std::string apply(std::string_view text) const;  // valid UTF-8

 private:
  struct Step {
    enum class Kind { nfc, prepend, replace } kind;
    std::string from, to;
  };
  std::vector<Step> steps_;
};

}  // namespace vi::model
