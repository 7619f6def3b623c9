// The leaf kernels, written once over `V`, sixteen f32 lanes. Included by one file per instruction
// set, which defines V, kRows and the primitives in an anonymous namespace first. No
// standard-library templates in here: their code would carry this file's instruction set into the
// rest of the program.

// e^x for x <= 88 or so; below -87 it is 0. Range reduction by ln 2 in two parts, Taylor to degree
// 7 (next term 5e-9 on |r| <= ln2/2), exponent by integer add.
VI_LANES V exp_lanes(V x) {
  const V low = set1(-87.0f);
  const V clamped = max(x, low);
  const V n = round_nearest(mul(clamped, set1(1.44269504088896341f)));
  V r = fma(n, set1(-0.693359375f), clamped);
  r = fma(n, set1(2.12194440054690583e-4f), r);
  V p = set1(1.0f / 5040.0f);
  p = fma(p, r, set1(1.0f / 720.0f));
  p = fma(p, r, set1(1.0f / 120.0f));
  p = fma(p, r, set1(1.0f / 24.0f));
  p = fma(p, r, set1(1.0f / 6.0f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return zero_below(scale_pow2(p, n), x, low);
}

// ((0+8) + (4+12)) + ... : halves folded onto each other, 16 -> 8 -> 4 -> 2 -> 1.
VI_LANES float sum_lanes(V x) {
  float s[16];
  store(s, x);
  for (int width = 8; width >= 1; width /= 2)
    for (int i = 0; i < width; ++i) s[i] += s[i + width];
  return s[0];
}

VI_LANES float max_lanes(V x) {
  float s[16];
  store(s, x);
  float m = s[0];
  for (int i = 1; i < 16; ++i) m = s[i] > m ? s[i] : m;
  return m;
}

// The first n values, the other lanes `fill`.
VI_LANES V load_part(const float* x, std::int64_t n, float fill) {
  float s[16];
  for (int i = 0; i < 16; ++i) s[i] = i < n ? x[i] : fill;
  return load(s);
}

VI_LANES void store_part(float* y, V x, std::int64_t n) {
  float s[16];
  store(s, x);
  for (int i = 0; i < n; ++i) y[i] = s[i];
}

template <int M>
VI_LANES void gemm_rows(const float* a, std::int64_t a_row, std::int64_t a_step, const float* b,
                        std::int64_t b_step, std::int64_t k, float* c, std::int64_t c_row,
                        bool accumulate) {
  V acc[M];
#pragma GCC unroll 12
  for (int r = 0; r < M; ++r) acc[r] = accumulate ? load(c + r * c_row) : set1(0.0f);
  for (std::int64_t i = 0; i < k; ++i) {
    const V bv = load(b + i * b_step);
    const float* ai = a + i * a_step;
#pragma GCC unroll 12
    for (int r = 0; r < M; ++r) acc[r] = fma(set1(ai[r * a_row]), bv, acc[r]);
  }
#pragma GCC unroll 12
  for (int r = 0; r < M; ++r) store(c + r * c_row, acc[r]);
}

template <int M>
VI_LANES void gemm_dispatch(int m, const float* a, std::int64_t a_row, std::int64_t a_step,
                            const float* b, std::int64_t b_step, std::int64_t k, float* c,
                            std::int64_t c_row, bool accumulate) {
  if (m == M) {
    // The two layouts in use with the stride known: packed rows, and plain rows.
    if (a_row == 1 && a_step == M)
      gemm_rows<M>(a, 1, M, b, b_step, k, c, c_row, accumulate);
    else if (a_step == 1)
      gemm_rows<M>(a, a_row, 1, b, b_step, k, c, c_row, accumulate);
    else
      gemm_rows<M>(a, a_row, a_step, b, b_step, k, c, c_row, accumulate);
    return;
  }
  if constexpr (M > 1)
    gemm_dispatch<M - 1>(m, a, a_row, a_step, b, b_step, k, c, c_row, accumulate);
}

void gemm(int m, const float* a, std::int64_t a_row, std::int64_t a_step, const float* b,
          std::int64_t b_step, std::int64_t k, float* c, std::int64_t c_row, bool accumulate) {
  gemm_dispatch<kRows>(m, a, a_row, a_step, b, b_step, k, c, c_row, accumulate);
}

void widen(const std::uint16_t* x, std::int64_t n, float* y) {
  for (std::int64_t i = 0; i < n; i += 16) {
    for (int j = 0; j < 16; ++j) {
      const std::uint32_t bits = static_cast<std::uint32_t>(x[i + j]) << 16;
      __builtin_memcpy(y + i + j, &bits, 4);
    }
  }
}

void round_bf16(float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, x + i, 4);
    const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
    const std::uint32_t nan = (bits & 0xffff0000u) | 0x400000u;
    bits = (bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded;
    __builtin_memcpy(x + i, &bits, 4);
  }
}

float sum_squares(const float* x, std::int64_t n) {
  V sum = set1(0.0f);
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const V v = load(x + i);
    sum = fma(v, v, sum);
  }
  if (i < n) {
    const V v = load_part(x + i, n - i, 0.0f);
    sum = fma(v, v, sum);
  }
  return sum_lanes(sum);
}

float softmax(float* x, std::int64_t n) {
  V top = load(x);
  for (std::int64_t i = 16; i < n; i += 16) top = max(load(x + i), top);
  const V shift = set1(max_lanes(top));
  V sum = set1(0.0f);
  for (std::int64_t i = 0; i < n; i += 16) {
    const V e = exp_lanes(sub(load(x + i), shift));
    store(x + i, e);
    sum = add(sum, e);
  }
  return sum_lanes(sum);
}

void silu(const float* x, std::int64_t n, float* y) {
  const V one = set1(1.0f), top = set1(87.0f);
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const V v = load(x + i);
    store(y + i, div(v, add(one, exp_lanes(min(neg(v), top)))));
  }
  if (i < n) {
    const V v = load_part(x + i, n - i, 0.0f);
    store_part(y + i, div(v, add(one, exp_lanes(min(neg(v), top)))), n - i);
  }
}

double log_sum_exp(const float* x, std::int64_t n) {
  const float low = -__builtin_huge_valf();
  V top = set1(low);
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) top = max(load(x + i), top);
  if (i < n) top = max(load_part(x + i, n - i, low), top);
  const float shift = max_lanes(top);
  const V shifts = set1(shift);
  double total = 0.0;
  for (i = 0; i < n;) {  // f32 sums of at most 512 values, then double
    V sum = set1(0.0f);
    const std::int64_t end = i + 512 < n ? i + 512 : n;
    for (; i < end; i += 16) {
      const V v = i + 16 <= n ? load(x + i) : load_part(x + i, n - i, low);
      sum = add(sum, exp_lanes(sub(v, shifts)));
    }
    total += static_cast<double>(sum_lanes(sum));
  }
  return static_cast<double>(shift) + __builtin_log(total);
}

constexpr Table kTable = {kRows, gemm, widen, round_bf16, sum_squares, softmax, silu, log_sum_exp};
