#include "core/tokenizer/bpe.h"

#include <algorithm>
#include <limits>

#include "core/common/error.h"
#include "core/common/utf8.h"

namespace vi::model {
namespace {

constexpr std::size_t kCachedWordBytes = 48, kCachedWords = 1 << 16;

struct Alphabet {
  std::array<char32_t, 256> letter{};
  std::array<std::int16_t, 512> byte{};
  Alphabet() {
    byte.fill(-1);
    char32_t next = 256;  // bytes without a printable Latin-1 letter come from here on
    for (unsigned b = 0; b < 256; ++b) {
      const bool own = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      letter[b] = own ? static_cast<char32_t>(b) : next++;
      byte[letter[b]] = static_cast<std::int16_t>(b);
    }
  }
};
const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}
std::size_t slot_of(std::uint64_t key, std::size_t mask) {
  key *= 0x9e3779b97f4a7c15ull;
  return static_cast<std::size_t>(key >> 32) & mask;
}

}  // namespace

char32_t byte_letter(std::uint8_t byte) { return alphabet().letter[byte]; }
int letter_byte(char32_t letter) { return letter < 512 ? alphabet().byte[letter] : -1; }

std::optional<std::string> spelled_bytes(std::string_view spelling) {
  std::string bytes;
  for (std::size_t i = 0; i < spelling.size();) {
    const int byte = letter_byte(next_code_point(spelling, i));
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

std::string piece_bytes(std::string_view spelling) {
  const auto hex = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  if (spelling.size() == 6 && spelling.starts_with("<0x") && spelling.back() == '>' &&
      hex(spelling[3]) >= 0 && hex(spelling[4]) >= 0)
    return {static_cast<char>(hex(spelling[3]) * 16 + hex(spelling[4]))};
  std::string out;
  for (std::size_t i = 0; i < spelling.size();) {
    const bool mark = spelling.substr(i).starts_with(kSpaceMark);
    out += mark ? ' ' : spelling[i];
    i += mark ? kSpaceMark.size() : 1;
  }
  return out;
}

std::string spelling_of(std::string_view bytes) {
  std::string out;
  for (const char b : bytes) append_utf8(out, byte_letter(static_cast<std::uint8_t>(b)));
  return out;
}

Bpe::Bpe(const Vocabulary& vocabulary, const Options& options) : options_(options) {
  for (unsigned b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const auto it = vocabulary.find(options.characters ? fmt::format("<0x{:02X}>", b)
                                                       : spelling_of({&byte, 1}));
    byte_ids_[b] = it == vocabulary.end() ? -1 : it->second;
  }
  if (options.characters) {
    if (options.ignore_merges) words_ = vocabulary;
    for (const auto& [spelling, id] : vocabulary) {
      std::size_t end = 0;
      if (spelling.empty()) continue;
      const char32_t character = next_code_point(spelling, end);
      if (end == spelling.size()) character_ids_.emplace(character, id);
    }
    return;
  }
  if (!options.ignore_merges) return;
  for (const auto& [spelling, id] : vocabulary)
    if (auto bytes = spelled_bytes(spelling)) words_.emplace(std::move(*bytes), id);
}

bool Bpe::add_merge(const Vocabulary& vocabulary, std::string_view left, std::string_view right) {
  std::string both(left);
  both += right;
  const auto a = vocabulary.find(left), b = vocabulary.find(right), c = vocabulary.find(both);
  if (a == vocabulary.end() || b == vocabulary.end() || c == vocabulary.end()) return false;
  merges_.push_back(
      {pair_key(a->second, b->second), static_cast<std::int32_t>(merges_.size()), c->second});
  return true;
}

void Bpe::finish() {
  std::size_t size = 16;
  while (size < merges_.size() * 2) size *= 2;
  table_.assign(size, -1);
  for (std::size_t i = 0; i < merges_.size(); ++i) {
    std::size_t slot = slot_of(merges_[i].pair, size - 1);
    while (table_[slot] >= 0 &&
           merges_[static_cast<std::size_t>(table_[slot])].pair != merges_[i].pair)
      slot = (slot + 1) & (size - 1);
    table_[slot] =
        static_cast<std::int32_t>(i);  // a pair listed twice: the last one counts, as in HF's map
  }
}

const Bpe::Merge* Bpe::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t key = pair_key(left, right);
  const std::size_t mask = table_.size() - 1;
  for (std::size_t slot = slot_of(key, mask); table_[slot] >= 0; slot = (slot + 1) & mask) {
    const Merge& merge = merges_[static_cast<std::size_t>(table_[slot])];
    if (merge.pair == key) return &merge;
  }
  return nullptr;
}

void Bpe::encode_word(std::string_view bytes, Scratch& scratch,
                      std::vector<std::int32_t>& ids) const {
  if (options_.ignore_merges) {
    const auto it = words_.find(bytes);
    if (it != words_.end()) {
      ids.push_back(it->second);
      return;
    }
  }
  if (bytes.size() > kCachedWordBytes) {
    merge_word(bytes, scratch, ids);
    return;
  }
  const auto it = scratch.cache_.find(bytes);
  if (it != scratch.cache_.end()) {
    ids.insert(ids.end(), it->second.begin(), it->second.end());
    return;
  }
  scratch.result_.clear();
  merge_word(bytes, scratch, scratch.result_);
  ids.insert(ids.end(), scratch.result_.begin(), scratch.result_.end());
  if (scratch.cache_.size() >= kCachedWords) scratch.cache_.clear();
  scratch.cache_.emplace(std::string(bytes), scratch.result_);
}

void Bpe::start_bytes(std::string_view bytes, Scratch& scratch) const {
  bool unknown_open = false;  // the last symbol stands for unknown bytes
  for (const char byte : bytes) {
    std::int32_t id = byte_ids_[static_cast<std::uint8_t>(byte)];
    if (id < 0) {
      if (!options_.unk_id) continue;
      if (unknown_open && options_.fuse_unk) continue;
      id = *options_.unk_id;
      unknown_open = true;
    } else {
      unknown_open = false;
    }
    scratch.add(id);
  }
}

void Bpe::start_characters(std::string_view text, Scratch& scratch) const {
  bool unknown = false;  // one is waiting: bytes that fall back overtake it, as in Hugging Face's
  const auto flush = [&] {
    if (unknown) scratch.add(*options_.unk_id);
    unknown = false;
  };
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    const auto it = character_ids_.find(next_code_point(text, i));
    if (it != character_ids_.end()) {
      flush();
      scratch.add(it->second);
      continue;
    }
    const std::string_view bytes = text.substr(begin, i - begin);
    const auto id = [&](char b) { return byte_ids_[static_cast<std::uint8_t>(b)]; };
    if (options_.byte_fallback &&
        std::all_of(bytes.begin(), bytes.end(), [&](char b) { return id(b) >= 0; })) {
      for (const char b : bytes) scratch.add(id(b));
      continue;
    }
    if (!options_.unk_id) continue;
    if (!options_.fuse_unk) flush();
    unknown = true;
  }
  flush();
}

