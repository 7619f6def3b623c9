// AVX2 + FMA + BMI2 kernels. Sub-spaces are the outer loop over a tile of tokens, a few at a time,
// so that their look-up tables (16 bytes an entry) or codebooks and the accumulators stay in L1 and
// registers. Versions measured (ns per token and KV head, 4 query heads, head_dim 128, one Zen 3
// core at ~2.9 GHz, 2026-11): values at d4b8 straight from the codebook 12.9 (2 FMA a look-up: the
// FMA units' limit), by histograms of p per (sub-space, code) 20.3; at d8b8 12.9 and 9.5 + 2.8 for
// the histograms' product with the codebook, which is level, so there is one way. Scores at
// d4b8 12.7. Codes to addresses by 16 extractions from a vector register: values 17.3, by 16 narrow
// loads: scores 14.5.
#include "core/attention/kernels_x86.h"

#if defined(__x86_64__)

namespace vi::attention {
namespace {

constexpr int kScoreBooks = 4;  // 4 tables of 256 entries: half of a 32 KiB L1

void build_lut(const PackedCode& code, const float* q, float* lut) {
  const std::size_t ksub = std::size_t{1} << code.code_bits;
  const int dsub = code.dsub;
  for (int m = 0; m < code.n_books; ++m) {
    const float* book = code.centroids + m * code.book_stride;
    const float* sub = q + static_cast<std::size_t>(m) * dsub * kQuad;
    float* entry = lut + m * ksub * kQuad;
    if (dsub % 4 == 0) {  // two entries at a time, one in each half
      for (std::size_t c = 0; c < ksub; c += 2, entry += 2 * kQuad) {
        const float* centroid = book + c * dsub;
        __m256 sum = _mm256_setzero_ps();
        for (int j = 0; j < dsub; j += 4) {
          const __m256 x =
              _mm256_set_m128(_mm_loadu_ps(centroid + dsub + j), _mm_loadu_ps(centroid + j));
          const auto query = [&](int i) {
            return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(sub + (j + i) * kQuad));
          };
          sum = _mm256_fmadd_ps(_mm256_permute_ps(x, 0x00), query(0), sum);
          sum = _mm256_fmadd_ps(_mm256_permute_ps(x, 0x55), query(1), sum);
          sum = _mm256_fmadd_ps(_mm256_permute_ps(x, 0xaa), query(2), sum);
          sum = _mm256_fmadd_ps(_mm256_permute_ps(x, 0xff), query(3), sum);
        }
        _mm256_storeu_ps(entry, sum);
      }
      continue;
    }
    for (std::size_t c = 0; c < ksub; ++c, entry += kQuad) {
      __m128 sum = _mm_setzero_ps();
      for (int j = 0; j < dsub; ++j)
        sum =
            _mm_fmadd_ps(_mm_broadcast_ss(book + c * dsub + j), _mm_loadu_ps(sub + j * kQuad), sum);
      _mm_storeu_ps(entry, sum);
    }
  }
}

// kBooks sub-spaces from m on: scores (+)= their tables' entries.
template <int kBooks, bool kFirst, Width kWidth>
void score_books(const PackedCode& code, CodeBlocks blocks, const float* lut, int m,
                 float* scores) {
  const std::size_t ksub = std::size_t{1} << code.code_bits, bytes = block_bytes(code);
  const float* tables[kBooks];
  for (int i = 0; i < kBooks; ++i) tables[i] = lut + (m + i) * ksub * kQuad;
  const std::uint8_t* block = blocks.data;
  for (std::size_t b = 0; b < blocks.n; ++b, block += bytes, scores += kBlock * kQuad) {
    if constexpr (kFirst) fetch_block(block, bytes);
    using Codes = Offsets<kWidth, 4>;
    Codes codes[kBooks];
#pragma GCC unroll 16
    for (int i = 0; i < kBooks; ++i) codes[i].load(code, block, blocks.end, m + i);
    std::uint64_t words[kBooks];
#pragma GCC unroll 16
    for (int t = 0; t < kBlock; ++t) {
      if (t % Codes::kStep == 0)
#pragma GCC unroll 16
        for (int i = 0; i < kBooks; ++i) words[i] = codes[i].word(t);
      __m128 sum = _mm_loadu_ps(Codes::next(tables[0], words[0]));
#pragma GCC unroll 16
      for (int i = 1; i < kBooks; ++i)
        sum = _mm_add_ps(sum, _mm_loadu_ps(Codes::next(tables[i], words[i])));
      if constexpr (!kFirst) sum = _mm_add_ps(sum, _mm_loadu_ps(scores + t * kQuad));
      _mm_storeu_ps(scores + t * kQuad, sum);
    }
  }
}

void score_codes(const PackedCode& code, CodeBlocks blocks, const float* lut, float* scores) {
  with_width(code.code_bits, [&](auto tag) {
    constexpr Width kWidth = decltype(tag)::kWidth;
    int m = 0;
    for (; m + kScoreBooks <= code.n_books; m += kScoreBooks) {
      const auto run =
          m == 0 ? score_books<kScoreBooks, true, kWidth> : score_books<kScoreBooks, false, kWidth>;
      run(code, blocks, lut, m, scores);
    }
    for (; m < code.n_books; ++m) {
      const auto run = m == 0 ? score_books<1, true, kWidth> : score_books<1, false, kWidth>;
      run(code, blocks, lut, m, scores);
    }
  });
}

// The sums of the 4 accumulators, in order.
inline __m128 sums_of(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}

void score_rows(const float* rows, std::size_t n, int head_dim, const float* q, float* scores) {
  const int whole = head_dim & ~7;
  for (std::size_t t = 0; t < n; ++t, rows += head_dim, scores += kQuad) {
    __m256 acc[kQuad] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                         _mm256_setzero_ps()};
    for (int i = 0; i < whole; i += 8) {
      const __m256 x = _mm256_loadu_ps(rows + i);
#pragma GCC unroll 16
      for (int h = 0; h < kQuad; ++h)
        acc[h] = _mm256_fmadd_ps(x, _mm256_loadu_ps(q + h * head_dim + i), acc[h]);
    }
    __m128 sum = sums_of(acc[0], acc[1], acc[2], acc[3]);
    for (int i = whole; i < head_dim; ++i)
      sum = _mm_fmadd_ps(
          _mm_set1_ps(rows[i]),
          _mm_setr_ps(q[i], q[head_dim + i], q[2 * head_dim + i], q[3 * head_dim + i]), sum);
    _mm_storeu_ps(scores, sum);
  }
}

