// Character classes and canonical composition, from unicode_tables.inc (made by make_unicode_tables.py): the
// Unicode that Hugging Face's `tokenizers` works with, whatever PCRE2's is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vi::model {

bool is_white_space(char32_t c);  // White_Space; PCRE2's \s differs
bool is_letter_or_number_ascii(char32_t c);
bool is_numeric(char32_t c);      // general categories Nd, Nl, No
bool is_word(char32_t c);         // \w: Alphabetic, marks, Nd, Pc, Join_Control

// Bodies of PCRE2 bracket classes (without the brackets).
const std::string& letter_class();       // \p{L}
const std::string& number_class();       // \p{N}
const std::string& white_space_class();  // \s

// Normalization Form C of well-formed UTF-8.
std::string nfc(std::string_view text);

}  // namespace vi::model