void Bpe::merge_word(std::string_view bytes, Scratch& scratch,
                     std::vector<std::int32_t>& ids) const {
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max() / 2))
    fail<ContractError>("text: expected words of less than 1 GiB, got {} bytes", bytes.size());
  auto& symbols = scratch.symbols_;
  symbols.clear();
  if (options_.characters)
    start_characters(bytes, scratch);
  else
    start_bytes(bytes, scratch);
  if (symbols.empty()) return;
  symbols.back().next = -1;

  auto& heap = scratch.heap_;
  heap.clear();
  const auto later = [](const Scratch::Candidate& a, const Scratch::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  const auto push = [&](std::int32_t left, std::int32_t right) {
    if (const Merge* merge = find(symbols[static_cast<std::size_t>(left)].id,
                                  symbols[static_cast<std::size_t>(right)].id)) {
      heap.push_back({merge->rank, left, merge->id});
      std::push_heap(heap.begin(), heap.end(), later);
    }
  };
  for (std::int32_t i = 0; i + 1 < static_cast<std::int32_t>(symbols.size()); ++i) push(i, i + 1);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[static_cast<std::size_t>(top.position)];
    if (!left.alive || left.next < 0) continue;
    Scratch::Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    // Out of date unless the pair there still makes this token.
    const Merge* merge = find(left.id, right.id);
    if (!merge || merge->id != top.id) continue;
    left.id = top.id;
    right.alive = false;
    left.next = right.next;
    if (right.next >= 0) symbols[static_cast<std::size_t>(right.next)].previous = top.position;
    if (left.previous >= 0) push(left.previous, top.position);
    if (left.next >= 0) push(top.position, left.next);
  }
  for (std::int32_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next)
    ids.push_back(symbols[static_cast<std::size_t>(i)].id);
}

}  // namespace vi::model
