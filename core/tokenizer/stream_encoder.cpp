// StreamEncoder: encodes the front of a growing text as soon as no later byte can change its ids.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "core/common/error.h"
#include "core/common/interrupt.h"
#include "core/common/utf8.h"
#include "core/tokenizer/tokenizer_impl.h"

namespace vi::model {
namespace {

constexpr std::size_t kBlock = 256 * 1024;

}  // namespace

StreamEncoder::StreamEncoder(const Tokenizer& tokenizer, Sink sink, const EncodeOptions& options,
                             std::string_view place)
    : tokenizer_(tokenizer),
      sink_(std::move(sink)),
      options_(options),
      place_(place),
      next_try_(kBlock) {}

void StreamEncoder::feed(std::string_view piece) {
  while (!piece.empty()) {  // a huge piece must not be held twice
    const std::string_view part = piece.substr(0, kBlock);
    piece.remove_prefix(part.size());
    buffer_ += part;
    const std::size_t whole = whole_utf8_prefix(buffer_);
    if (whole > checked_) {
      const std::size_t bad =
          find_invalid_utf8(std::string_view(buffer_).substr(checked_, whole - checked_));
      if (bad != std::string::npos)
        fail<ContractError>("{}: byte {}: expected UTF-8 text", place_, offset_ + checked_ + bad);
      checked_ = whole;
    }
    if (buffer_.size() < next_try_) continue;
    if (const std::size_t cut = last_cut(); cut > 0) {
      encode_front(cut);
      next_try_ = kBlock;
    } else {
      next_try_ = buffer_.size() * 2;
    }
  }
}

void StreamEncoder::finish() {
  if (checked_ < buffer_.size())
    fail<ContractError>("{}: byte {}: expected UTF-8 text", place_, offset_ + checked_);
  encode_front(buffer_.size());
  if (options_.add_special && !tokenizer_.suffix_ids().empty()) sink_(tokenizer_.suffix_ids());
  offset_ = 0;
  started_ = false;
  next_try_ = kBlock;
}

// The last place where the pre-tokenizer may be cut and that no added token touches, far enough
// from the end that every token there has been seen whole.
std::size_t StreamEncoder::last_cut() const {
  const Tokenizer::Impl& impl = tokenizer_.impl();
  const CutRule rule = impl.cut_rule();
  if (rule == CutRule::never) return 0;
  const std::string_view text(buffer_.data(), checked_);
  const std::size_t margin = std::max(impl.raw.longest(), impl.normalized.longest()) + 8;
  if (text.size() <= margin) return 0;

  std::vector<std::pair<std::size_t, std::size_t>> hits;  // [begin, end] where no cut may be
  for (const AddedTokenMatcher* matcher : {&impl.raw, &impl.normalized}) {
    AddedTokenMatcher::Hit hit{};
    for (std::size_t from = 0; matcher->next(text, from, hit); from = hit.end)
      hits.push_back({hit.begin, hit.end});
  }
  std::sort(hits.begin(), hits.end());
  std::size_t cut = text.size() - margin;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;
  std::size_t hit = hits.size();
  while (cut > 0) {
    std::size_t right = cut, left = cut;
    const char32_t after = next_code_point(text, right), before = previous_code_point(text, left);
    while (hit > 0 && hits[hit - 1].first > cut) --hit;
    // Both matchers' hits may nest: look back over all that could reach the cut.
    bool touched = false;
    for (std::size_t i = hit; i > 0 && hits[i - 1].first + margin >= cut; --i)
      touched |= hits[i - 1].second >= cut;
    if (!touched && PreTokenizer::may_cut(rule, before, after)) return cut;
    cut = left;
  }
  return 0;
}

void StreamEncoder::encode_front(std::size_t bytes) {
  if (!started_ && options_.add_special && !tokenizer_.prefix_ids().empty())
    sink_(tokenizer_.prefix_ids());
  started_ = true;
  if (bytes == 0) return;
  const std::vector<std::int32_t> ids =
      tokenizer_.impl().encode(std::string_view(buffer_).substr(0, bytes), options_.parse_special);
  buffer_.erase(0, bytes);
  checked_ -= bytes;
  offset_ += bytes;
  sink_(ids);
}

void encode_file(const Tokenizer& tokenizer, const std::filesystem::path& path,
                 const StreamEncoder::Sink& sink, const EncodeOptions& options) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  if (!file) fail<ContractError>("{}: cannot be read: {}", path.string(), std::strerror(errno));
  StreamEncoder encoder(tokenizer, sink, options, path.string());
  std::string block(kBlock, '\0');
  while (const std::size_t n = std::fread(block.data(), 1, block.size(), file.get())) {
    check_interrupt();
    encoder.feed({block.data(), n});
  }
  if (std::ferror(file.get()))
    fail<ContractError>("{}: read error: {}", path.string(), std::strerror(errno));
  encoder.finish();
}

}  // namespace vi::model
