// AVX-512 kernels (F, DQ, BW, VL): the loops whose arithmetic fills 512 bits. Look-ups of scores
// and the softmax stay with AVX2: they are bound by loads of 16 bytes.
#include "core/attention/kernels_x86.h"

#if defined(__x86_64__)

namespace vi::attention {
namespace {

void score_rows(const float* rows, std::size_t n, int head_dim, const float* q, float* scores) {
  const int whole = head_dim & ~15;
  const __mmask16 rest = static_cast<__mmask16>((1u << (head_dim - whole)) - 1u);
  for (std::size_t t = 0; t < n; ++t, rows += head_dim, scores += kQuad) {
    __m512 acc[kQuad] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                         _mm512_setzero_ps()};
    for (int i = 0; i < whole; i += 16) {
      const __m512 x = _mm512_loadu_ps(rows + i);
#pragma GCC unroll 16
      for (int h = 0; h < kQuad; ++h)
        acc[h] = _mm512_fmadd_ps(x, _mm512_loadu_ps(q + h * head_dim + i), acc[h]);
    }
    if (rest != 0) {
      const __m512 x = _mm512_maskz_loadu_ps(rest, rows + whole);
#pragma GCC unroll 16
      for (int h = 0; h < kQuad; ++h)
        acc[h] = _mm512_fmadd_ps(x, _mm512_maskz_loadu_ps(rest, q + h * head_dim + whole), acc[h]);
    }
    for (int h = 0; h < kQuad; ++h) scores[h] = _mm512_reduce_add_ps(acc[h]);
  }
}

// As Shape in kernels_avx2.cpp, with 16 lanes.
template <int kDsub>
struct Shape;

template <>
struct Shape<4> {  // [h0 | h1 | h2 | h3]
  static constexpr int kBooks = 8, kRegs = 1;
  struct Weights {
    __m512 p;
  };
  static Weights weights(const float* p) {
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return {_mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(p)), spread)};
  }
  static void add(__m512* acc, const Weights& w, const float* centroid) {
    *acc = _mm512_fmadd_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(centroid)), w.p, *acc);
  }
  static void load(__m512* acc, const float* from, int d) {
    alignas(64) float lane[16];
    for (int h = 0; h < kQuad; ++h) std::memcpy(lane + 4 * h, from + h * d, 16);
    *acc = _mm512_load_ps(lane);
  }
  static void store(const __m512* acc, float* to, int d) {
    alignas(64) float lane[16];
    _mm512_store_ps(lane, *acc);
    for (int h = 0; h < kQuad; ++h) std::memcpy(to + h * d, lane + 4 * h, 16);
  }
};

template <>
struct Shape<8> {  // [h0 | h1], [h2 | h3]
  static constexpr int kBooks = 4, kRegs = 2;
  struct Weights {
    __m512 p[2];
  };
  static __m512 halves(const float* a, const float* b) {
    return _mm512_insertf32x8(_mm512_set1_ps(*a), _mm256_set1_ps(*b), 1);
  }
  static Weights weights(const float* p) { return {{halves(p, p + 1), halves(p + 2, p + 3)}}; }
  static void add(__m512* acc, const Weights& w, const float* centroid) {
    const __m512 c = _mm512_broadcast_f32x8(_mm256_loadu_ps(centroid));
    acc[0] = _mm512_fmadd_ps(c, w.p[0], acc[0]);
    acc[1] = _mm512_fmadd_ps(c, w.p[1], acc[1]);
  }
  static void load(__m512* acc, const float* from, int d) {
    for (int i = 0; i < 2; ++i)
      acc[i] = _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(from + 2 * i * d)),
                                  _mm256_loadu_ps(from + (2 * i + 1) * d), 1);
  }
  static void store(const __m512* acc, float* to, int d) {
    for (int i = 0; i < 2; ++i) {
      _mm256_storeu_ps(to + 2 * i * d, _mm512_castps512_ps256(acc[i]));
      _mm256_storeu_ps(to + (2 * i + 1) * d, _mm512_extractf32x8_ps(acc[i], 1));
    }
  }
};

template <>
struct Shape<16> {  // one register a head
  static constexpr int kBooks = 2, kRegs = 4;
  struct Weights {
    __m512 p[kQuad];
  };
  static Weights weights(const float* p) {
    return {
        {_mm512_set1_ps(p[0]), _mm512_set1_ps(p[1]), _mm512_set1_ps(p[2]), _mm512_set1_ps(p[3])}};
  }
  static void add(__m512* acc, const Weights& w, const float* centroid) {
    const __m512 c = _mm512_loadu_ps(centroid);
#pragma GCC unroll 16
    for (int h = 0; h < kQuad; ++h) acc[h] = _mm512_fmadd_ps(c, w.p[h], acc[h]);
  }
  static void load(__m512* acc, const float* from, int d) {
    for (int h = 0; h < kQuad; ++h) acc[h] = _mm512_loadu_ps(from + h * d);
  }
  static void store(const __m512* acc, float* to, int d) {
    for (int h = 0; h < kQuad; ++h) _mm512_storeu_ps(to + h * d, acc[h]);
  }
};

