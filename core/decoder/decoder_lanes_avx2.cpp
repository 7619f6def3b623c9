// The leaf kernels in AVX2 and FMA; compiled with -mavx2 -mfma, called after a check at run time.
#include <immintrin.h>

#include "core/decoder/decoder_lanes.h"

#define VI_LANES inline __attribute__((always_inline))

namespace vi::model::lanes {
namespace {

constexpr int kRows = 6;  // 12 accumulators, 2 registers of the panel, 1 broadcast

struct V {
  __m256 lo, hi;
};

VI_LANES V load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
VI_LANES void store(float* p, V v) {
  _mm256_storeu_ps(p, v.lo);
  _mm256_storeu_ps(p + 8, v.hi);
}
VI_LANES V set1(float x) {
  const __m256 v = _mm256_set1_ps(x);
  return {v, v};
}
VI_LANES V fma(V a, V b, V c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
VI_LANES V add(V a, V b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
VI_LANES V sub(V a, V b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
VI_LANES V mul(V a, V b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
VI_LANES V div(V a, V b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
VI_LANES V neg(V a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign)};
}
VI_LANES V max(V a, V b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
VI_LANES V min(V a, V b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
VI_LANES V round_nearest(V a) {
  constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.lo, kMode), _mm256_round_ps(a.hi, kMode)};
}
VI_LANES __m256 scale_half(__m256 p, __m256 n) {
  const __m256i shift = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), shift));
}
VI_LANES V scale_pow2(V p, V n) { return {scale_half(p.lo, n.lo), scale_half(p.hi, n.hi)}; }
VI_LANES V zero_below(V v, V x, V low) {
  return {_mm256_andnot_ps(_mm256_cmp_ps(x.lo, low.lo, _CMP_LT_OQ), v.lo),
          _mm256_andnot_ps(_mm256_cmp_ps(x.hi, low.hi, _CMP_LT_OQ), v.hi)};
}

#include "core/decoder/decoder_lanes_impl.h"

}  // namespace

const Table& avx2() { return kTable; }

}  // namespace vi::model::lanes
