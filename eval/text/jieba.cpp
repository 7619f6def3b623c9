#include "eval/text/jieba.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "core/common/error.h"
#include "core/common/file.h"
#include "eval/text/py_literal.h"
#include "eval/text/unicode.h"

namespace vi::eval::text {
namespace fs = std::filesystem;
namespace {

constexpr double kMinFloat = -3.14e100;  // jieba's log of zero

enum State { kB, kM, kE, kS, kStates };
constexpr std::string_view kStateNames = "BMES";
// The states that may come before each; in descending order of the letter, so that the first
// maximum is the one Python's max() of (probability, letter) takes.
constexpr std::array<std::array<State, 2>, kStates> kBefore = {{
    {kS, kE},  // B
    {kM, kB},  // M
    {kM, kB},  // E
    {kS, kE},  // S
}};

fs::path data_file(const fs::path& folder, const char* name) {
  const fs::path path = folder / name;
  if (!fs::is_regular_file(path))
    fail<ContractError>(
        "{}: not found; the Chinese metrics need jieba's data: install the Debian package "
        "python3-jieba",
        path.string());
  return path;
}

bool is_han(char32_t c) { return c >= 0x4e00 && c <= 0x9fd5; }
bool is_latin(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}
bool in_block(char32_t c) {  // characters that dictionary words are made of
  return is_han(c) || is_latin(c) || c == '+' || c == '#' || c == '&' || c == '.' || c == '_' ||
         c == '%' || c == '-';
}

// A text with the byte offset of each of its characters.
struct Indexed {
  std::string_view bytes;
  std::u32string chars;
  std::vector<std::size_t> at;  // chars.size() + 1 offsets
  explicit Indexed(std::string_view text) : bytes(text), chars(to_utf32(text)) {
    at.reserve(chars.size() + 1);
    std::size_t offset = 0;
    for (const char32_t c : chars) {
      at.push_back(offset);
      offset += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    }
    at.push_back(offset);
  }
  std::string_view slice(std::size_t begin, std::size_t end) const {
    return bytes.substr(at[begin], at[end] - at[begin]);
  }
};

}  // namespace

struct Jieba::Impl {
  std::string dictionary;  // the file; the keys below point into it
  std::unordered_map<std::string_view, std::int64_t>
      frequency;  // words, and 0 for their beginnings
  double log_total = 0.0;
  std::array<double, kStates> start{};
  std::array<std::array<double, kStates>, kStates> transition{};
  std::array<std::unordered_map<char32_t, double>, kStates> emission;

