// The inner loops of the fused decode attention, one table a SIMD level. All work on a quad: 4
// query heads of one KV head, interleaved, so that a look-up serves the 4 with one 16-byte load
// (heads short of 4 are zero queries). Plain data only: the kernel files are compiled with their
// own instruction sets and must not emit inline functions that others could link.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/common/simd.h"

namespace vi::attention {

inline constexpr int kQuad = 4;
inline constexpr int kBlock = 16;  // tokens of a block, quant::kBlockTokens

// A vector code as the loops need it (quant/code_layout.h says how a block is laid out).
struct PackedCode {
  const float* centroids = nullptr;  // [n_books or 1, ksub, dsub]
  std::size_t book_stride = 0;       // floats between the codebooks of two sub-spaces; 0: shared
  int n_books = 0, code_bits = 0, dsub = 0;
};

// Whole blocks of one stream; nothing is read at or behind `end`.
struct CodeBlocks {
  const std::uint8_t* data = nullptr;
  const std::uint8_t* end = nullptr;
  std::size_t n = 0;
};

struct Kernels {
  // lut[m][c][4] = centroid(m, c) . q[m * dsub ...][4];  q [head_dim][4]
  void (*build_lut)(const PackedCode& code, const float* q, float* lut);
  // scores[16 n][4] = sum over m of lut[m][code(token, m)]
  void (*score_codes)(const PackedCode& code, CodeBlocks blocks, const float* lut, float* scores);
  // scores[n][4] = rows[n][head_dim] . q[4][head_dim]
  void (*score_rows)(const float* rows, std::size_t n, int head_dim, const float* q, float* scores);
  // scores [n][4] become p = exp(score - max). max [4], sum [4] run over the tiles; factor [4] is
  // what the accumulators of earlier tiles are to be multiplied by. -inf scores give p = 0.
  void (*softmax)(float* scores, std::size_t n, float* max, float* sum, float* factor);
  // acc[4][head_dim] += sum over tokens of p[token][4] * centroid(m, code(token, m))
  void (*add_codes)(const PackedCode& code, CodeBlocks blocks, const float* p, float* acc);
  // acc[4][head_dim] += sum over tokens of p[token][4] * rows[token]
  void (*add_rows)(const float* rows, std::size_t n, int head_dim, const float* p, float* acc);
  // rows[16 n][n_books * dsub]: the centroids
  void (*gather)(const PackedCode& code, CodeBlocks blocks, float* rows);
  // The dsub that add_codes accepts; others go through gather and add_rows.
  bool (*direct)(int dsub);
};

// The table for a level; a level that this build or machine lacks gives the next lower one.
const Kernels& kernels(Simd level);

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
Kernels avx512_kernels(const Kernels& base);  // the loops that gain from 512 bits replaced
#endif

}  // namespace vi::attention
