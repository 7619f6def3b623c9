// The leaf kernels in AVX-512; compiled with -mavx512f and company, called after a check at run
// time. GCC 12 warns about the undefined operand of its own unmasked AVX-512 intrinsics.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include "core/decoder/decoder_lanes.h"

#define VI_LANES inline __attribute__((always_inline))

namespace vi::model::lanes {
namespace {

constexpr int kRows = 12;  // 12 accumulators hide the latency of fma on two ports

struct V {
  __m512 x;
};

VI_LANES V load(const float* p) { return {_mm512_loadu_ps(p)}; }
VI_LANES void store(float* p, V v) { _mm512_storeu_ps(p, v.x); }
VI_LANES V set1(float x) { return {_mm512_set1_ps(x)}; }
VI_LANES V fma(V a, V b, V c) { return {_mm512_fmadd_ps(a.x, b.x, c.x)}; }
VI_LANES V add(V a, V b) { return {_mm512_add_ps(a.x, b.x)}; }
VI_LANES V sub(V a, V b) { return {_mm512_sub_ps(a.x, b.x)}; }
VI_LANES V mul(V a, V b) { return {_mm512_mul_ps(a.x, b.x)}; }
VI_LANES V div(V a, V b) { return {_mm512_div_ps(a.x, b.x)}; }
VI_LANES V neg(V a) { return {_mm512_xor_ps(a.x, _mm512_set1_ps(-0.0f))}; }
VI_LANES V max(V a, V b) { return {_mm512_max_ps(a.x, b.x)}; }
VI_LANES V min(V a, V b) { return {_mm512_min_ps(a.x, b.x)}; }
VI_LANES V round_nearest(V a) {
  return {_mm512_roundscale_ps(a.x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
VI_LANES V scale_pow2(V p, V n) {
  const __m512i shift = _mm512_slli_epi32(_mm512_cvtps_epi32(n.x), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p.x), shift))};
}
VI_LANES V zero_below(V v, V x, V low) {
  return {_mm512_mask_mov_ps(v.x, _mm512_cmp_ps_mask(x.x, low.x, _CMP_LT_OQ), _mm512_setzero_ps())};
}

#include "core/decoder/decoder_lanes_impl.h"

}  // namespace

const Table& avx512() { return kTable; }

}  // namespace vi::model::lanes
