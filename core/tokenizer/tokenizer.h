// BPE, byte-level or SentencePiece's, with the ids of Hugging Face's `tokenizers`, from GGUF metadata or
// tokenizer.json. Text -> added tokens cut out -> normaliser -> pre-tokenizer -> merges by rank.
// Invariant: decode(encode(text)) == text for valid UTF-8 unless the tokenizer normalises (NFC), an added
// token swallows spaces around it (lstrip, rstrip), or the space that SentencePiece puts in front goes again
// with one of the text's own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace vi::model {

class GgufFile;

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;      // left out by decode(ids, skip_special = true)
  bool normalized = false;   // looked for in normalised text, after all that are not
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool single_word = false;  // only where no word character touches it
};

struct EncodeOptions {
  bool add_special = false;    // ids the post-processor adds (Llama-3: BOS); HF's add_special_tokens
  bool parse_special = true;   // "<|im_end|>" in the text is the token; false: it is plain text
};

class Tokenizer {
 public:
  // ContractError with the file and the key that is missing, wrong or not supported.
  static Tokenizer from_gguf(const GgufFile& file);
  static Tokenizer from_json_file(const std::filesystem::path& tokenizer_json);
  static Tokenizer from_json(std::string_view text, std::string_view place);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // `text` must be UTF-8: ContractError "text: byte N: ..." otherwise. Thread-safe.
  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;
  // The bytes of the tokens, possibly cut inside a UTF-8 sequence (utf8.h: utf8_lossy); what normalising or stripping took does not come back. ContractError for
  // an id outside the vocabulary. Thread-safe.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const;

  std::int64_t vocab_size() const;                                // largest id + 1
  std::optional<std::int32_t> token_id(std::string_view token) const;  // in the vocabulary's own spelling
  std::string token_text(std::int32_t id) const;                  // its bytes; "" for an unused id
  const std::vector<AddedToken>& added_tokens() const;            // sorted by id
  bool is_special(std::int32_t id) const;
  // What EncodeOptions::add_special puts before and after.
  const std::vector<std::int32_t>& prefix_ids() const;
  const std::vector<std::int32_t>& suffix_ids() const;
  std::optional<std::int32_t> bos_id() const;  // of GGUF metadata or tokenizer_config.json
  std::optional<std::int32_t> eos_id() const;
  // Replaces them (tokenizer_config.json's add_bos_token and add_eos_token); ids of the vocabulary.
  void set_prefix_suffix(std::vector<std::int32_t> prefix, std::vector<std::int32_t> suffix);
  void set_bos_eos(std::optional<std::int32_t> bos, std::optional<std::int32_t> eos);

  struct Impl;  // tokenizer_impl.h
  const Impl& impl() const { return *impl_; }

 private:
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Encodes a text that comes in pieces (any cut, inside a UTF-8 sequence too) and does not fit in memory:
// the ids of all feed() calls and finish() together are those of encode(whole text). It cuts only where
// the pre-tokenizer must (between a word and a space, mostly), so it holds back the text after the last
// such place: a block of 256 KiB of prose, but all of a text without white space. Pre-tokenizer expressions
// that are not in our table, and SentencePiece's tokenizers, hold everything back until finish().
class StreamEncoder {
 public:
  using Sink = std::function<void(std::span<const std::int32_t>)>;
  // `place` is what errors start with. The tokenizer must outlive the encoder.
  StreamEncoder(const Tokenizer& tokenizer, Sink sink, const EncodeOptions& options = {},
                std::string_view place = "text");
  void feed(std::string_view piece);
  void finish();  // the rest; the encoder is then as new
  std::size_t held_bytes() const { return buffer_.size(); }

 private:
  std::size_t last_cut() const;  // 0: none
  void encode_front(std::size_t bytes);

  const Tokenizer& tokenizer_;
  Sink sink_;
  EncodeOptions options_;
  std::string place_, buffer_;
  std::size_t checked_ = 0;   // bytes of buffer_ known to be UTF-8
  std::size_t next_try_ = 0;  // buffer_ size at which a cut is looked for again
  std::uint64_t offset_ = 0;  // of buffer_ in the whole text, for messages
  bool started_ = false;
};

// A text file of any size through StreamEncoder, in bounded memory. ContractError "file: byte N: ...".
void encode_file(const Tokenizer& tokenizer, const std::filesystem::path& path, const StreamEncoder::Sink& sink,
                 const EncodeOptions& options = {});

}  // namespace vi::model
