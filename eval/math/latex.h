// Small helpers on LaTeX text: matching braces and splitting outside brackets.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vi::eval::math {

// Place of the '}' that closes the '{' at `open`; 0 if there is none. Escaped braces do not count.
std::size_t closing_brace(std::string_view text, std::size_t open);

// Parts between separators that stand outside (), [], {} and \begin..\end.
std::vector<std::string> split_top(std::string_view text,
                                   const std::vector<std::string_view>& separators);

}  // namespace vi::eval::math
