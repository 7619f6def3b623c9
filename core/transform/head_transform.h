// The invertible map of one (layer, KV head, side): y = T(x), with q mapped so that scores are kept
// (VecInfer section 3.2-3.3: q diag(l) H against K diag(l)^-1 H). Steps run in order; `center` is affine,
// and its part of a score, q.mean, is the same for all keys and so free under softmax.
#pragma once

#include <span>
#include <vector>

namespace vi::transform {

// In-place y = x H / sqrt(n) over each row, n a power of two; H symmetric, orthonormal, natural order.
void hadamard(float* rows, std::size_t n_rows, int n);

struct Step {
  enum class Kind { center, scale, hadamard, dense, permute, token_norm, token_range };
  Kind kind = Kind::hadamard;
  // center: mean [d]; scale: divisor [d]; permute: y_j = x_vector[j] [d]; token_range: [1] how many
  // values of a token stay outside its range
  std::vector<float> vector;
  std::vector<float> matrix;  // dense: A [d, d], y = x A (row major)
  std::vector<float> inverse; // dense: A^-1 [d, d]
};

struct HeadTransform {
  int head_dim = 0;
  std::vector<Step> steps;  // empty: identity
  // Of calibration: channels whose statistic was at its floor (dead or nearly so) and directions of a
  // second moment raised to theirs (singular or nearly so).
  int floored = 0;

  void forward(float* rows, std::size_t n_rows) const;   // x -> y,     rows [n_rows, head_dim]
  // y -> x. Error with per-token steps: what they took off is known to the coder only
  // (core/quant/compose/token_code.h).
  void inverse(float* rows, std::size_t n_rows) const;
  // q -> q' with q'.y(k) = q.k - offset(q); offset(q) = q.(what the center steps took away), one a query.
  void query(float* rows, std::size_t n_rows) const;
  bool identity() const { return steps.empty(); }
  // The linear part as a dense matrix [d, d]: y = (x - c) A. For tests, docs and the GPU.
  std::vector<float> dense() const;

 private:
  void forward_run(float* rows, std::size_t n_rows) const;
  void inverse_run(float* rows, std::size_t n_rows) const;
  void query_run(float* rows, std::size_t n_rows) const;
};

}  // namespace vi::transform