  void read_dictionary(const fs::path& path);
  void read_model(const fs::path& folder);
  std::int64_t find(std::string_view word) const {  // -1: not even the beginning of a word
    const auto entry = frequency.find(word);
    return entry == frequency.end() ? -1 : entry->second;
  }
  std::vector<std::size_t> best_path(const Indexed& text, std::size_t begin, std::size_t end) const;
  void cut_block(const Indexed& text, std::size_t begin, std::size_t end,
                 std::vector<std::string>& words) const;
  void cut_unknown(const Indexed& text, std::size_t begin, std::size_t end,
                   std::vector<std::string>& words) const;
  void cut_hidden(const Indexed& text, std::size_t begin, std::size_t end,
                  std::vector<std::string>& words) const;
};

void Jieba::Impl::read_dictionary(const fs::path& path) {
  dictionary = read_file(path);
  frequency.reserve(700'000);
  std::int64_t total = 0, line_number = 0;
  const std::string_view all = dictionary;
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end = std::min(all.find('\n', begin), all.size());
    const std::string_view line = trim_ascii(all.substr(begin, end - begin));
    begin = end + 1;
    ++line_number;
    const std::size_t space = line.find(' ');
    const std::string_view word = line.substr(0, space);
    std::int64_t count = 0;
    const std::string_view rest = space == std::string_view::npos ? "" : line.substr(space + 1);
    const auto [stop, code] = std::from_chars(rest.data(), rest.data() + rest.size(), count);
    const bool ended = stop == rest.data() + rest.size() || *stop == ' ';
    if (word.empty() || code != std::errc{} || !ended || count < 0 || !is_valid_utf8(word))
      fail<ContractError>("{}:{}: expected 'word count tag'", path.string(), line_number);
    frequency[word] = count;
    total += count;
    for (std::size_t i = 1; i <= word.size(); ++i)
      if (i == word.size() || (static_cast<unsigned char>(word[i]) & 0xc0) != 0x80)
        frequency.try_emplace(word.substr(0, i), 0);
  }
  if (total <= 0) fail<ContractError>("{}: holds no words", path.string());
  log_total = std::log(static_cast<double>(total));
}

void Jieba::Impl::read_model(const fs::path& folder) {
  const fs::path files[] = {data_file(folder, "finalseg/prob_start.py"),
                            data_file(folder, "finalseg/prob_trans.py"),
                            data_file(folder, "finalseg/prob_emit.py")};
  const auto state_of = [&](const std::string& key, const fs::path& path) {
    const std::size_t state = key.size() == 1 ? kStateNames.find(key[0]) : std::string_view::npos;
    if (state == std::string_view::npos)
      fail<ContractError>("{}: '{}' is not one of the states B, M, E, S", path.string(), key);
    return state;
  };
  start.fill(kMinFloat);
  for (auto& row : transition) row.fill(kMinFloat);
  for_each_py_entry(read_file(files[0]), files[0].string(), [&](const PyEntry& entry) {
    if (entry.keys.size() == 1) start[state_of(entry.keys[0], files[0])] = entry.value;
  });
  for_each_py_entry(read_file(files[1]), files[1].string(), [&](const PyEntry& entry) {
    if (entry.keys.size() == 2)
      transition[state_of(entry.keys[0], files[1])][state_of(entry.keys[1], files[1])] =
          entry.value;
  });
  for_each_py_entry(read_file(files[2]), files[2].string(), [&](const PyEntry& entry) {
    const std::u32string character =
        entry.keys.size() == 2 ? to_utf32(entry.keys[1]) : std::u32string();
    if (character.size() == 1)
      emission[state_of(entry.keys[0], files[2])][character[0]] = entry.value;
  });
  for (const auto& table : emission)
    if (table.empty()) fail<ContractError>("{}: a state has no characters", files[2].string());
}

// next[i - begin]: the end of the word that begins at character i on the most probable path.
std::vector<std::size_t> Jieba::Impl::best_path(const Indexed& text, std::size_t begin,
                                                std::size_t end) const {
  const std::size_t n = end - begin;
  std::vector<std::size_t> next(n);
  std::vector<double> score(n + 1, 0.0);
  for (std::size_t i = n; i-- > 0;) {
    bool any = false;
    const auto consider = [&](std::size_t stop, std::int64_t count) {
      const double value =
          std::log(static_cast<double>(count > 0 ? count : 1)) - log_total + score[stop];
      if (!any || value >= score[i])
        score[i] = value, next[i] = begin + stop;  // a tie: the longer word
      any = true;
    };
    for (std::size_t stop = i + 1; stop <= n; ++stop) {
      const std::int64_t count = find(text.slice(begin + i, begin + stop));
      if (count < 0) break;
      if (count > 0) consider(stop, count);
    }
    if (!any) consider(i + 1, find(text.slice(begin + i, begin + i + 1)));
  }
  return next;
}

void Jieba::Impl::cut_block(const Indexed& text, std::size_t begin, std::size_t end,
                            std::vector<std::string>& words) const {
  const std::vector<std::size_t> next = best_path(text, begin, end);
  std::size_t buffered = begin;  // single characters from here up to the current word
  const auto flush = [&](std::size_t stop) {
    if (stop == buffered + 1) {
      words.emplace_back(text.slice(buffered, stop));
    } else if (stop > buffered) {
      if (find(text.slice(buffered, stop)) <= 0) {
        cut_unknown(text, buffered, stop, words);
      } else {
        for (std::size_t i = buffered; i < stop; ++i) words.emplace_back(text.slice(i, i + 1));
      }
    }
  };
  for (std::size_t i = begin; i < end;) {
    const std::size_t stop = next[i - begin];
    if (stop - i > 1) {
      flush(i);
      words.emplace_back(text.slice(i, stop));
      buffered = stop;
    }
    i = stop;
  }
  flush(end);
}

// Runs of Chinese characters by the model; the rest split around [a-zA-Z0-9]+(\.\d+)?%?
void Jieba::Impl::cut_unknown(const Indexed& text, std::size_t begin, std::size_t end,
                              std::vector<std::string>& words) const {
  const std::u32string& c = text.chars;
  for (std::size_t i = begin; i < end;) {
    std::size_t stop = i;
    if (is_han(c[i])) {
      while (stop < end && is_han(c[stop])) ++stop;
      cut_hidden(text, i, stop, words);
    } else if (is_latin(c[i])) {
      while (stop < end && is_latin(c[stop])) ++stop;
      std::size_t digits = stop + 1;
      while (stop < end && c[stop] == '.' && digits < end && is_decimal(c[digits])) ++digits;
      if (stop < end && c[stop] == '.' && digits > stop + 1) stop = digits;
      if (stop < end && c[stop] == '%') ++stop;
      words.emplace_back(text.slice(i, stop));
    } else {
      while (stop < end && !is_han(c[stop]) && !is_latin(c[stop])) ++stop;
      words.emplace_back(text.slice(i, stop));
    }
    i = stop;
  }
}

// Viterbi over the four states.
void Jieba::Impl::cut_hidden(const Indexed& text, std::size_t begin, std::size_t end,
                             std::vector<std::string>& words) const {
  const std::size_t n = end - begin;
  const auto emit = [&](int state, std::size_t i) {
    const auto& table = emission[static_cast<std::size_t>(state)];
    const auto entry = table.find(text.chars[begin + i]);
    return entry == table.end() ? kMinFloat : entry->second;
  };
  std::vector<std::array<State, kStates>> came_from(n);
  std::array<double, kStates> score{};
  for (int y = 0; y < kStates; ++y) score[y] = start[y] + emit(y, 0);
  for (std::size_t i = 1; i < n; ++i) {
    std::array<double, kStates> now{};
    for (int y = 0; y < kStates; ++y) {
      const double here = emit(y, i);
      const auto [first, second] = kBefore[y];
      const double a = score[first] + transition[first][y] + here;
      const double b = score[second] + transition[second][y] + here;
      now[y] = a >= b ? a : b;
      came_from[i][y] = a >= b ? first : second;
    }
    score = now;
  }
  std::vector<State> states(n);
  states[n - 1] = score[kS] >= score[kE] ? kS : kE;
  for (std::size_t i = n - 1; i > 0; --i) states[i - 1] = came_from[i][states[i]];
  std::size_t word = begin, done = begin;
  for (std::size_t i = 0; i < n; ++i) {
    if (states[i] == kB) word = begin + i;
    if (states[i] == kS) word = begin + i;
    if (states[i] == kE || states[i] == kS) {
      words.emplace_back(text.slice(word, begin + i + 1));
      done = begin + i + 1;
    }
  }
  if (done < end) words.emplace_back(text.slice(done, end));
}

Jieba::Jieba(const fs::path& folder) : impl_(std::make_unique<Impl>()) {
  impl_->read_dictionary(data_file(folder, "dict.txt"));
  impl_->read_model(folder);
}

Jieba::~Jieba() = default;

std::vector<std::string> Jieba::cut(std::string_view input) const {
  const std::string repaired = is_valid_utf8(input) ? std::string() : to_utf8(to_utf32(input));
  const Indexed text(repaired.empty() ? input : std::string_view(repaired));
  std::vector<std::string> words;
  const std::size_t n = text.chars.size();
  for (std::size_t i = 0; i < n;) {
    std::size_t stop = i + 1;
    if (in_block(text.chars[i])) {
      while (stop < n && in_block(text.chars[stop])) ++stop;
      impl_->cut_block(text, i, stop, words);
    } else {
      if (text.chars[i] == '\r' && stop < n && text.chars[stop] == '\n') ++stop;
      words.emplace_back(text.slice(i, stop));
    }
    i = stop;
  }
  return words;
}

namespace {
std::mutex g_mutex;
fs::path g_folder{kJiebaFolder};
std::unique_ptr<const Jieba> g_jieba;
}  // namespace

const Jieba& shared_jieba() {
  const std::lock_guard lock(g_mutex);
  if (!g_jieba) g_jieba = std::make_unique<const Jieba>(g_folder);
  return *g_jieba;
}

void set_jieba_folder(const fs::path& folder) {
  const std::lock_guard lock(g_mutex);
  if (g_jieba && folder != g_folder)
    fail("jieba's data were already read from {}", g_folder.string());
  g_folder = folder;
}

fs::path jieba_folder() {
  const std::lock_guard lock(g_mutex);
  return g_folder;
}

}  // namespace vi::eval::text
