// UTF-8: checking, decoding, and making foreign bytes fit to print. Well-formed means RFC 3629: no overlong
// forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vi::model {

// Index of the first byte of the first ill-formed sequence, or npos. A sequence that the end cuts off is
// ill-formed.
std::size_t find_invalid_utf8(std::string_view text);
// The longest prefix that does not end inside a sequence (text is otherwise well-formed).
std::size_t whole_utf8_prefix(std::string_view text);
// ContractError "<place>: byte N: expected UTF-8 text".
void require_utf8(std::string_view text, std::string_view place);

// The code point at text[at], `at` moves behind it. The text must be well-formed.
char32_t next_code_point(std::string_view text, std::size_t& at);
// The code point that ends before text[at], `at` moves to its first byte.
char32_t previous_code_point(std::string_view text, std::size_t& at);
void append_utf8(std::string& out, char32_t code_point);
std::u32string to_code_points(std::string_view text);
std::string to_utf8(std::u32string_view text);

// Each maximal ill-formed part becomes U+FFFD (as in the Unicode standard, Rust and Python).
std::string utf8_lossy(std::string_view bytes);

// For messages: on one line, control characters and bad bytes escaped, cut after 80 bytes.
std::string printable(std::string_view bytes);

}  // namespace vi::model
