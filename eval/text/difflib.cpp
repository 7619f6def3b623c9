#include "eval/text/difflib.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

namespace vi::eval::text {
namespace {

struct Match {
  std::size_t a = 0, b = 0, size = 0;
};

class Matcher {
 public:
  Matcher(std::u32string_view a, std::u32string_view b) : a_(a), b_(b), run_(b.size() + 1) {
    for (std::size_t j = 0; j < b.size(); ++j) places_[b[j]].push_back(j);
    if (b.size() >= 200) {
      const std::size_t popular = b.size() / 100 + 1;
      std::erase_if(places_, [&](const auto& entry) { return entry.second.size() > popular; });
    }
  }

  // Characters in matching blocks: the longest match, then the same on both sides of it.
  std::size_t matched() {
    std::size_t total = 0;
    std::vector<Window> open{{0, a_.size(), 0, b_.size()}};
    while (!open.empty()) {
      const Window w = open.back();
      open.pop_back();
      const Match m = longest(w);
      if (m.size == 0) continue;
      total += m.size;
      if (w.a0 < m.a && w.b0 < m.b) open.push_back({w.a0, m.a, w.b0, m.b});
      if (m.a + m.size < w.a1 && m.b + m.size < w.b1)
        open.push_back({m.a + m.size, w.a1, m.b + m.size, w.b1});
    }
    return total;
  }

 private:
  struct Window {
    std::size_t a0, a1, b0, b1;
  };

  // The longest run over characters that may begin a match, the first one in a and then in b; then
  // extended over popular characters on both sides.
  Match longest(const Window& w) {
    Match best{w.a0, w.b0, 0};
    std::vector<std::size_t> touched;  // run_[j + 1]: length of the run that ends at b[j]
    std::vector<std::pair<std::size_t, std::size_t>> fresh;
    for (std::size_t i = w.a0; i < w.a1; ++i) {
      fresh.clear();
      if (const auto entry = places_.find(a_[i]); entry != places_.end()) {
        const auto& places = entry->second;
        for (auto at = std::lower_bound(places.begin(), places.end(), w.b0);
             at != places.end() && *at < w.b1; ++at) {
          const std::size_t size = run_[*at] + 1;
          fresh.emplace_back(*at + 1, size);
          if (size > best.size) best = {i + 1 - size, *at + 1 - size, size};
        }
      }
      for (const std::size_t j : touched) run_[j] = 0;
      touched.clear();
      for (const auto& [j, size] : fresh) {
        run_[j] = size;
        touched.push_back(j);
      }
    }
    for (const std::size_t j : touched) run_[j] = 0;
    while (best.a > w.a0 && best.b > w.b0 && a_[best.a - 1] == b_[best.b - 1])
      --best.a, --best.b, ++best.size;
    while (best.a + best.size < w.a1 && best.b + best.size < w.b1 &&
           a_[best.a + best.size] == b_[best.b + best.size])
      ++best.size;
    return best;
  }

  std::u32string_view a_, b_;
  std::unordered_map<char32_t, std::vector<std::size_t>> places_;
  std::vector<std::size_t> run_;
};

}  // namespace

double sequence_ratio(std::u32string_view a, std::u32string_view b) {
  if (a.empty() && b.empty()) return 1.0;
  const auto matches = static_cast<double>(Matcher(a, b).matched());
  return 2.0 * matches / static_cast<double>(a.size() + b.size());
}

}  // namespace vi::eval::text
