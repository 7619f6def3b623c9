// The CPU work of the decoder on f32 rows, without torch: packed linear layers, norm, RoPE, gated
// activation, causal attention over exact and reconstructed tokens, log-sum-exp.
// Invariant: every output element is one chain of operations in a fixed order (products by fused
// multiply-add over ascending index; sums in 16 lanes, then a fixed tree) that depends on its own
// row only. So bytes depend neither on threads nor on tiles, and scalar, AVX2 and AVX-512 give the
// same ones.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/common/simd.h"

namespace vi::model {

// W [n_out, n_in] for y = x W^T, in panels of 16 outputs: [ceil(n_out / 16)][n_in][16], zero
// padded.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  PackedMatrix(std::int64_t n_out, std::int64_t n_in, bool bf16);  // zeros; bf16: stored in 2 bytes
  void set_rows(std::int64_t first, std::int64_t n, const float* rows);  // rows [n, n_in]
  void get_row(std::int64_t row, float* out) const;
  std::int64_t n_out() const { return n_out_; }
  std::int64_t n_in() const { return n_in_; }
  std::int64_t panels() const { return (n_out_ + 15) / 16; }
  const float* f32() const { return f32_.empty() ? nullptr : f32_.data(); }
  const std::uint16_t* bf16() const { return bf16_.empty() ? nullptr : bf16_.data(); }

 private:
  std::int64_t n_out_ = 0, n_in_ = 0;
  std::vector<float> f32_;
  std::vector<std::uint16_t> bf16_;
};

// Which tokens a query sees reconstructed: token j of row i is coded where sinks <= j < end[i].
struct CodedRange {
  std::int64_t sinks = 0;
  std::span<const std::int64_t> key_end, value_end;  // [n]; empty: none is coded
};

// Causal attention of n rows, row i at position i. q [n_q_heads, n, head_dim]; k, v [n_kv_heads, n,
// head_dim]; coded_k, coded_v: their reconstructions, nullptr where range says none is coded. out
// [n, n_q_heads * head_dim].
struct AttentionInput {
  std::int64_t n = 0;
  int n_q_heads = 0, n_kv_heads = 0, head_dim = 0;
  const float *q = nullptr, *k = nullptr, *v = nullptr;
  const float *coded_k = nullptr, *coded_v = nullptr;
  CodedRange range;
  std::int64_t window = 0;  // row i sees keys (i - window, i]; 0: [0, i]
};

// One instance a Simd level; `bf16` rounds every result to bf16 (kept in f32 words).
class DecoderKernels {
 public:
  explicit DecoderKernels(bool bf16 = false, Simd level = best_simd())
      : bf16_(bf16), level_(level) {}

  // y [n, n_out] = x [n, n_in] W^T + bias ([n_out] or nullptr) + residual ([n, n_out] or nullptr,
  // added after rounding; may be y).
  void linear(const PackedMatrix& w, const float* x, std::int64_t n, const float* bias,
              const float* residual, float* y) const;
  // y = x / rms(x) * weight over rows of d values; rows are x_stride and y_stride floats apart.
  void rms_norm(const float* x, std::int64_t x_stride, std::int64_t n, std::int64_t d,
                const float* weight, float eps, float* y, std::int64_t y_stride) const;
  // Rotate-half RoPE of one head: x rows x_stride apart -> y [n, head_dim]; cos, sin [n, head_dim /
  // 2]. cos == nullptr: a copy.
  void rope(const float* x, std::int64_t x_stride, std::int64_t n, int head_dim, const float* cos,
            const float* sin, float* y) const;
  // y [n, d] = silu(x[:, :d]) * x[:, d:], x [n, 2 d].
  void silu_mul(const float* x, std::int64_t n, std::int64_t d, float* y) const;
  void attention(const AttentionInput& input, float* out) const;
  // log sum exp of each row of x [n, d].
  void log_sum_exp(const float* x, std::int64_t n, std::int64_t d, double* out) const;

 private:
  bool bf16_;
  Simd level_;
};

}  // namespace vi::model