// exp for x <= 0 (and NaN): 2^n e^r with |r| <= ln 2 / 2 and e^r by its series to r^7; below e^-87:
// 0.
inline __m256 exp_negative(__m256 x) {
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
  __m256 y = _mm256_set1_ps(1.0f / 5040);
  for (const float k : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(k));
  const __m256i power =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  const __m256 small = _mm256_cmp_ps(x, _mm256_set1_ps(-87.0f), _CMP_LT_OQ);
  return _mm256_andnot_ps(small, _mm256_mul_ps(y, _mm256_castsi256_ps(power)));
}

void softmax(float* scores, std::size_t n, float* max, float* sum, float* factor) {
  const __m128 none = _mm_set1_ps(-__builtin_inff());
  __m128 most = _mm_loadu_ps(max);
  for (std::size_t t = 0; t < n; ++t) most = _mm_max_ps(most, _mm_loadu_ps(scores + t * kQuad));
  const __m128 before = _mm_loadu_ps(max);
  // A lane that has seen only -inf: shift by 0, so that exp gives 0 and not NaN.
  const __m128 shift = _mm_andnot_ps(_mm_cmpeq_ps(most, none), most);
  const __m256 shift2 = _mm256_set_m128(shift, shift);
  __m256 total = _mm256_setzero_ps();
  std::size_t t = 0;
  for (; t + 2 <= n; t += 2) {
    const __m256 p = exp_negative(_mm256_sub_ps(_mm256_loadu_ps(scores + t * kQuad), shift2));
    _mm256_storeu_ps(scores + t * kQuad, p);
    total = _mm256_add_ps(total, p);
  }
  if (t < n) {
    const __m256 last = _mm256_set_m128(none, _mm_sub_ps(_mm_loadu_ps(scores + t * kQuad), shift));
    const __m256 p = exp_negative(last);
    _mm_storeu_ps(scores + t * kQuad, _mm256_castps256_ps128(p));
    total = _mm256_add_ps(total, p);
  }
  const __m128 change = _mm_sub_ps(before, shift);
  const __m128 scale = _mm256_castps256_ps128(exp_negative(_mm256_set_m128(change, change)));
  const __m128 all = _mm_add_ps(_mm256_castps256_ps128(total), _mm256_extractf128_ps(total, 1));
  _mm_storeu_ps(factor, scale);
  _mm_storeu_ps(sum, _mm_fmadd_ps(_mm_loadu_ps(sum), scale, all));
  _mm_storeu_ps(max, most);
}

