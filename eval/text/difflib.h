// Python's difflib.SequenceMatcher(None, a, b).ratio(), autojunk included: characters of b that
// make up more than 1 % of a b of 200 or more characters begin no match.
#pragma once

#include <string_view>

namespace vi::eval::text {

double sequence_ratio(std::u32string_view a, std::u32string_view b);  // 1 for two empty texts

}  // namespace vi::eval::text
