// Nearest centroid of many short vectors: squared distance and argmin fused, centroids in SIMD
// lanes (VecInfer Eq. 2). The CPU's level is found at run time; every level returns the same bits:
// each distance is d = fma(c_j - x_j, c_j - x_j, d) over j in order, ties go to the lowest index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/common/simd.h"

namespace vi::quant {

// Centroids as the kernels read them: blocks of 16 centroids, dimension by dimension, the last
// block filled up with centroids at infinity, which are never nearest.
class CentroidTable {
 public:
  static constexpr int kLanes = 16;
  CentroidTable() = default;
  CentroidTable(const float* centroids, int ksub, int dsub);  // [ksub, dsub], ksub 1..65536
  void set(const float* centroids);                           // new values, same shape
  int ksub() const { return ksub_; }
  int dsub() const { return dsub_; }
  int blocks() const { return (ksub_ + kLanes - 1) / kLanes; }
  const float* data() const { return values_.data(); }  // [blocks, dsub, kLanes]

 private:
  int ksub_ = 0, dsub_ = 0;
  std::vector<float> values_;
};

// codes[i * code_stride] = index of the centroid nearest to points[i * stride ..+ dsub], i < n;
// distances[i] its squared distance (or nullptr). A point with NaN or infinity gets code 0 and
// distance infinity. One thread. `level` is at most best_simd().
void assign(const CentroidTable& table, const float* points, std::size_t n, std::size_t stride,
            std::uint16_t* codes, std::size_t code_stride, float* distances,
            Simd level = best_simd());

}  // namespace vi::quant
