// Shared by the generators of needle.h: random words, numbers and uuids, and the search for the
// largest prompt that fits.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/common/rng.h"
#include "eval/retrieval/needle.h"

namespace vi::eval::detail {

inline constexpr std::string_view kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

std::string random_value(NeedleValue kind, Rng& rng);
// `n` different ones, none of them in `taken`, which grows.
std::vector<std::string> random_values(NeedleValue kind, std::size_t n, Rng& rng,
                                       std::vector<std::string>& taken);
// `n` different words for lists: plain ones while they last, else compounds. n <= most_words().
std::vector<std::string> random_words(std::size_t n, Rng& rng);
std::size_t most_words();

template <class T>
void shuffle(std::vector<T>& items, Rng& rng) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[rng.below(i)]);
}

// `n` different numbers below `bound`, in ascending order. n <= bound.
std::vector<std::size_t> sample(std::size_t n, std::size_t bound, Rng& rng);

// The largest number of units from `least` to `most` whose text has at most `limit` tokens; the
// number of tokens must grow with the units. Error if `least` does not fit.
std::size_t largest_fit(std::size_t least, std::size_t most, std::int64_t limit,
                        const std::function<std::int64_t(std::size_t)>& tokens_of);

NeedleCase make_variable_tracking(const NeedleSpec& spec, std::int64_t tokens, std::uint64_t seed,
                                  const CountTokens& count, std::string_view text);
NeedleCase make_common_words(const NeedleSpec& spec, std::int64_t tokens, std::uint64_t seed,
                             const CountTokens& count);

// Whole sentences of a text whose whitespace was made single spaces.
std::vector<std::string> sentences_of(std::string_view text);
// The first n words of the text, from its start again where it ends.
std::string first_words(const std::vector<std::string_view>& words, std::size_t n);
std::vector<std::string_view> words_of(std::string_view text);
// "a", "a, and b", "a, b, and c"
std::string enumerate(const std::vector<std::string>& items);

}  // namespace vi::eval::detail
