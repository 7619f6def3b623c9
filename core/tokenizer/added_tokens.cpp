#include "core/tokenizer/added_tokens.h"

#include <algorithm>

#include "core/common/utf8.h"
#include "core/tokenizer/unicode.h"

namespace vi::model {

void AddedTokenMatcher::add(const AddedToken& token) {
  if (token.content.empty()) return;
  std::int32_t at = 0;
  for (const char c : token.content) {
    const auto byte = static_cast<std::uint8_t>(c);
    std::int32_t next = -1;
    for (const auto& [b, child] : nodes_[static_cast<std::size_t>(at)].children)
      if (b == byte) next = child;
    if (next < 0) {
      next = static_cast<std::int32_t>(nodes_.size());
      nodes_[static_cast<std::size_t>(at)].children.emplace_back(byte, next);
      nodes_.emplace_back();
    }
    at = next;
  }
  Node& end = nodes_[static_cast<std::size_t>(at)];
  if (end.token < 0) end.token = static_cast<std::int32_t>(tokens_.size());
  tokens_.push_back(token);
  starts_[static_cast<std::uint8_t>(token.content[0])] = true;
  longest_ = std::max(longest_, token.content.size());
}

bool AddedTokenMatcher::next(std::string_view text, std::size_t from, Hit& hit) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<std::uint8_t>(text[begin])]) continue;
    std::int32_t at = 0, best = -1;
    std::size_t best_end = 0;
    for (std::size_t i = begin; i < text.size(); ++i) {
      const auto byte = static_cast<std::uint8_t>(text[i]);
      std::int32_t child = -1;
      for (const auto& [b, n] : nodes_[static_cast<std::size_t>(at)].children)
        if (b == byte) {
          child = n;
          break;
        }
      if (child < 0) break;
      at = child;
      if (nodes_[static_cast<std::size_t>(at)].token >= 0) {
        best = nodes_[static_cast<std::size_t>(at)].token;
        best_end = i + 1;
      }
    }
    if (best >= 0) {
      hit = {begin, best_end, static_cast<std::size_t>(best)};
      return true;
    }
  }
  return false;
}

std::vector<AddedTokenMatcher::Piece> AddedTokenMatcher::split(std::string_view text,
                                                               bool skip_special) const {
  std::vector<Piece> pieces;
  std::size_t done = 0;
  Hit hit{};
  for (std::size_t from = 0; !tokens_.empty() && next(text, from, hit);) {
    from = hit.end;
    const AddedToken& token = tokens_[hit.token];
    if (skip_special && token.special) continue;
    std::size_t begin = hit.begin, end = hit.end;
    if (token.single_word) {
      std::size_t before = begin, after = end;
      if (begin > 0 && is_word(previous_code_point(text, before))) continue;
      if (end < text.size() && is_word(next_code_point(text, after))) continue;
    }
    if (token.lstrip) {  // never into what an earlier token took
      while (begin > 0) {
        std::size_t before = begin;
        if (!is_white_space(previous_code_point(text, before))) break;
        begin = before;
      }
      begin = std::max(begin, std::min(done, hit.begin));
    }
    if (token.rstrip) {
      while (end < text.size()) {
        std::size_t after = end;
        if (!is_white_space(next_code_point(text, after))) break;
        end = after;
      }
    }
    if (done < begin) pieces.push_back({done, begin, -1});
    pieces.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) pieces.push_back({done, text.size(), -1});
  return pieces;
}

}  // namespace vi::model
