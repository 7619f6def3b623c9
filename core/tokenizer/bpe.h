// Byte-pair encoding: vocabulary and merges, of two kinds. Byte-level: a token's spelling stands for bytes,
// one character of GPT-2's 256-letter alphabet a byte. By characters (SentencePiece): a token is spelled as
// itself; a character that is no token falls back to the tokens "<0x00>".."<0xFF>" of its bytes.
// Invariant: the merge order is Hugging Face's (lowest rank first, leftmost on ties).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace vi::model {

// The letter of a byte, and back (-1 for a character outside the alphabet).
char32_t byte_letter(std::uint8_t byte);
int letter_byte(char32_t letter);
// The bytes a spelling stands for; nothing if a character is outside the alphabet.
std::optional<std::string> spelled_bytes(std::string_view spelling);
std::string spelling_of(std::string_view bytes);

// What a SentencePiece token puts out: its byte for "<0xAB>", else its spelling with U+2581 as a space.
std::string piece_bytes(std::string_view spelling);
inline constexpr std::string_view kSpaceMark = "\xe2\x96\x81";  // U+2581

struct TransparentHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
};
using Vocabulary = std::unordered_map<std::string, std::int32_t, TransparentHash, std::equal_to<>>;

class Bpe {
 public:
  struct Options {
    bool characters = false;             // SentencePiece's kind
    bool byte_fallback = false;          // by characters only
    bool ignore_merges = false;          // a word that is a token is that token
    std::optional<std::int32_t> unk_id;  // for bytes without a token; none: they are left out
    bool fuse_unk = false;               // a run of them is one
  };
  // Scratch of one thread: results of earlier words and buffers.
  class Scratch;

  Bpe() = default;
  Bpe(const Vocabulary& vocabulary, const Options& options);
  // The next merge in rank order. False if one of left, right, left + right is not in the vocabulary.
  bool add_merge(const Vocabulary& vocabulary, std::string_view left, std::string_view right);
  // Sorts the merges for look-up: call once, after the last add_merge.
  void finish();

  void encode_word(std::string_view bytes, Scratch& scratch, std::vector<std::int32_t>& ids) const;

 private:
  struct Merge {
    std::uint64_t pair;  // left id << 32 | right id
    std::int32_t rank, id;
  };
  const Merge* find(std::int32_t left, std::int32_t right) const;
  void merge_word(std::string_view bytes, Scratch& scratch, std::vector<std::int32_t>& ids) const;
  void start_bytes(std::string_view bytes, Scratch& scratch) const;
  void start_characters(std::string_view text, Scratch& scratch) const;

  Options options_;
  std::array<std::int32_t, 256> byte_ids_{};
  std::unordered_map<char32_t, std::int32_t> character_ids_;
  Vocabulary words_;  // by bytes, with ignore_merges only
  std::vector<Merge> merges_;
  std::vector<std::int32_t> table_;  // open addressing: index into merges_ or -1
};

class Bpe::Scratch {
 public:
  friend class Bpe;

 private:
  struct Symbol {
    std::int32_t id, previous, next;
    bool alive;
  };
  void add(std::int32_t id) {
    const auto n = static_cast<std::int32_t>(symbols_.size());
    symbols_.push_back({id, n - 1, n + 1, true});
  }
  struct Candidate {
    std::int32_t rank, position, id;
  };
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
  std::vector<std::int32_t> result_;
  std::unordered_map<std::string, std::vector<std::int32_t>, TransparentHash, std::equal_to<>> cache_;
};

}  // namespace vi::model
