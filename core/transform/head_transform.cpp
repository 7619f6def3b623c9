#include "core/transform/head_transform.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/common/error.h"
#include "core/transform/token_step.h"

namespace vi::transform {
namespace {

// Stages of half-width 1, 2 and 4 on eight values: one pass over the row instead of three.
inline void butterfly8(float* x) {
  const float a0 = x[0] + x[1], a1 = x[0] - x[1], a2 = x[2] + x[3], a3 = x[2] - x[3];
  const float a4 = x[4] + x[5], a5 = x[4] - x[5], a6 = x[6] + x[7], a7 = x[6] - x[7];
  const float b0 = a0 + a2, b1 = a1 + a3, b2 = a0 - a2, b3 = a1 - a3;
  const float b4 = a4 + a6, b5 = a5 + a7, b6 = a4 - a6, b7 = a5 - a7;
  x[0] = b0 + b4, x[1] = b1 + b5, x[2] = b2 + b6, x[3] = b3 + b7;
  x[4] = b0 - b4, x[5] = b1 - b5, x[6] = b2 - b6, x[7] = b3 - b7;
}

void permute(float* rows, std::size_t n_rows, int d, const float* order, bool back) {
  std::vector<float> y(d);
  for (std::size_t r = 0; r < n_rows; ++r) {
    float* x = rows + r * d;
    for (int j = 0; j < d; ++j) {
      const int i = static_cast<int>(order[j]);
      if (back)
        y[i] = x[j];
      else
        y[j] = x[i];
    }
    std::memcpy(x, y.data(), d * sizeof(float));
  }
}

void hadamard_row(float* x, int n, float scale) {
  int half = 1;
  if (n >= 8) {
    for (int i = 0; i < n; i += 8) butterfly8(x + i);
    half = 8;
  }
  for (; half < n; half *= 2)
    for (int start = 0; start < n; start += 2 * half) {
      float* __restrict low = x + start;
      float* __restrict high = low + half;
      for (int i = 0; i < half; ++i) {
        const float a = low[i], b = high[i];
        low[i] = a + b;
        high[i] = a - b;
      }
    }
  for (int i = 0; i < n; ++i) x[i] *= scale;
}

// y = x A (or x A^T) row by row; sums run over the inner index in order.
void multiply(float* rows, std::size_t n_rows, int d, const float* matrix, bool transposed) {
  std::vector<float> y(d);
  for (std::size_t r = 0; r < n_rows; ++r) {
    float* x = rows + r * d;
    if (transposed) {
      for (int j = 0; j < d; ++j) {
        float sum = 0;
        for (int i = 0; i < d; ++i) sum += x[i] * matrix[j * d + i];
        y[j] = sum;
      }
    } else {
      std::fill(y.begin(), y.end(), 0.0f);
      for (int i = 0; i < d; ++i) {
        const float* __restrict a = matrix + i * d;
        float* __restrict to = y.data();
        const float xi = x[i];
#pragma omp simd
        for (int j = 0; j < d; ++j) to[j] += xi * a[j];
      }
    }
    std::memcpy(x, y.data(), d * sizeof(float));
  }
}

// Rows are independent: large counts go to all threads, the bytes are the same.
template <class F>
void for_runs(float* rows, std::size_t n_rows, int d, const F& one) {
  constexpr std::size_t kRun = 512;
  const auto runs = static_cast<std::int64_t>((n_rows + kRun - 1) / kRun);
#pragma omp parallel for schedule(static) if (runs > 1 && !omp_in_parallel())
  for (std::int64_t i = 0; i < runs; ++i) {
    const std::size_t first = static_cast<std::size_t>(i) * kRun;
    one(rows + first * static_cast<std::size_t>(d), std::min(kRun, n_rows - first));
  }
}

}  // namespace

void hadamard(float* rows, std::size_t n_rows, int n) {
  VI_CHECK(n > 0 && (n & (n - 1)) == 0, "a Hadamard matrix of size {} needs a power of two", n);
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(n)));
  for (std::size_t r = 0; r < n_rows; ++r) hadamard_row(rows + r * n, n, scale);
}

