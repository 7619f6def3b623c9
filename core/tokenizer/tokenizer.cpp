#include "core/tokenizer/tokenizer.h"

#include <algorithm>

#include "core/common/error.h"
#include "core/common/utf8.h"
#include "core/tokenizer/tokenizer_impl.h"
#include "core/tokenizer/unicode.h"

namespace vi::model {

bool Tokenizer::Impl::add_spelling(const std::string& spelling, std::int32_t id) {
  const auto n = static_cast<std::size_t>(id);
  if (n >= bytes.size()) {
    bytes.resize(n + 1);
    used.resize(n + 1);
    special.resize(n + 1);
  }
  if (used[n] || !ids.emplace(spelling, id).second) return false;
  used[n] = true;
  if (pieces)
    bytes[n] = piece_bytes(spelling);
  else
    bytes[n] = spelled_bytes(spelling).value_or(spelling);
  return true;
}

bool Tokenizer::Impl::add_added(const AddedToken& token) {
  const auto it = ids.find(token.content);
  if (it == ids.end() ? !add_spelling(token.content, token.id) : it->second != token.id)
    return false;
  const auto n = static_cast<std::size_t>(token.id);
  bytes[n] = token.content;
  special[n] = token.special;
  added.push_back(token);
  return true;
}

void Tokenizer::Impl::finish() {
  std::sort(added.begin(), added.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  for (AddedToken token : added) {
    if (token.normalized) token.content = normalizer.apply(token.content);
    // The decoder sees an added token as it is looked for, with the marks of spaces.
    if (pieces) bytes[static_cast<std::size_t>(token.id)] = piece_bytes(token.content);
    (token.normalized ? normalized : raw).add(token);
  }
}

CutRule Tokenizer::Impl::cut_rule() const {
  // A token may stand in the normalised text where the raw text does not show it: no cut if it
  // could then reach over one.
  if (!normalizer.only_nfc()) return CutRule::never;
  if (!normalizer.empty())
    for (const AddedToken& token : added)
      for (std::size_t i = 0; token.normalized && i < token.content.size();)
        if (token.lstrip || token.rstrip || is_white_space(next_code_point(token.content, i)))
          return CutRule::never;
  return pre.cut_rule();
}

std::vector<std::int32_t> Tokenizer::Impl::encode(std::string_view text, bool parse_special) const {
  std::vector<std::int32_t> out;
  Bpe::Scratch scratch;
  const auto words = [&](std::string_view piece, bool first) {
    pre.split(piece, [&](std::string_view word) { bpe.encode_word(word, scratch, out); }, first);
  };
  for (const auto& outer : raw.split(text, !parse_special)) {
    if (outer.id >= 0) {
      out.push_back(outer.id);
      continue;
    }
    std::string_view piece = text.substr(outer.begin, outer.end - outer.begin);
    std::string composed;
    if (!normalizer.empty()) piece = composed = normalizer.apply(piece);
    if (normalized.empty()) {
      words(piece, outer.begin == 0);
      continue;
    }
    for (const auto& inner : normalized.split(piece, !parse_special)) {
      if (inner.id >= 0)
        out.push_back(inner.id);
      else
        words(piece.substr(inner.begin, inner.end - inner.begin),
              outer.begin == 0 && inner.begin == 0);
    }
  }
  return out;
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<std::int32_t> Tokenizer::encode(std::string_view text,
                                            const EncodeOptions& options) const {
  require_utf8(text, "text");
  std::vector<std::int32_t> ids = impl_->encode(text, options.parse_special);
  if (options.add_special) {
    ids.insert(ids.begin(), impl_->prefix.begin(), impl_->prefix.end());
    ids.insert(ids.end(), impl_->suffix.begin(), impl_->suffix.end());
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::string text;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size())
      fail<ContractError>("ids: position {}: expected an id of 0..{}, got {}", i, vocab_size() - 1,
                          ids[i]);
    const auto n = static_cast<std::size_t>(ids[i]);
    if (!(skip_special && impl_->special[n])) text += impl_->bytes[n];
  }
  if (impl_->strip_space && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

std::int64_t Tokenizer::vocab_size() const {
  return static_cast<std::int64_t>(impl_->bytes.size());
}

std::optional<std::int32_t> Tokenizer::token_id(std::string_view token) const {
  const auto it = impl_->ids.find(token);
  if (it == impl_->ids.end()) return std::nullopt;
  return it->second;
}

std::string Tokenizer::token_text(std::int32_t id) const {
  VI_CHECK(id >= 0 && id < vocab_size(), "token id {} of {}", id, vocab_size());
  return impl_->bytes[static_cast<std::size_t>(id)];
}

const std::vector<AddedToken>& Tokenizer::added_tokens() const { return impl_->added; }
bool Tokenizer::is_special(std::int32_t id) const {
  return id >= 0 && id < vocab_size() && impl_->special[static_cast<std::size_t>(id)];
}
const std::vector<std::int32_t>& Tokenizer::prefix_ids() const { return impl_->prefix; }
const std::vector<std::int32_t>& Tokenizer::suffix_ids() const { return impl_->suffix; }
std::optional<std::int32_t> Tokenizer::bos_id() const { return impl_->bos; }
std::optional<std::int32_t> Tokenizer::eos_id() const { return impl_->eos; }
void Tokenizer::set_prefix_suffix(std::vector<std::int32_t> prefix,
                                  std::vector<std::int32_t> suffix) {
  impl_->prefix = std::move(prefix);
  impl_->suffix = std::move(suffix);
}
void Tokenizer::set_bos_eos(std::optional<std::int32_t> bos, std::optional<std::int32_t> eos) {
  impl_->bos = bos;
  impl_->eos = eos;
}

}  // namespace vi::model
