// Many codes at once into and out of the layout of code_layout.h. Whole blocks go a row at a time, a
// block that is filled in part code by code. Same bytes as set_code and get_code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/quant/code_layout.h"

namespace vi::quant {

// codes [n, n_books] -> tokens [first, first + n) of `stream`, zero from `first` on.
void pack_codes(const CodeLayout& layout, const std::uint16_t* codes, std::size_t n,
                std::size_t first, std::uint8_t* stream);

// Tokens [first, first + n) of `stream` -> codes [n, n_books].
void unpack_codes(const CodeLayout& layout, const std::uint8_t* stream, std::size_t first,
                  std::size_t n, std::uint16_t* codes);

}  // namespace vi::quant
