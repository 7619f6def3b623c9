// AVX-512 level of assign(): 16 centroids in the lanes, P points at a time (-mavx512f).
#include <immintrin.h>

#include "core/quant/assign_kernels.h"

namespace vi::quant::detail {
namespace {

// Points [i, i + P) of the job; D = 0: any dsub.
template <int D, int P>
inline void run(const AssignJob& job, std::size_t i) {
  const int d = D ? D : job.dsub;
  const float* x = job.points + i * job.stride;
  __m512 best[P];
  __m512i index[P];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    best[p] = _mm512_set1_ps(__builtin_inff());
    index[p] = _mm512_setzero_si512();
  }
  __m512i current = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i sixteen = _mm512_set1_epi32(16);
  for (int b = 0; b < job.blocks; ++b) {
    const float* c = job.table + static_cast<std::size_t>(b) * d * 16;
    __m512 sum[P];
    const auto add = [&](int j) __attribute__((always_inline)) {
      const __m512 cj = _mm512_loadu_ps(c + j * 16);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m512 t = _mm512_sub_ps(cj, _mm512_set1_ps(x[p * job.stride + j]));
        sum[p] = j == 0 ? _mm512_mul_ps(t, t) : _mm512_fmadd_ps(t, t, sum[p]);
      }
    };
    add(0);
    if constexpr (D > 0) {
#pragma GCC unroll 8
      for (int j = 1; j < D; ++j) add(j);
    } else {
      for (int j = 1; j < d; ++j) add(j);
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const __mmask16 less = _mm512_cmp_ps_mask(sum[p], best[p], _CMP_LT_OQ);
      best[p] = _mm512_mask_mov_ps(best[p], less, sum[p]);
      index[p] = _mm512_mask_mov_epi32(index[p], less, current);
    }
    current = _mm512_add_epi32(current, sixteen);
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const float distance = _mm512_reduce_min_ps(best[p]);
    const __mmask16 equal = _mm512_cmp_ps_mask(best[p], _mm512_set1_ps(distance), _CMP_EQ_OQ);
    const int first = _mm512_mask_reduce_min_epi32(equal, index[p]);
    job.codes[(i + p) * job.code_stride] =
        distance < __builtin_inff() ? static_cast<std::uint16_t>(first) : 0;
    if (job.distances) job.distances[i + p] = distance;
  }
}

template <int D, int P>
inline void all(const AssignJob& job) {
  std::size_t i = 0;
  for (; i + P <= job.n; i += P) run<D, P>(job, i);
  for (; i < job.n; ++i) run<D, 1>(job, i);
}

}  // namespace

void assign_avx512(const AssignJob& job) {
  switch (job.dsub) {
    case 2:
      return all<2, 8>(job);
    case 4:
      return all<4, 8>(job);
    case 8:
      return all<8, 4>(job);
    default:
      return all<0, 4>(job);
  }
}

}  // namespace vi::quant::detail
