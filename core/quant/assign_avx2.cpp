// AVX2 + FMA level of assign(): 8 centroids in the lanes, P points at a time (-mavx2 -mfma).
#include <immintrin.h>

#include "core/quant/assign_kernels.h"

namespace vi::quant::detail {
namespace {

// The lane of the smallest distance, ties to the lowest index.
inline void finish(__m256 best, __m256i index, std::uint16_t* code, float* distance) {
  __m256 low = _mm256_min_ps(best, _mm256_permute2f128_ps(best, best, 1));
  low = _mm256_min_ps(low, _mm256_permute_ps(low, 0x4e));
  low = _mm256_min_ps(low, _mm256_permute_ps(low, 0xb1));  // the minimum in every lane
  const __m256i other = _mm256_set1_epi32(0x7fffffff);
  const __m256 equal = _mm256_cmp_ps(best, low, _CMP_EQ_OQ);
  __m256i first = _mm256_castps_si256(
      _mm256_blendv_ps(_mm256_castsi256_ps(other), _mm256_castsi256_ps(index), equal));
  first = _mm256_min_epi32(first, _mm256_permute2x128_si256(first, first, 1));
  first = _mm256_min_epi32(first, _mm256_shuffle_epi32(first, 0x4e));
  first = _mm256_min_epi32(first, _mm256_shuffle_epi32(first, 0xb1));
  const float d = _mm256_cvtss_f32(low);
  *code = d < __builtin_inff() ? static_cast<std::uint16_t>(_mm256_cvtsi256_si32(first)) : 0;
  if (distance) *distance = d;
}

// Points [i, i + P) of the job, D = dsub known: the points' values stay broadcast.
template <int D, int P>
inline void run(const AssignJob& job, std::size_t i) {
  const float* points = job.points + i * job.stride;
  __m256 x[P][D];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int j = 0; j < D; ++j) x[p][j] = _mm256_broadcast_ss(points + p * job.stride + j);
  __m256 best[P];
  __m256i index[P];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    best[p] = _mm256_set1_ps(__builtin_inff());
    index[p] = _mm256_setzero_si256();
  }
  __m256i current = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i eight = _mm256_set1_epi32(8);
  for (int half = 0; half < 2 * job.blocks; ++half) {
    const float* c = job.table + static_cast<std::size_t>(half >> 1) * D * 16 + (half & 1) * 8;
    __m256 sum[P];
#pragma GCC unroll 8
    for (int j = 0; j < D; ++j) {
      const __m256 cj = _mm256_loadu_ps(c + j * 16);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m256 t = _mm256_sub_ps(cj, x[p][j]);
        sum[p] = j == 0 ? _mm256_mul_ps(t, t) : _mm256_fmadd_ps(t, t, sum[p]);
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const __m256 less = _mm256_cmp_ps(sum[p], best[p], _CMP_LT_OQ);
      best[p] = _mm256_min_ps(sum[p], best[p]);  // a NaN distance leaves best
      index[p] = _mm256_castps_si256(
          _mm256_blendv_ps(_mm256_castsi256_ps(index[p]), _mm256_castsi256_ps(current), less));
    }
    current = _mm256_add_epi32(current, eight);
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
    finish(best[p], index[p], job.codes + (i + p) * job.code_stride,
           job.distances ? job.distances + i + p : nullptr);
}

// The same for any dsub.
template <int P>
inline void run_any(const AssignJob& job, std::size_t i) {
  const float* points = job.points + i * job.stride;
  __m256 best[P];
  __m256i index[P];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    best[p] = _mm256_set1_ps(__builtin_inff());
    index[p] = _mm256_setzero_si256();
  }
  __m256i current = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i eight = _mm256_set1_epi32(8);
  for (int half = 0; half < 2 * job.blocks; ++half) {
    const float* c =
        job.table + static_cast<std::size_t>(half >> 1) * job.dsub * 16 + (half & 1) * 8;
    __m256 sum[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) sum[p] = _mm256_setzero_ps();
    for (int j = 0; j < job.dsub; ++j) {
      const __m256 cj = _mm256_loadu_ps(c + j * 16);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m256 t = _mm256_sub_ps(cj, _mm256_broadcast_ss(points + p * job.stride + j));
        sum[p] = _mm256_fmadd_ps(t, t, sum[p]);
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const __m256 less = _mm256_cmp_ps(sum[p], best[p], _CMP_LT_OQ);
      best[p] = _mm256_min_ps(sum[p], best[p]);  // a NaN distance leaves best
      index[p] = _mm256_castps_si256(
          _mm256_blendv_ps(_mm256_castsi256_ps(index[p]), _mm256_castsi256_ps(current), less));
    }
    current = _mm256_add_epi32(current, eight);
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
    finish(best[p], index[p], job.codes + (i + p) * job.code_stride,
           job.distances ? job.distances + i + p : nullptr);
}

template <int D, int P>
inline void all(const AssignJob& job) {
  std::size_t i = 0;
  if constexpr (D > 0) {
    for (; i + P <= job.n; i += P) run<D, P>(job, i);
    for (; i < job.n; ++i) run<D, 1>(job, i);
  } else {
    for (; i + P <= job.n; i += P) run_any<P>(job, i);
    for (; i < job.n; ++i) run_any<1>(job, i);
  }
}

}  // namespace

void assign_avx2(const AssignJob& job) {
  switch (job.dsub) {
    case 2:
      return all<2, 4>(job);
    case 4:
      return all<4, 4>(job);
    case 8:
      return all<8, 4>(job);
    default:
      return all<0, 4>(job);
  }
}

}  // namespace vi::quant::detail
