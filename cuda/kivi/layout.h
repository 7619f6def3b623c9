// Where a 2-bit integer cache in KIVI's form (arXiv 2402.02750) keeps what: one record for each
// block of 32 tokens of a KV head, so that one block is one contiguous read. Host and device,
// C++17.
//   keys    a group is one channel by the 32 tokens;  values  a group is one token by 32 channels
//   x^ = code * scale + minimum, scale and minimum halves
// Words of 4 bytes, in the order in which lanes (4 g + q) of mma.m16n8k16 want them; 6 head_dim a
// record:
//   [K codes][K halves][V codes][V halves: scales, minima], 2, 1, 2 and 1 head_dim words
// A code word holds 16 codes: four rows 8 apart (tokens of K, channels of V) of k-slots 2q, 2q+1,
// 2q+8, 2q+9 (channels of K, tokens of V), the odd slots in the upper half. Our own layout.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define VI_KIVI_FN __host__ __device__ inline
#else
#define VI_KIVI_FN inline
#endif

namespace vi::cuda::kivi {

constexpr int kBlock =
    32;  // tokens of a record and of a group of keys; channels of a group of values
constexpr int kBits = 2, kTop = 3;

VI_KIVI_FN constexpr int record_words(int head_dim) { return 6 * head_dim; }
VI_KIVI_FN int key_halves(int head_dim) { return 2 * head_dim; }
VI_KIVI_FN int value_codes(int head_dim) { return 3 * head_dim; }
VI_KIVI_FN int value_halves(int head_dim) { return 5 * head_dim; }

struct CodeAt {
  int word, shift;  // in the record; bits shift, shift + 1
};
// `row` 0..31 is a row of the fragment, `slot` 0..15 its k-slot, `piece` which of the lane's words.
VI_KIVI_FN CodeAt code_at(int base, int piece, int row, int slot) {
  const int q = slot % 8 / 2, lane = 4 * (row % 8) + q;
  return {base + piece / 4 * 128 + lane * 4 + piece % 4,
          slot % 2 * 16 + slot / 8 * 8 + row / 8 * 2};
}
VI_KIVI_FN CodeAt key_code_at(int token, int channel) {
  return code_at(0, channel / 16, token, channel % 16);
}
VI_KIVI_FN CodeAt value_code_at(int head_dim, int token, int channel) {
  return code_at(value_codes(head_dim), channel / 32 * 2 + token / 16, channel % 32, token % 16);
}

// Index of a half in the record.
VI_KIVI_FN int key_half_at(int head_dim, int channel, bool minimum) {
  const int slot = channel % 16;
  const int word = channel / 16 * 16 + slot % 8 / 2 * 4 + (minimum ? 2 : 0) + slot / 8;
  return 2 * (key_halves(head_dim) + word) + slot % 2;
}
VI_KIVI_FN int value_half_at(int head_dim, int token, int channel, bool minimum) {
  const int slot = token % 16;
  const int word = channel / 32 * 16 + slot % 8 / 2 * 4 + token / 16 * 2 + slot / 8;
  return 2 * (value_halves(head_dim) + (minimum ? head_dim / 2 : 0) + word) + slot % 2;
}

}  // namespace vi::cuda::kivi
