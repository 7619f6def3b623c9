#include "core/quant/packing.h"

#include <algorithm>

namespace vi::quant {
namespace {

// A row of 16 codes is two halves of 8: `bits` bytes each, one 64-bit word at most.
inline void pack_row(const std::uint16_t* codes, std::size_t stride, int shift, int bits,
                     std::uint8_t* row) {
  const std::uint64_t mask = (1u << bits) - 1u;
  for (int half = 0; half < 2; ++half) {
    std::uint64_t word = 0;
    for (int t = 0; t < 8; ++t)
      word |= ((codes[(half * 8 + t) * stride] >> shift) & mask) << (t * bits);
    for (int i = 0; i < bits; ++i)
      row[half * bits + i] = static_cast<std::uint8_t>(word >> (8 * i));
  }
}

template <bool kHigh>
inline void unpack_row(const std::uint8_t* row, int bits, std::uint16_t* codes,
                       std::size_t stride) {
  const std::uint64_t mask = (1u << bits) - 1u;
  for (int half = 0; half < 2; ++half) {
    std::uint64_t word = 0;
    for (int i = 0; i < bits; ++i) word |= std::uint64_t{row[half * bits + i]} << (8 * i);
    for (int t = 0; t < 8; ++t) {
      const auto code = static_cast<std::uint16_t>((word >> (t * bits)) & mask);
      std::uint16_t& out = codes[(half * 8 + t) * stride];
      if constexpr (kHigh)
        out = static_cast<std::uint16_t>(out | (code << 8));
      else
        out = code;
    }
  }
}

void pack_block(const CodeLayout& layout, const std::uint16_t* codes, std::uint8_t* block) {
  const int books = layout.n_books;
  if (layout.code_bits == 8) {
    for (int m = 0; m < books; ++m)
      for (int t = 0; t < kBlockTokens; ++t)
        block[m * kBlockTokens + t] = static_cast<std::uint8_t>(codes[t * books + m]);
    return;
  }
  for (int m = 0; m < books; ++m) {
    pack_row(codes + m, books, 0, layout.low_bits(), block + m * layout.low_row_bytes());
    if (layout.high_bits() > 0)
      pack_row(codes + m, books, 8, layout.high_bits(),
               block + layout.high_plane() + m * layout.high_row_bytes());
  }
}

void unpack_block(const CodeLayout& layout, const std::uint8_t* block, std::uint16_t* codes) {
  const int books = layout.n_books;
  for (int m = 0; m < books; ++m) {
    unpack_row<false>(block + m * layout.low_row_bytes(), layout.low_bits(), codes + m, books);
    if (layout.high_bits() > 0)
      unpack_row<true>(block + layout.high_plane() + m * layout.high_row_bytes(),
                       layout.high_bits(), codes + m, books);
  }
}

// block(token, offset) for the whole blocks of [first, first + n), token(token) for the rest.
template <class Block, class Token>
void walk(const CodeLayout& layout, std::size_t first, std::size_t n, Block&& block,
          Token&& token) {
  std::size_t t = first;
  const std::size_t end = first + n;
  while (t < end) {
    if (t % kBlockTokens == 0 && t + kBlockTokens <= end) {
      block(t, t / kBlockTokens * layout.block_bytes());
      t += kBlockTokens;
    } else {
      token(t++);
    }
  }
}

}  // namespace

void pack_codes(const CodeLayout& layout, const std::uint16_t* codes, std::size_t n,
                std::size_t first, std::uint8_t* stream) {
  const std::size_t books = layout.n_books;
  walk(
      layout, first, n,
      [&](std::size_t t, std::size_t at) {
        pack_block(layout, codes + (t - first) * books, stream + at);
      },
      [&](std::size_t t) {
        for (std::size_t m = 0; m < books; ++m)
          set_code(layout, stream, t, static_cast<int>(m), codes[(t - first) * books + m]);
      });
}

void unpack_codes(const CodeLayout& layout, const std::uint8_t* stream, std::size_t first,
                  std::size_t n, std::uint16_t* codes) {
  const std::size_t books = layout.n_books;
  walk(
      layout, first, n,
      [&](std::size_t t, std::size_t at) {
        unpack_block(layout, stream + at, codes + (t - first) * books);
      },
      [&](std::size_t t) {
        for (std::size_t m = 0; m < books; ++m)
          codes[(t - first) * books + m] =
              static_cast<std::uint16_t>(get_code(layout, stream, t, static_cast<int>(m)));
      });
}

}  // namespace vi::quant
