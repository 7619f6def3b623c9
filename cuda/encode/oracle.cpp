#include "cuda/encode/oracle.h"

#include <bit>
#include <cmath>
#include <limits>

#include "core/common/half.h"

namespace vi::cuda {
namespace {

std::vector<double> transformed(const EncodeParams& p, std::int64_t row, int head) {
  const int d = p.head_dim;
  std::vector<double> x(d), y(d);
  for (int i = 0; i < d; ++i) {
    const std::int64_t at = row * p.row_stride + head * p.head_stride + i;
    x[i] = p.dtype == Dtype::f32   ? static_cast<const float*>(p.rows)[at]
           : p.dtype == Dtype::f16 ? half_to_float(static_cast<const std::uint16_t*>(p.rows)[at])
                                   : bf16_to_float(static_cast<const std::uint16_t*>(p.rows)[at]);
    if (p.center) x[i] -= p.center[head * d + i];
    if (p.inverse_scale) x[i] *= p.inverse_scale[head * d + i];
  }
  if (!p.hadamard && !p.dense) return x;
  for (int j = 0; j < d; ++j) {
    double sum = 0;
    for (int i = 0; i < d; ++i)
      sum += p.hadamard ? (std::popcount(static_cast<unsigned>(i & j)) & 1 ? -x[i] : x[i])
                        : x[i] * p.dense[(static_cast<std::int64_t>(head) * d + i) * d + j];
    y[j] = p.hadamard ? sum / std::sqrt(static_cast<double>(d)) : sum;
  }
  return y;
}

double distance(const EncodeParams& p, const double* y, int head, int m, int code, double* norm) {
  const std::int64_t book =
      p.shared ? head : static_cast<std::int64_t>(head) * (p.head_dim / p.dsub) + m;
  double n = 0, dot = 0;
  for (int i = 0; i < p.dsub; ++i) {
    const double c = half_to_float(static_cast<const std::uint16_t*>(
        p.centroids)[((book << p.code_bits) + code) * p.dsub + i]);
    n += c * c;
    dot += c * y[m * p.dsub + i];
  }
  *norm = n;
  return 0.5 * n - dot;
}

}  // namespace

std::vector<OracleCode> oracle_codes(const EncodeParams& p) {
  const int n_books = p.head_dim / p.dsub;
  std::vector<OracleCode> all;
  for (std::int64_t row = 0; row < static_cast<std::int64_t>(p.batch) * p.n_tokens; ++row)
    for (int head = 0; head < p.n_kv_heads; ++head) {
      const std::vector<double> y = transformed(p, row, head);
      for (int m = 0; m < n_books; ++m) {
        OracleCode o;
        o.best = o.second = std::numeric_limits<double>::infinity();
        double norm = 0;
        for (int c = 0; c < 1 << p.code_bits; ++c) {
          double n;
          const double v = distance(p, y.data(), head, m, c, &n);
          if (v < o.best) {
            o.second = o.best;
            o.best = v;
            o.code = c;
            norm = n;
          } else if (v < o.second) {
            o.second = v;
          }
        }
        for (int i = 0; i < p.dsub; ++i) o.size += y[m * p.dsub + i] * y[m * p.dsub + i];
        o.size += norm;
        all.push_back(o);
      }
    }
  return all;
}

double oracle_distance(const EncodeParams& p, int row, int head, int m, int code) {
  double norm;
  return distance(p, transformed(p, row, head).data(), head, m, code, &norm);
}

}  // namespace vi::cuda
