// What the AVX2 and the AVX-512 kernels share: unpacking of code rows. Included by kernels_avx2.cpp and
// kernels_avx512.cpp only; everything here is private to each, so each keeps its own instructions.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "core/attention/kernels.h"

namespace vi::attention {
namespace {

// Where a row of codes is wider than 8 bits there is a second plane.
enum class Width { byte, narrow, wide };  // code_bits == 8, < 8, > 8

inline std::size_t block_bytes(const PackedCode& code) {
  return static_cast<std::size_t>(code.n_books) * 2u * code.code_bits;
}

// 8 codes of `bits` bits, which fill `bits` whole bytes, to 8 bytes.
inline std::uint64_t spread(const std::uint8_t* from, const std::uint8_t* end, int bits) {
  std::uint64_t word = 0;
  if (end - from >= 8)
    std::memcpy(&word, from, 8);
  else
    for (int i = 0; i < bits; ++i) word |= static_cast<std::uint64_t>(from[i]) << (8 * i);
  return _pdep_u64(word, 0x0101010101010101ull * ((1u << bits) - 1u));
}

// The 16 codes of one sub-space in a block: low bytes, and high bytes where they are wide.
template <Width kWidth>
struct CodeRow {
  const std::uint8_t* low;
  alignas(16) std::uint8_t low_bytes[kWidth == Width::narrow ? kBlock : 1];
  alignas(16) std::uint8_t high[kWidth == Width::wide ? kBlock : 1];

  inline __attribute__((always_inline)) void load(const PackedCode& code, const std::uint8_t* block,
                                                  const std::uint8_t* end, int m) {
    if constexpr (kWidth == Width::narrow) {
      const std::uint8_t* row = block + 2 * code.code_bits * m;
      const std::uint64_t a = spread(row, end, code.code_bits);
      const std::uint64_t b = spread(row + code.code_bits, end, code.code_bits);
      std::memcpy(low_bytes, &a, 8);
      std::memcpy(low_bytes + 8, &b, 8);
      low = low_bytes;
    } else {
      low = block + kBlock * m;
    }
    if constexpr (kWidth == Width::wide) {
      const int bits = code.code_bits - 8;
      const std::uint8_t* row = block + kBlock * code.n_books + 2 * bits * m;
      const std::uint64_t a = spread(row, end, bits);
      const std::uint64_t b = spread(row + bits, end, bits);
      std::memcpy(high, &a, 8);
      std::memcpy(high + 8, &b, 8);
    }
  }
  inline __attribute__((always_inline)) std::size_t operator[](int t) const {
    if constexpr (kWidth == Width::wide) return low[t] | static_cast<std::size_t>(high[t]) << 8;
    return low[t];
  }
};

// fn(integral_constant-like Width tag) for the width of a code.
struct ByteTag {
  static constexpr Width kWidth = Width::byte;
};
struct NarrowTag {
  static constexpr Width kWidth = Width::narrow;
};
struct WideTag {
  static constexpr Width kWidth = Width::wide;
};
template <class Fn>
inline void with_width(int code_bits, Fn fn) {
  if (code_bits == 8)
    fn(ByteTag{});
  else if (code_bits < 8)
    fn(NarrowTag{});
  else
    fn(WideTag{});
}

}  // namespace
}  // namespace vi::attention