void HeadTransform::forward(float* all, std::size_t n) const {
  for_runs(all, n, head_dim, [&](float* rows, std::size_t n_rows) { forward_run(rows, n_rows); });
}

void HeadTransform::forward_run(float* rows, std::size_t n_rows) const {
  const int d = head_dim;
  for (const Step& step : steps) switch (step.kind) {
      case Step::Kind::center:
        for (std::size_t r = 0; r < n_rows; ++r)
          for (int i = 0; i < d; ++i) rows[r * d + i] -= step.vector[i];
        break;
      case Step::Kind::scale:
        for (std::size_t r = 0; r < n_rows; ++r)
          for (int i = 0; i < d; ++i) rows[r * d + i] /= step.vector[i];
        break;
      case Step::Kind::hadamard:
        hadamard(rows, n_rows, d);
        break;
      case Step::Kind::dense:
        multiply(rows, n_rows, d, step.matrix.data(), false);
        break;
      case Step::Kind::permute:
        permute(rows, n_rows, d, step.vector.data(), false);
        break;
      case Step::Kind::token_norm:
      case Step::Kind::token_range:
        for (std::size_t r = 0; r < n_rows; ++r) {
          std::uint16_t numbers[kTokenNumbers];
          token_forward(step, rows + r * d, d, numbers);
        }
        break;
    }
}

void HeadTransform::inverse(float* all, std::size_t n) const {
  for_runs(all, n, head_dim, [&](float* rows, std::size_t n_rows) { inverse_run(rows, n_rows); });
}

void HeadTransform::inverse_run(float* rows, std::size_t n_rows) const {
  const int d = head_dim;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) switch (step->kind) {
      case Step::Kind::center:
        for (std::size_t r = 0; r < n_rows; ++r)
          for (int i = 0; i < d; ++i) rows[r * d + i] += step->vector[i];
        break;
      case Step::Kind::scale:
        for (std::size_t r = 0; r < n_rows; ++r)
          for (int i = 0; i < d; ++i) rows[r * d + i] *= step->vector[i];
        break;
      case Step::Kind::hadamard:
        hadamard(rows, n_rows, d);
        break;
      case Step::Kind::dense:
        multiply(rows, n_rows, d, step->inverse.data(), false);
        break;
      case Step::Kind::permute:
        permute(rows, n_rows, d, step->vector.data(), true);
        break;
      case Step::Kind::token_norm:
      case Step::Kind::token_range:
        VI_CHECK(n_rows == 0, "a per-token step cannot be undone without the token's numbers");
    }
}

void HeadTransform::query(float* all, std::size_t n) const {
  for_runs(all, n, head_dim, [&](float* rows, std::size_t n_rows) { query_run(rows, n_rows); });
}

void HeadTransform::query_run(float* rows, std::size_t n_rows) const {
  const int d = head_dim;
  for (const Step& step : steps) switch (step.kind) {  // q' = q A^-T, step by step
      case Step::Kind::center:
      case Step::Kind::token_norm:  // a factor (and a constant) of each key, not of the query
      case Step::Kind::token_range:
        break;
      case Step::Kind::permute:
        permute(rows, n_rows, d, step.vector.data(), false);
        break;
      case Step::Kind::scale:
        for (std::size_t r = 0; r < n_rows; ++r)
          for (int i = 0; i < d; ++i) rows[r * d + i] *= step.vector[i];
        break;
      case Step::Kind::hadamard:
        hadamard(rows, n_rows, d);
        break;
      case Step::Kind::dense:
        multiply(rows, n_rows, d, step.inverse.data(), true);
        break;
    }
}

std::vector<float> HeadTransform::dense() const {
  HeadTransform linear{head_dim, {}};
  for (const Step& step : steps)
    if (step.kind != Step::Kind::center && !per_token(step.kind)) linear.steps.push_back(step);
  std::vector<float> a(static_cast<std::size_t>(head_dim) * head_dim, 0.0f);
  for (int i = 0; i < head_dim; ++i) a[static_cast<std::size_t>(i) * head_dim + i] = 1.0f;
  linear.forward(a.data(), head_dim);
  return a;
}

}  // namespace vi::transform
