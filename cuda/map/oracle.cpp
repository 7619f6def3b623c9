#include <bit>
#include <cmath>
#include <cstdint>

#include "core/common/half.h"
#include "cuda/map/map.h"

namespace vi::cuda {
namespace {

double element(const void* p, std::size_t i, Dtype dtype) {
  if (dtype == Dtype::f32) return static_cast<const float*>(p)[i];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(p)[i];
  return dtype == Dtype::f16 ? half_to_float(bits) : bf16_to_float(bits);
}

}  // namespace

std::vector<double> oracle_map(const MapParams& p) {
  const int d = p.head_dim, group = p.n_heads / p.n_kv_heads;
  std::vector<double> out(static_cast<std::size_t>(p.rows) * p.n_heads * d), x(d);
  for (std::size_t row = 0; row < static_cast<std::size_t>(p.rows) * p.n_heads; ++row) {
    const std::size_t h = row % p.n_heads / group;
    for (int i = 0; i < d; ++i)
      x[i] = element(p.in, row * d + i, p.dtype) * (p.before ? p.before[h * d + i] : 1.0);
    for (int j = 0; j < d; ++j) {
      double y = p.hadamard || p.dense ? 0 : x[j];
      for (int i = 0; i < d; ++i) {
        if (p.hadamard)
          y += x[i] * (std::popcount(static_cast<unsigned>(i & j)) % 2 ? -1 : 1) / std::sqrt(d);
        else if (p.dense)
          y += x[i] * p.dense[h * d * d + (p.transpose ? j * d + i : i * d + j)];
      }
      out[row * d + j] = y * (p.after ? p.after[h * d + j] : 1.0);
    }
  }
  return out;
}

}  // namespace vi::cuda
