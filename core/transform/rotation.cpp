#include "core/transform/rotation.h"

#include <cmath>

#include "core/common/rng.h"

namespace vi::transform {

std::vector<float> random_rotation(int d, std::uint64_t seed) {
  const std::size_t n = d;
  Rng rng(seed);
  std::vector<double> q(n * n);
  for (double& x : q) x = rng.normal();
  for (std::size_t r = 0; r < n; ++r) {
    double* row = q.data() + r * n;
    for (int pass = 0; pass < 2; ++pass)
      for (std::size_t other = 0; other < r; ++other) {
        const double* base = q.data() + other * n;
        double dot = 0;
        for (std::size_t i = 0; i < n; ++i) dot += row[i] * base[i];
        for (std::size_t i = 0; i < n; ++i) row[i] -= dot * base[i];
      }
    double norm = 0;
    for (std::size_t i = 0; i < n; ++i) norm += row[i] * row[i];
    for (std::size_t i = 0; i < n; ++i) row[i] /= std::sqrt(norm);
  }
  return {q.begin(), q.end()};
}

}  // namespace vi::transform
