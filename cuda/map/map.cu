// map: y = (x * before) M * after for each row and head; see map.h.
// Oracle     map.h: oracle_map      Test tests/cuda/map_test.cpp
// Launch     grid (n_heads, tiles of 8 rows), head_dim threads: thread = output dim, 8 rows at
// once,
//            so that a dense matrix is read once for 8 rows (a decode step has `batch` rows a head)
// Traffic    dense: head_dim^2 * 4 bytes a head from L2; else the rows alone
// Numerics   f32
#include "cuda/common/check.h"
#include "cuda/common/element.cuh"
#include "cuda/map/map.h"

namespace vi::cuda {
namespace {

constexpr int kRows = 8, kMaxDim = 256;

__global__ void map_rows(MapParams p) {
  __shared__ float x[kRows][kMaxDim];
  const int head = blockIdx.x, d = p.head_dim, i = threadIdx.x;
  const int h = head / (p.n_heads / p.n_kv_heads), first = blockIdx.y * kRows;
  const int count = min(kRows, p.rows - first);
  const auto at = [&](int r) {
    return (static_cast<std::int64_t>(first + r) * p.n_heads + head) * d + i;
  };
  const float before = p.before ? p.before[h * d + i] : 1.f,
              after = p.after ? p.after[h * d + i] : 1.f;
  for (int r = 0; r < kRows; ++r)
    x[r][i] = r < count ? load_element(p.in, at(r), p.dtype) * before : 0.f;
  __syncthreads();
  float y[kRows];
  if (p.hadamard) {
    for (int step = 1; step < d; step *= 2) {
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        y[r] = i & step ? x[r][i ^ step] - x[r][i] : x[r][i] + x[r][i ^ step];
      __syncthreads();
#pragma unroll
      for (int r = 0; r < kRows; ++r) x[r][i] = y[r];
      __syncthreads();
    }
    const float norm = rsqrtf(static_cast<float>(d));
#pragma unroll
    for (int r = 0; r < kRows; ++r) y[r] = x[r][i] * norm;
  } else if (p.dense) {
    const float* a = p.dense + static_cast<std::int64_t>(h) * d * d;
    const int stride = p.transpose ? 1 : d, own = p.transpose ? i * d : i;
#pragma unroll
    for (int r = 0; r < kRows; ++r) y[r] = 0;
    for (int k = 0; k < d; ++k) {
      const float w = __ldg(a + own + k * stride);
#pragma unroll
      for (int r = 0; r < kRows; ++r) y[r] += x[r][k] * w;
    }
  } else {
#pragma unroll
    for (int r = 0; r < kRows; ++r) y[r] = x[r][i];
  }
  for (int r = 0; r < count; ++r) store_element(p.out, at(r), p.dtype, y[r] * after);
}

}  // namespace

void map_heads(const MapParams& p) {
  if (!p.in || !p.out) throw_call("map_heads: in or out missing");
  if (p.rows < 0 || p.n_kv_heads < 1 || p.n_heads < 1 || p.n_heads % p.n_kv_heads ||
      p.head_dim < 1 || p.head_dim > kMaxDim)
    throw_call("map_heads: " + std::to_string(p.n_heads) + " heads of " +
               std::to_string(p.head_dim) + " over " + std::to_string(p.n_kv_heads) +
               " KV heads; expected whole groups and head_dim 1..256");
  if (p.hadamard && (p.dense || p.head_dim & (p.head_dim - 1)))
    throw_call("map_heads: a Hadamard map needs head_dim a power of two and no dense matrix");
  if (p.rows == 0) return;
  map_rows<<<dim3(p.n_heads, (p.rows + kRows - 1) / kRows), p.head_dim, 0, p.stream>>>(p);
  VI_CUDA(cudaGetLastError());
}

}  // namespace vi::cuda
