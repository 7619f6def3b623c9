// What a Tokenizer is made of, and the builder that both of its sources (tokenizer_gguf.cpp,
// tokenizer_json.cpp) fill.
#pragma once

#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "core/tokenizer/added_tokens.h"
#include "core/tokenizer/bpe.h"
#include "core/tokenizer/normalizer.h"
#include "core/tokenizer/pre_tokenizer.h"
#include "core/tokenizer/tokenizer.h"

namespace vi::model {

struct Tokenizer::Impl {
  Vocabulary ids;                     // spelling -> id, added tokens too
  std::vector<std::string> bytes;     // of each id, what decode() puts out
  std::vector<bool> used, special;    // by id
  std::vector<AddedToken> added;      // sorted by id
  AddedTokenMatcher raw, normalized;  // of AddedToken::normalized false and true
  Normalizer normalizer;
  bool pieces = false;                // SentencePiece's spelling (bpe.h: piece_bytes)
  bool strip_space = false;           // decode() takes one space from the front (pieces only)
  PreTokenizer pre;
  Bpe bpe;
  std::vector<std::int32_t> prefix, suffix;
  std::optional<std::int32_t> bos, eos;

  // A token of the vocabulary. False if the spelling or the id is taken.
  bool add_spelling(const std::string& spelling, std::int32_t id);
  // After all spellings: marks an id as an added token, makes it if it is new. False if the id has
  // another spelling, or the spelling another id.
  bool add_added(const AddedToken& token);
  void finish();  // sorts, fills the matchers

  // Whether a text may be cut between two words at all (added tokens could reach over any cut).
  CutRule cut_rule() const;
  std::vector<std::int32_t> encode(std::string_view valid_utf8, bool parse_special) const;
};

// A token id must be below this; a larger one in a file is damage, not a vocabulary.
inline constexpr std::int64_t kMaxTokenId = 1 << 24;

}  // namespace vi::model
