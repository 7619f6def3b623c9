// Tokenizer::from_gguf: the keys tokenizer.ggml.*.
#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/common/error.h"
#include "core/common/utf8.h"
#include "core/tokenizer/tokenizer_impl.h"
#include "core/weights/gguf.h"

namespace vi::model {
namespace {

constexpr std::size_t kLongestPiece = 4096;  // bytes; a longer token is found whole or not at all

enum TokenType : std::int64_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

// SentencePiece's file has scores instead of merges. Every cut of a token into two is a merge; a higher
// score goes first, then the longer left part, the longer right part, the order of the tokens' ids: as
// Hugging Face's conversion of such files ranks them.
void add_scored_merges(const std::vector<std::string>& tokens, const std::vector<double>& scores,
                       const std::vector<std::int64_t>& types, Tokenizer::Impl& impl) {
  struct Merge {
    double score;
    std::size_t left, right;           // characters
    std::int32_t token, first, second;  // ids
  };
  const auto normal = [&](std::size_t id) {
    return types.empty() || types[id] == kNormal || types[id] == kUserDefined;
  };
  const auto find = [&](std::string_view spelling) {
    const auto it = impl.ids.find(spelling);
    return it != impl.ids.end() && normal(static_cast<std::size_t>(it->second)) ? it->second : -1;
  };
  std::vector<Merge> merges;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view token = tokens[i];
    if (!normal(i) || token.size() > kLongestPiece || find(token) != static_cast<std::int32_t>(i))
      continue;
    const std::size_t length = characters(token);
    std::size_t left = 0;
    for (std::size_t at = 0; at < token.size();) {
      next_code_point(token, at);
      ++left;
      if (at == token.size()) break;
      const std::int32_t first = find(token.substr(0, at));
      const std::int32_t second = first < 0 ? -1 : find(token.substr(at));
      if (second >= 0)
        merges.push_back(
            {scores[i], left, length - left, static_cast<std::int32_t>(i), first, second});
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    if (a.score != b.score) return a.score > b.score;
    if (a.left != b.left) return a.left > b.left;
    if (a.right != b.right) return a.right > b.right;
    return std::tie(a.token, a.first, a.second) < std::tie(b.token, b.first, b.second);
  });
  for (const Merge& m : merges)
    impl.bpe.add_merge(impl.ids, tokens[static_cast<std::size_t>(m.first)],
                       tokens[static_cast<std::size_t>(m.second)]);
}

}  // namespace

Tokenizer Tokenizer::from_gguf(const GgufFile& file) {
  const std::string path = file.path().string();
  const auto place = [&](const char* key) { return path + ": key tokenizer.ggml." + key; };
  const std::string kind = file.get_string("tokenizer.ggml.model");
  if (kind != "gpt2" && kind != "llama")
    fail<ContractError>("{}: expected gpt2 (byte-level BPE) or llama (SentencePiece), got {}",
                        place("model"), printable(kind));
  const bool pieces = kind == "llama";
  const auto& tokens = file.get_strings("tokenizer.ggml.tokens");
  static const std::vector<std::int64_t> kNoTypes;
  const auto& types =
      file.has("tokenizer.ggml.token_type") ? file.get_ints("tokenizer.ggml.token_type") : kNoTypes;
  if (!types.empty() && types.size() != tokens.size())
    fail<ContractError>("{}: expected {} entries, got {}", place("token_type"), tokens.size(),
                        types.size());
  if (tokens.empty() || static_cast<std::int64_t>(tokens.size()) > kMaxTokenId)
    fail<ContractError>("{}: expected 1..{} tokens, got {}", place("tokens"), kMaxTokenId,
                        tokens.size());

  auto impl = std::make_unique<Impl>();
  impl->pieces = pieces;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::int64_t type = types.empty() ? kNormal : types[i];
    const auto id = static_cast<std::int32_t>(i);
    if (find_invalid_utf8(tokens[i]) != std::string::npos)
      fail<ContractError>("{}: token {}: expected UTF-8, got {}", place("tokens"), i,
                          printable(tokens[i]));
    if (!impl->add_spelling(tokens[i], id) && type != kUnused)
      fail<ContractError>("{}: token {}: expected each token once, got {} again", place("tokens"),
                          i, printable(tokens[i]));
    if ((type == kControl || type == kUserDefined) && !tokens[i].empty()) {
      AddedToken token;
      token.content = tokens[i];
      token.id = id;
      token.special = type == kControl;
      impl->add_added(token);
    }
  }
  Bpe::Options options;
  bool add_bos = pieces;  // where the file does not say
  if (pieces) {
    const auto& scores = file.get_doubles("tokenizer.ggml.scores");
    if (scores.size() != tokens.size())
      fail<ContractError>("{}: expected {} entries, got {}", place("scores"), tokens.size(),
                          scores.size());
    for (std::size_t i = 0; i < scores.size(); ++i)
      if (!std::isfinite(scores[i]))
        fail<ContractError>("{}: token {}: expected a finite score", place("scores"), i);
    options.characters = options.byte_fallback = options.fuse_unk = true;
    const std::int64_t unknown = file.get_int("tokenizer.ggml.unknown_token_id", 0);
    if (unknown >= 0 && unknown < static_cast<std::int64_t>(tokens.size()))
      options.unk_id = static_cast<std::int32_t>(unknown);
    impl->bpe = Bpe(impl->ids, options);
    add_scored_merges(tokens, scores, types, *impl);
    impl->strip_space = file.get_bool("tokenizer.ggml.add_space_prefix", true);
    if (impl->strip_space) impl->normalizer.add_prepend(kSpaceMark);
    impl->normalizer.add_replace(" ", kSpaceMark);
  } else {
    const std::string pre = file.get_string("tokenizer.ggml.pre");
    impl->pre = pre_tokenizer_by_name(pre, place("pre"));
    if (pre == "qwen2" || pre == "deepseek-r1-qwen") impl->normalizer.add_nfc();
    add_bos = options.ignore_merges = pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3";
    impl->bpe = Bpe(impl->ids, options);
    const auto& merges = file.get_strings("tokenizer.ggml.merges");
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const std::size_t space = merges[i].find(' ');
      const std::string_view merge = merges[i];
      if (space == std::string::npos || merge.find(' ', space + 1) != std::string::npos ||
          !impl->bpe.add_merge(impl->ids, merge.substr(0, space), merge.substr(space + 1)))
        fail<ContractError>("{}: merge {}: expected two tokens whose union is a token, got {}",
                            place("merges"), i, printable(merges[i]));
    }
  }
  impl->bpe.finish();
  impl->finish();

  const auto id = [&](const char* key) -> std::optional<std::int32_t> {
    const std::string name = std::string("tokenizer.ggml.") + key;
    if (!file.has(name)) return std::nullopt;
    const std::int64_t value = file.get_int(name);
    if (value < 0 || value >= static_cast<std::int64_t>(tokens.size()))
      fail<ContractError>("{}: expected a token id below {}, got {}", place(key), tokens.size(),
                          value);
    return static_cast<std::int32_t>(value);
  };
  impl->bos = id("bos_token_id");
  impl->eos = id("eos_token_id");
  if (impl->bos && file.get_bool("tokenizer.ggml.add_bos_token", add_bos))
    impl->prefix = {*impl->bos};
  if (impl->eos && file.get_bool("tokenizer.ggml.add_eos_token", false))
    impl->suffix = {*impl->eos};
  return Tokenizer(std::move(impl));
}

}  // namespace vi::model
