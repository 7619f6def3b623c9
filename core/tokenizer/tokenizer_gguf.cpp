// Tokenizer::from_gguf: the keys tokenizer.ggml.*.
#include "core/common/error.h"
#include "core/common/utf8.h"
#include "core/tokenizer/tokenizer_impl.h"
#include "core/weights/gguf.h"

namespace vi::model {
namespace {

enum TokenType : std::int64_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

}  // namespace

Tokenizer Tokenizer::from_gguf(const GgufFile& file) {
  const std::string path = file.path().string();
  const auto place = [&](const char* key) { return path + ": key tokenizer.ggml." + key; };
  const std::string kind = file.get_string("tokenizer.ggml.model");
  if (kind != "gpt2")
    fail<ContractError>("{}: expected gpt2 (byte-level BPE), got {}", place("model"),
                        printable(kind));
  const auto& tokens = file.get_strings("tokenizer.ggml.tokens");
  const auto& merges = file.get_strings("tokenizer.ggml.merges");
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
  const std::string pre = file.get_string("tokenizer.ggml.pre");
  impl->pre = pre_tokenizer_by_name(pre, place("pre"));
  impl->use_nfc = pre == "qwen2";
  Bpe::Options options;
  const bool llama3 = pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3";
  options.ignore_merges = llama3;
  impl->bpe = Bpe(impl->ids, options);
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const std::size_t space = merges[i].find(' ');
    const std::string_view merge = merges[i];
    if (space == std::string::npos || merge.find(' ', space + 1) != std::string::npos ||
        !impl->bpe.add_merge(impl->ids, merge.substr(0, space), merge.substr(space + 1)))
      fail<ContractError>("{}: merge {}: expected two tokens whose union is a token, got {}",
                          place("merges"), i, printable(merges[i]));
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
  if (impl->bos && file.get_bool("tokenizer.ggml.add_bos_token", llama3))
    impl->prefix = {*impl->bos};
  if (impl->eos && file.get_bool("tokenizer.ggml.add_eos_token", false))
    impl->suffix = {*impl->eos};
  return Tokenizer(std::move(impl));
}

}  // namespace vi::model