// One accumulator shape a dsub: how the 4 heads' kDsub dimensions of one sub-space lie in
// registers, and how p and a centroid must be spread to match.
template <int kDsub>
struct Shape;

template <>
struct Shape<4> {  // [h0 | h1], [h2 | h3]
  static constexpr int kBooks = 4, kRegs = 2;
  struct Weights {
    __m256 p[2];
  };
  static Weights weights(const float* p) {
    const __m256 all = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
    __m256i low = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    __m256i high = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);
    asm("" : "+x"(low), "+x"(high));  // in registers, not loaded again for each token
    return {{_mm256_permutevar_ps(all, low), _mm256_permutevar_ps(all, high)}};
  }
  static void add(__m256* acc, const Weights& w, const float* centroid) {
    const __m256 c = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(centroid));
    acc[0] = _mm256_fmadd_ps(c, w.p[0], acc[0]);
    acc[1] = _mm256_fmadd_ps(c, w.p[1], acc[1]);
  }
  static void load(__m256* acc, const float* from, int d) {
    for (int i = 0; i < 2; ++i)
      acc[i] =
          _mm256_set_m128(_mm_loadu_ps(from + (2 * i + 1) * d), _mm_loadu_ps(from + 2 * i * d));
  }
  static void store(const __m256* acc, float* to, int d) {
    for (int i = 0; i < 2; ++i) {
      _mm_storeu_ps(to + 2 * i * d, _mm256_castps256_ps128(acc[i]));
      _mm_storeu_ps(to + (2 * i + 1) * d, _mm256_extractf128_ps(acc[i], 1));
    }
  }
};

template <int kWords>
struct WideShape {  // kWords registers a head
  static constexpr int kBooks = kWords == 1 ? 2 : 1, kRegs = kQuad * kWords;
  struct Weights {
    __m256 p[kQuad];
  };
  static Weights weights(const float* p) {
    return {{_mm256_broadcast_ss(p), _mm256_broadcast_ss(p + 1), _mm256_broadcast_ss(p + 2),
             _mm256_broadcast_ss(p + 3)}};
  }
  static void add(__m256* acc, const Weights& w, const float* centroid) {
#pragma GCC unroll 16
    for (int i = 0; i < kWords; ++i) {
      const __m256 c = _mm256_loadu_ps(centroid + 8 * i);
#pragma GCC unroll 16
      for (int h = 0; h < kQuad; ++h)
        acc[h * kWords + i] = _mm256_fmadd_ps(c, w.p[h], acc[h * kWords + i]);
    }
  }
  static void load(__m256* acc, const float* from, int d) {
    for (int h = 0; h < kQuad; ++h)
      for (int i = 0; i < kWords; ++i) acc[h * kWords + i] = _mm256_loadu_ps(from + h * d + 8 * i);
  }
  static void store(const __m256* acc, float* to, int d) {
    for (int h = 0; h < kQuad; ++h)
      for (int i = 0; i < kWords; ++i) _mm256_storeu_ps(to + h * d + 8 * i, acc[h * kWords + i]);
  }
};
template <>
struct Shape<8> : WideShape<1> {};
template <>
struct Shape<16> : WideShape<2> {};

template <>
struct Shape<2> {  // [h0 h0 h1 h1 h2 h2 h3 h3]
  static constexpr int kBooks = 8, kRegs = 1;
  struct Weights {
    __m256 p;
  };
  static Weights weights(const float* p) {
    const __m256 all = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
    return {_mm256_permutevar_ps(all, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3))};
  }
  static void add(__m256* acc, const Weights& w, const float* centroid) {
    double pair;
    std::memcpy(&pair, centroid, sizeof pair);
    *acc = _mm256_fmadd_ps(_mm256_castpd_ps(_mm256_set1_pd(pair)), w.p, *acc);
  }
  static void load(__m256* acc, const float* from, int d) {
    *acc = _mm256_setr_ps(from[0], from[1], from[d], from[d + 1], from[2 * d], from[2 * d + 1],
                          from[3 * d], from[3 * d + 1]);
  }
  static void store(const __m256* acc, float* to, int d) {
    alignas(32) float lane[8];
    _mm256_store_ps(lane, *acc);
    for (int h = 0; h < kQuad; ++h)
      for (int j = 0; j < 2; ++j) to[h * d + j] = lane[2 * h + j];
  }
};

