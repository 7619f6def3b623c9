// The kernels in plain C++: what every machine can run, and what the vector versions are tested
// against.
#include <cmath>
#include <limits>

#include "core/attention/kernels.h"

namespace vi::attention {
namespace {

unsigned bits_at(const std::uint8_t* row, int bit, int count) {
  unsigned value = row[bit >> 3];
  if ((bit & 7) + count > 8) value |= static_cast<unsigned>(row[(bit >> 3) + 1]) << 8;
  return (value >> (bit & 7)) & ((1u << count) - 1u);
}

// The 16 codes of sub-space m in a block.
void unpack(const PackedCode& code, const std::uint8_t* block, int m, unsigned* codes) {
  const int low = code.code_bits < 8 ? code.code_bits : 8, high = code.code_bits - low;
  const std::uint8_t* row = block + 2 * low * m;
  for (int t = 0; t < kBlock; ++t) codes[t] = bits_at(row, t * low, low);
  if (high == 0) return;
  row = block + 2 * low * code.n_books + 2 * high * m;
  for (int t = 0; t < kBlock; ++t) codes[t] |= bits_at(row, t * high, high) << 8;
}

std::size_t block_bytes(const PackedCode& code) {
  return static_cast<std::size_t>(code.n_books) * 2u * code.code_bits;
}

void build_lut(const PackedCode& code, const float* q, float* lut) {
  const std::size_t ksub = std::size_t{1} << code.code_bits;
  for (int m = 0; m < code.n_books; ++m)
    for (std::size_t c = 0; c < ksub; ++c) {
      const float* centroid = code.centroids + m * code.book_stride + c * code.dsub;
      float* entry = lut + (m * ksub + c) * kQuad;
      for (int h = 0; h < kQuad; ++h) entry[h] = 0;
      for (int j = 0; j < code.dsub; ++j)
        for (int h = 0; h < kQuad; ++h)
          entry[h] += centroid[j] * q[(m * code.dsub + j) * kQuad + h];
    }
}

void score_codes(const PackedCode& code, CodeBlocks blocks, const float* lut, float* scores) {
  const std::size_t ksub = std::size_t{1} << code.code_bits;
  unsigned codes[kBlock];
  for (std::size_t i = 0; i < blocks.n * kBlock * kQuad; ++i) scores[i] = 0;
  for (int m = 0; m < code.n_books; ++m)
    for (std::size_t b = 0; b < blocks.n; ++b) {
      unpack(code, blocks.data + b * block_bytes(code), m, codes);
      for (int t = 0; t < kBlock; ++t)
        for (int h = 0; h < kQuad; ++h)
          scores[(b * kBlock + t) * kQuad + h] += lut[(m * ksub + codes[t]) * kQuad + h];
    }
}

void score_rows(const float* rows, std::size_t n, int head_dim, const float* q, float* scores) {
  for (std::size_t t = 0; t < n; ++t)
    for (int h = 0; h < kQuad; ++h) {
      float sum = 0;
      for (int i = 0; i < head_dim; ++i) sum += rows[t * head_dim + i] * q[h * head_dim + i];
      scores[t * kQuad + h] = sum;
    }
}

void softmax(float* scores, std::size_t n, float* max, float* sum, float* factor) {
  for (int h = 0; h < kQuad; ++h) {
    float most = max[h];
    for (std::size_t t = 0; t < n; ++t)
      if (scores[t * kQuad + h] > most) most = scores[t * kQuad + h];
    const bool none = most == -std::numeric_limits<float>::infinity();
    factor[h] = none ? 1.0f : std::exp(max[h] - most);
    float total = 0;
    for (std::size_t t = 0; t < n; ++t) {
      float& s = scores[t * kQuad + h];
      s = none ? 0.0f : std::exp(s - most);
      total += s;
    }
    sum[h] = sum[h] * factor[h] + total;
    max[h] = most;
  }
}

void add_codes(const PackedCode& code, CodeBlocks blocks, const float* p, float* acc) {
  const int d = code.n_books * code.dsub;
  unsigned codes[kBlock];
  for (int m = 0; m < code.n_books; ++m)
    for (std::size_t b = 0; b < blocks.n; ++b) {
      unpack(code, blocks.data + b * block_bytes(code), m, codes);
      for (int t = 0; t < kBlock; ++t) {
        const float* centroid =
            code.centroids + m * code.book_stride + static_cast<std::size_t>(codes[t]) * code.dsub;
        for (int h = 0; h < kQuad; ++h)
          for (int j = 0; j < code.dsub; ++j)
            acc[h * d + m * code.dsub + j] += p[(b * kBlock + t) * kQuad + h] * centroid[j];
      }
    }
}

void add_rows(const float* rows, std::size_t n, int head_dim, const float* p, float* acc) {
  for (std::size_t t = 0; t < n; ++t)
    for (int h = 0; h < kQuad; ++h)
      for (int i = 0; i < head_dim; ++i)
        acc[h * head_dim + i] += p[t * kQuad + h] * rows[t * head_dim + i];
}

void gather(const PackedCode& code, CodeBlocks blocks, float* rows) {
  const int d = code.n_books * code.dsub;
  unsigned codes[kBlock];
  for (std::size_t b = 0; b < blocks.n; ++b)
    for (int m = 0; m < code.n_books; ++m) {
      unpack(code, blocks.data + b * block_bytes(code), m, codes);
      for (int t = 0; t < kBlock; ++t)
        for (int j = 0; j < code.dsub; ++j)
          rows[(b * kBlock + t) * d + m * code.dsub + j] =
              code.centroids[m * code.book_stride + static_cast<std::size_t>(codes[t]) * code.dsub +
                             j];
    }
}

bool direct(int) { return true; }

}  // namespace

const Kernels kScalarKernels = {build_lut, score_codes, score_rows, softmax,
                                add_codes, add_rows,    gather,     direct};

const Kernels& kernels(Simd level) {
#if defined(__x86_64__)
  const Simd most = level < best_simd() ? level : best_simd();
  if (most == Simd::avx512) {
    static const Kernels wide = avx512_kernels(kAvx2Kernels);
    return wide;
  }
  if (most == Simd::avx2) return kAvx2Kernels;
#else
  (void)level;
#endif
  return kScalarKernels;
}

}  // namespace vi::attention
