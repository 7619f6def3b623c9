// The parts of Python's str and re that the official scorers lean on, with Python's Unicode tables.
// Invariant: on valid UTF-8 every function equals its Python twin; invalid bytes become U+FFFD.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vi::eval::text {

std::u32string to_utf32(std::string_view utf8);
std::string to_utf8(std::u32string_view text);
void append_utf8(std::string& out, char32_t c);
bool is_valid_utf8(std::string_view bytes);

bool is_space(char32_t c);        // str.isspace()
bool is_decimal(char32_t c);      // \d
bool is_word(char32_t c);         // \w
bool is_ascii_punct(char32_t c);  // string.punctuation

std::u32string lower(std::u32string_view text);               // str.lower(), final sigma included
std::vector<std::u32string> split(std::u32string_view text);  // str.split()
std::vector<std::u32string> digit_runs(std::u32string_view text);  // re.findall(r"\d+", text)

std::string_view first_line(std::string_view text);  // text.lstrip("\n").split("\n")[0]
std::string_view trim_ascii(std::string_view text);  // spaces, tabs and line ends at both ends

}  // namespace vi::eval::text