template <int kDsub, int kBooks, Width kWidth>
void add_books(const PackedCode& code, CodeBlocks blocks, const float* p, int m, float* acc) {
  using S = Shape<kDsub>;
  const int d = code.n_books * kDsub;
  const std::size_t bytes = block_bytes(code);
  const float* books[kBooks];
  __m256 regs[kBooks][S::kRegs];
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

bool direct(int dsub) { return dsub == 2 || dsub == 4 || dsub == 8 || dsub == 16; }

void add_codes(const PackedCode& code, CodeBlocks blocks, const float* p, float* acc) {
  switch (code.dsub) {
    case 2:
      return add_shape<2>(code, blocks, p, acc);
    case 4:
      return add_shape<4>(code, blocks, p, acc);
    case 8:
      return add_shape<8>(code, blocks, p, acc);
    default:
      return add_shape<16>(code, blocks, p, acc);
  }
}

void add_rows(const float* rows, std::size_t n, int head_dim, const float* p, float* acc) {
  constexpr std::size_t kTile = 64;  // rows that stay in L1 while the columns go by
  for (std::size_t first = 0; first < n; first += kTile) {
    const std::size_t count = n - first < kTile ? n - first : kTile;
    const float* tile = rows + first * head_dim;
    const float* weights = p + first * kQuad;
    int i = 0;
    for (; i + 16 <= head_dim; i += 16) {
      __m256 sum[kQuad][2];
#pragma GCC unroll 16
      for (int h = 0; h < kQuad; ++h) {
        sum[h][0] = _mm256_loadu_ps(acc + h * head_dim + i);
        sum[h][1] = _mm256_loadu_ps(acc + h * head_dim + i + 8);
      }
      for (std::size_t t = 0; t < count; ++t) {
        const __m256 a = _mm256_loadu_ps(tile + t * head_dim + i);
        const __m256 b = _mm256_loadu_ps(tile + t * head_dim + i + 8);
#pragma GCC unroll 16
        for (int h = 0; h < kQuad; ++h) {
          const __m256 w = _mm256_broadcast_ss(weights + t * kQuad + h);
          sum[h][0] = _mm256_fmadd_ps(a, w, sum[h][0]);
          sum[h][1] = _mm256_fmadd_ps(b, w, sum[h][1]);
        }
      }
#pragma GCC unroll 16
      for (int h = 0; h < kQuad; ++h) {
        _mm256_storeu_ps(acc + h * head_dim + i, sum[h][0]);
        _mm256_storeu_ps(acc + h * head_dim + i + 8, sum[h][1]);
      }
    }
    for (; i < head_dim; ++i) {
      __m128 sum =
          _mm_setr_ps(acc[i], acc[head_dim + i], acc[2 * head_dim + i], acc[3 * head_dim + i]);
      for (std::size_t t = 0; t < count; ++t)
        sum = _mm_fmadd_ps(_mm_broadcast_ss(tile + t * head_dim + i),
                           _mm_loadu_ps(weights + t * kQuad), sum);
      alignas(16) float lane[kQuad];
      _mm_store_ps(lane, sum);
      for (int h = 0; h < kQuad; ++h) acc[h * head_dim + i] = lane[h];
    }
  }
}

void gather(const PackedCode& code, CodeBlocks blocks, float* rows) {
  const int dsub = code.dsub, d = code.n_books * dsub;
  with_width(code.code_bits, [&](auto tag) {
    Offsets<decltype(tag)::kWidth, 0> codes;
    for (std::size_t b = 0; b < blocks.n; ++b)
      for (int m = 0; m < code.n_books; ++m) {
        codes.load(code, blocks.data + b * block_bytes(code), blocks.end, m);
        const float* book = code.centroids + m * code.book_stride;
        float* to = rows + b * kBlock * d + m * dsub;
        for (int t = 0; t < kBlock; ++t, to += d) {
          const float* from = book + static_cast<std::size_t>(codes.at[t]) * dsub;
          int j = 0;
          for (; j + 4 <= dsub; j += 4) _mm_storeu_ps(to + j, _mm_loadu_ps(from + j));
          for (; j < dsub; ++j) to[j] = from[j];
        }
      }
  });
}

}  // namespace

const Kernels kAvx2Kernels = {build_lut, score_codes, score_rows, softmax,
                              add_codes, add_rows,    gather,     direct};

}  // namespace vi::attention

#endif  // __x86_64__
