// What the AVX2 and the AVX-512 kernels share: unpacking of code rows. Included by kernels_avx2.cpp
// and kernels_avx512.cpp only; everything here is private to each, so each keeps its own
// instructions.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstring>
#include <type_traits>

#include "core/attention/kernels.h"

namespace vi::attention {
namespace {

// Where a row of codes is wider than 8 bits there is a second plane.
enum class Width { byte, narrow, wide };  // code_bits == 8, < 8, > 8

inline std::size_t block_bytes(const PackedCode& code) {
  return static_cast<std::size_t>(code.n_books) * 2u * code.code_bits;
}

// The first sub-spaces of a tile fetch whole blocks for those that follow: by themselves the
// strided reads of a few sub-spaces defeat the hardware's prefetcher, and each would wait for
// memory.
constexpr std::size_t kAhead = 8;  // blocks
inline __attribute__((always_inline)) void fetch_block(const std::uint8_t* block,
                                                       std::size_t bytes) {
  const std::uint8_t* ahead = block + kAhead * bytes;  // a prefetch behind the end does nothing
  for (std::size_t i = 0; i < bytes; i += 64)
    _mm_prefetch(reinterpret_cast<const char*>(ahead + i), _MM_HINT_T1);
}

// The last bytes of a stream, where 8 cannot be read.
__attribute__((noinline, cold)) std::uint64_t last_bytes(const std::uint8_t* from, int n) {
  std::uint64_t word = 0;
  std::memcpy(&word, from, static_cast<std::size_t>(n));
  return word;
}

// 8 codes of `bits` bits, which fill `bits` whole bytes, to 8 bytes.
inline __attribute__((always_inline)) std::uint64_t spread(const std::uint8_t* from,
                                                           const std::uint8_t* end, int bits) {
  std::uint64_t word;
  if (__builtin_expect(end - from >= 8, 1))
    std::memcpy(&word, from, 8);
  else
    word = last_bytes(from, bits);
  return _pdep_u64(word, 0x0101010101010101ull * ((1u << bits) - 1u));
}

// The 16 codes of one sub-space in a block as byte offsets into a table of (1 << kShift)-byte
// entries: one load an entry then needs no arithmetic.
template <Width kWidth, int kShift>
struct Offsets {
  static constexpr bool kWide = kWidth == Width::wide || kShift > 8;
  using Offset = std::conditional_t<kWide, std::uint32_t, std::uint16_t>;
  static constexpr int kStep = 8 / sizeof(Offset);  // offsets of a 64-bit word
  alignas(32) Offset at[kBlock];

  inline __attribute__((always_inline)) void load(const PackedCode& code, const std::uint8_t* block,
                                                  const std::uint8_t* end, int m) {
    __m128i low;
    if constexpr (kWidth == Width::narrow) {
      const std::uint8_t* row = block + 2 * code.code_bits * m;
      low =
          pair(spread(row, end, code.code_bits), spread(row + code.code_bits, end, code.code_bits));
    } else {
      low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + kBlock * m));
    }
    __m256i codes = _mm256_cvtepu8_epi16(low);
    if constexpr (kWidth == Width::wide) {
      const int bits = code.code_bits - 8;
      const std::uint8_t* row = block + kBlock * code.n_books + 2 * bits * m;
      const __m128i high = pair(spread(row, end, bits), spread(row + bits, end, bits));
      codes = _mm256_or_si256(codes, _mm256_slli_epi16(_mm256_cvtepu8_epi16(high), 8));
    }
    __m256i* to = reinterpret_cast<__m256i*>(at);
    if constexpr (kWide) {
      const auto widen = [](__m128i half) {
        return _mm256_slli_epi32(_mm256_cvtepu16_epi32(half), kShift);
      };
      _mm256_store_si256(to, widen(_mm256_castsi256_si128(codes)));
      _mm256_store_si256(to + 1, widen(_mm256_extracti128_si256(codes, 1)));
    } else {
      _mm256_store_si256(to, _mm256_slli_epi16(codes, kShift));
    }
    // Out of a vector register to an address goes fastest through memory and 64-bit words
    // (measured: 16 extractions or 16 narrow loads are each slower); keep GCC from undoing that.
    asm("" : "+m"(at));
  }
  // The offsets of tokens t .. t + kStep - 1, and the entry of the first of them.
  inline __attribute__((always_inline)) std::uint64_t word(int t) const {
    std::uint64_t offsets;
    std::memcpy(&offsets, at + t, 8);
    return offsets;
  }
  static inline __attribute__((always_inline)) const float* next(const float* table,
                                                                 std::uint64_t& offsets) {
    const std::size_t offset = static_cast<Offset>(offsets);
    offsets >>= 8 * sizeof(Offset);
    return reinterpret_cast<const float*>(reinterpret_cast<const char*>(table) + offset);
  }

 private:
  static __m128i pair(std::uint64_t a, std::uint64_t b) {
    return _mm_set_epi64x(static_cast<long long>(b), static_cast<long long>(a));
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
