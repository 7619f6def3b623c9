#include "core/quant/lloyd_max.h"

#include <cmath>
#include <numbers>

#include "core/common/error.h"

namespace vi::quant {
namespace {

double density(double x) {
  return std::isinf(x) ? 0.0 : std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
}
double mass(double a, double b) {  // of (a, b), exact in the tails
  const double r = std::numbers::sqrt2;
  return a > 0 ? 0.5 * (std::erfc(a / r) - std::erfc(b / r)) : 0.5 * (std::erfc(-b / r) - std::erfc(-a / r));
}

}  // namespace

LloydMax lloyd_max_normal(int bits) {
  VI_CHECK(bits >= 1 && bits <= 8, "Lloyd-Max levels of {} bits", bits);
  const int n = 1 << bits;
  LloydMax result;
  for (int i = 0; i < n; ++i) result.levels.push_back(3.5 * (2.0 * i + 1 - n) / n);
  const auto edge = [&](int i) {  // between level i - 1 and level i
    if (i == 0) return -HUGE_VAL;
    if (i == n) return HUGE_VAL;
    return 0.5 * (result.levels[i - 1] + result.levels[i]);
  };
  for (int pass = 0; pass < 20000; ++pass) {
    double moved = 0;
    std::vector<double> next(n);
    for (int i = 0; i < n; ++i) {
      const double a = edge(i), b = edge(i + 1);
      next[i] = (density(a) - density(b)) / mass(a, b);
      moved = std::max(moved, std::fabs(next[i] - result.levels[i]));
    }
    for (int i = 0; i < n; ++i) result.levels[i] = 0.5 * (next[i] - next[n - 1 - i]);  // symmetric
    if (moved < 1e-12) break;
  }
  result.mse = 1;  // E x^2 - E level^2, as each level is its cell's mean
  for (int i = 0; i < n; ++i)
    result.mse -= result.levels[i] * result.levels[i] * mass(edge(i), edge(i + 1));
  return result;
}

}  // namespace vi::quant
