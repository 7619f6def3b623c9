// Single-threaded leaf kernels of decoder_kernels.h as a table per instruction set. Sixteen f32
// lanes are the unit everywhere, so that all tables give the same bytes.
#pragma once

#include <cstdint>

namespace vi::model::lanes {

inline constexpr int kLanes = 16;    // columns of a panel
inline constexpr int kMaxRows = 12;  // the largest `rows` of a table

struct Table {
  int rows;  // rows of a micro tile: 1..rows rows at once
  // c[r][0..16) (+)= sum_i a[r * a_row + i * a_step] * b[i * b_step + 0..16), i ascending, by fma.
  void (*gemm)(int m, const float* a, std::int64_t a_row, std::int64_t a_step, const float* b,
               std::int64_t b_step, std::int64_t k, float* c, std::int64_t c_row, bool accumulate);
  // bf16 -> f32, n a multiple of 16.
  void (*widen)(const std::uint16_t* x, std::int64_t n, float* y);
  void (*round_bf16)(float* x, std::int64_t n);
  float (*sum_squares)(const float* x, std::int64_t n);
  // x[i] = exp(x[i] - max) over n values, n a multiple of 16, -inf gives 0; returns their sum.
  float (*softmax)(float* x, std::int64_t n);
  void (*silu)(const float* x, std::int64_t n, float* y);
  double (*log_sum_exp)(const float* x, std::int64_t n);
};

const Table& scalar();
const Table& avx2();    // calls need AVX2 and FMA
const Table& avx512();  // calls need AVX-512 F, DQ, BW, VL

}  // namespace vi::model::lanes
