// The SIMD levels of assign(): private to core/quant. The .cpp files of the AVX levels are compiled
// with their instruction set and so must not instantiate anything that another file could share:
// raw pointers and intrinsics only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vi::quant::detail {

struct AssignJob {
  const float* table;  // [blocks, dsub, 16]
  int blocks, dsub;
  const float* points;
  std::size_t n, stride;
  std::uint16_t* codes;
  std::size_t code_stride;
  float* distances;  // or nullptr
};

void assign_scalar(const AssignJob& job);
void assign_avx2(const AssignJob& job);
void assign_avx512(const AssignJob& job);

}  // namespace vi::quant::detail
