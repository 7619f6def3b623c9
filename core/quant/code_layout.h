// The layout of packed vector-quantiser codes in memory, shared by CPU, CUDA and every artifact that
// holds codes (C++17 for nvcc; no other include of ours).
//
// One stream holds the codes of one (sequence, layer, KV head, side). It is a row of blocks of 16 tokens;
// a block holds, for each of n_books sub-spaces m, the 16 codes of that sub-space:
//   code_bits <= 8   n_books rows of 2*code_bits bytes: the 16 codes as a little-endian bit stream
//                    (code t occupies bits [t*code_bits, (t+1)*code_bits) of the row).
//   code_bits  > 8   a low plane, n_books rows of 16 bytes (the low 8 bits of each code), then a high
//                    plane, n_books rows of 2*(code_bits-8) bytes (the other bits as such a bit stream).
// So at 8 bits a lane that owns one sub-space reads its 16 codes with one 16-byte load, and wider codes
// keep that plane as it is. A partly filled last block has its unused codes zero.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define VI_HOST_DEVICE __host__ __device__
#else
#define VI_HOST_DEVICE
#endif

namespace vi::quant {

inline constexpr int kBlockTokens = 16;

struct CodeLayout {
  int n_books = 0;    // sub-spaces per vector (times residual stages)
  int code_bits = 0;  // 1..16

  VI_HOST_DEVICE constexpr int low_bits() const { return code_bits < 8 ? code_bits : 8; }
  VI_HOST_DEVICE constexpr int high_bits() const { return code_bits > 8 ? code_bits - 8 : 0; }
  VI_HOST_DEVICE constexpr std::size_t low_row_bytes() const { return 2u * low_bits(); }
  VI_HOST_DEVICE constexpr std::size_t high_row_bytes() const { return 2u * high_bits(); }
  VI_HOST_DEVICE constexpr std::size_t high_plane() const { return n_books * low_row_bytes(); }
  VI_HOST_DEVICE constexpr std::size_t block_bytes() const {
    return static_cast<std::size_t>(n_books) * 2u * code_bits;
  }
  VI_HOST_DEVICE static constexpr std::size_t blocks(std::size_t tokens) {
    return (tokens + kBlockTokens - 1) / kBlockTokens;
  }
  VI_HOST_DEVICE constexpr std::size_t stream_bytes(std::size_t tokens) const {
    return blocks(tokens) * block_bytes();
  }
};

namespace detail {

VI_HOST_DEVICE inline unsigned read_bits(const std::uint8_t* row, int bit, int count) {
  unsigned value = 0;  // at most 8 bits from at most 2 bytes
  const int byte = bit >> 3, shift = bit & 7;
  value = row[byte];
  if (shift + count > 8) value |= static_cast<unsigned>(row[byte + 1]) << 8;
  return (value >> shift) & ((1u << count) - 1u);
}

VI_HOST_DEVICE inline void write_bits(std::uint8_t* row, int bit, int count, unsigned value) {
  const int byte = bit >> 3, shift = bit & 7;
  const unsigned mask = ((1u << count) - 1u) << shift, bits = value << shift;
  row[byte] = static_cast<std::uint8_t>((row[byte] & ~mask) | (bits & mask));
  if (shift + count > 8)
    row[byte + 1] = static_cast<std::uint8_t>((row[byte + 1] & ~(mask >> 8)) | ((bits & mask) >> 8));
}

}  // namespace detail

// Code of token `token` and sub-space `book` in a stream.
VI_HOST_DEVICE inline unsigned get_code(const CodeLayout& layout, const std::uint8_t* stream,
                                        std::size_t token, int book) {
  const std::uint8_t* block = stream + token / kBlockTokens * layout.block_bytes();
  const int t = static_cast<int>(token % kBlockTokens);
  unsigned code =
      detail::read_bits(block + book * layout.low_row_bytes(), t * layout.low_bits(), layout.low_bits());
  if (layout.high_bits() > 0)
    code |= detail::read_bits(block + layout.high_plane() + book * layout.high_row_bytes(),
                              t * layout.high_bits(), layout.high_bits())
            << 8;
  return code;
}

VI_HOST_DEVICE inline void set_code(const CodeLayout& layout, std::uint8_t* stream, std::size_t token,
                                    int book, unsigned code) {
  std::uint8_t* block = stream + token / kBlockTokens * layout.block_bytes();
  const int t = static_cast<int>(token % kBlockTokens);
  detail::write_bits(block + book * layout.low_row_bytes(), t * layout.low_bits(), layout.low_bits(),
                     code & 0xffu);
  if (layout.high_bits() > 0)
    detail::write_bits(block + layout.high_plane() + book * layout.high_row_bytes(),
                       t * layout.high_bits(), layout.high_bits(), code >> 8);
}

}  // namespace vi::quant