template <int kDsub, int kBooks, Width kWidth>
void add_books(const PackedCode& code, CodeBlocks blocks, const float* p, int m, float* acc) {
  using S = Shape<kDsub>;
  const int d = code.n_books * kDsub;
  const std::size_t bytes = block_bytes(code);
  const float* books[kBooks];
  __m512 regs[kBooks][S::kRegs];
#pragma GCC unroll 16
  for (int i = 0; i < kBooks; ++i) {
    books[i] = code.centroids + (m + i) * code.book_stride;
    S::load(regs[i], acc + (m + i) * kDsub, d);
  }
  const std::uint8_t* block = blocks.data;
  for (std::size_t b = 0; b < blocks.n; ++b, block += bytes, p += kBlock * kQuad) {
    if (m == 0) fetch_block(block, bytes);
    using Codes = Offsets<kWidth, std::bit_width(4u * kDsub) - 1>;
    Codes codes[kBooks];
#pragma GCC unroll 16
    for (int i = 0; i < kBooks; ++i) codes[i].load(code, block, blocks.end, m + i);
    std::uint64_t words[kBooks];
#pragma GCC unroll 16
    for (int t = 0; t < kBlock; ++t) {
      if (t % Codes::kStep == 0)
#pragma GCC unroll 16
        for (int i = 0; i < kBooks; ++i) words[i] = codes[i].word(t);
      const auto weights = S::weights(p + t * kQuad);
#pragma GCC unroll 16
      for (int i = 0; i < kBooks; ++i) S::add(regs[i], weights, Codes::next(books[i], words[i]));
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kBooks; ++i) S::store(regs[i], acc + (m + i) * kDsub, d);
}

template <int kDsub>
void add_shape(const PackedCode& code, CodeBlocks blocks, const float* p, float* acc) {
  with_width(code.code_bits, [&](auto tag) {
    constexpr Width kWidth = decltype(tag)::kWidth;
    constexpr int kBooks = Shape<kDsub>::kBooks;
    int m = 0;
    for (; m + kBooks <= code.n_books; m += kBooks)
      add_books<kDsub, kBooks, kWidth>(code, blocks, p, m, acc);
    for (; m < code.n_books; ++m) add_books<kDsub, 1, kWidth>(code, blocks, p, m, acc);
  });
}

void add_codes(const PackedCode& code, CodeBlocks blocks, const float* p, float* acc) {
  switch (code.dsub) {
    case 4:
      return add_shape<4>(code, blocks, p, acc);
    case 8:
      return add_shape<8>(code, blocks, p, acc);
    case 16:
      return add_shape<16>(code, blocks, p, acc);
    default:
      return kAvx2Kernels.add_codes(code, blocks, p, acc);
  }
}

void add_rows(const float* rows, std::size_t n, int head_dim, const float* p, float* acc) {
  constexpr std::size_t kTile = 64;
  for (std::size_t first = 0; first < n; first += kTile) {
    const std::size_t count = n - first < kTile ? n - first : kTile;
    const float* tile = rows + first * head_dim;
    const float* weights = p + first * kQuad;
    for (int i = 0; i < head_dim; i += 16) {
      const unsigned left = static_cast<unsigned>(head_dim - i);
      const __mmask16 lanes = static_cast<__mmask16>(left >= 16 ? 0xffffu : (1u << left) - 1u);
      __m512 sum[kQuad];
#pragma GCC unroll 16
      for (int h = 0; h < kQuad; ++h) sum[h] = _mm512_maskz_loadu_ps(lanes, acc + h * head_dim + i);
      for (std::size_t t = 0; t < count; ++t) {
        const __m512 x = _mm512_maskz_loadu_ps(lanes, tile + t * head_dim + i);
#pragma GCC unroll 16
        for (int h = 0; h < kQuad; ++h)
          sum[h] = _mm512_fmadd_ps(x, _mm512_set1_ps(weights[t * kQuad + h]), sum[h]);
      }
#pragma GCC unroll 16
      for (int h = 0; h < kQuad; ++h) _mm512_mask_storeu_ps(acc + h * head_dim + i, lanes, sum[h]);
    }
  }
}

}  // namespace

Kernels avx512_kernels(const Kernels& base) {
  Kernels table = base;
  table.score_rows = score_rows;
  table.add_codes = add_codes;
  table.add_rows = add_rows;
  return table;
}

}  // namespace vi::attention

#endif  // __x86_64__
