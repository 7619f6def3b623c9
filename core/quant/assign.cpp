#include "core/quant/assign.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/common/error.h"
#include "core/quant/assign_kernels.h"

namespace vi::quant {
namespace detail {

void assign_scalar(const AssignJob& job) {
  constexpr int kLanes = CentroidTable::kLanes;
  for (std::size_t i = 0; i < job.n; ++i) {
    const float* x = job.points + i * job.stride;
    float best = std::numeric_limits<float>::infinity();
    int index = 0;
    for (int c = 0; c < job.blocks * kLanes; ++c) {
      const float* centroid = job.table + (c / kLanes) * job.dsub * kLanes + c % kLanes;
      float distance = 0;
      for (int j = 0; j < job.dsub; ++j) {
        const float t = centroid[j * kLanes] - x[j];
        distance = std::fma(t, t, distance);
      }
      if (distance < best) {
        best = distance;
        index = c;
      }
    }
    job.codes[i * job.code_stride] = static_cast<std::uint16_t>(index);
    if (job.distances) job.distances[i] = best;
  }
}

}  // namespace detail

CentroidTable::CentroidTable(const float* centroids, int ksub, int dsub)
    : ksub_(ksub), dsub_(dsub) {
  VI_CHECK(ksub >= 1 && ksub <= 65536 && dsub >= 1, "ksub {}, dsub {}", ksub, dsub);
  values_.assign(static_cast<std::size_t>(blocks()) * dsub * kLanes,
                 std::numeric_limits<float>::infinity());
  set(centroids);
}

void CentroidTable::set(const float* centroids) {
  for (int c = 0; c < ksub_; ++c) {
    float* out =
        values_.data() + static_cast<std::size_t>(c / kLanes) * dsub_ * kLanes + c % kLanes;
    for (int j = 0; j < dsub_; ++j)
      out[j * kLanes] = centroids[static_cast<std::size_t>(c) * dsub_ + j];
  }
}

void assign(const CentroidTable& table, const float* points, std::size_t n, std::size_t stride,
            std::uint16_t* codes, std::size_t code_stride, float* distances, Simd level) {
  const detail::AssignJob job{table.data(), table.blocks(), table.dsub(), points,   n,
                              stride,       codes,          code_stride,  distances};
  VI_CHECK(level <= best_simd(), "this CPU has no {}", simd_name(level));
#if defined(__x86_64__)
  if (level == Simd::avx512) return detail::assign_avx512(job);
  if (level == Simd::avx2) return detail::assign_avx2(job);
#endif
  detail::assign_scalar(job);
}

}  // namespace vi::quant
