// The KIVI contender of `bench kernels`: a cache of random rows coded by kivi_encode, attended over by the
// fused kernel, and the same attention in f64 over what the codes stand for.
#pragma once

#include <ATen/ATen.h>

#include "cuda/common/check.h"
#include "cuda/kivi/kivi.h"

namespace vi::cuda {

class KiviCase {
 public:
  // q, out: f16 [batch, n_q_heads, head_dim]; kv_len: int [batch], all equal to `tokens`.
  KiviCase(const at::Tensor& q, const at::Tensor& out, const at::Tensor& kv_len, std::int64_t tokens, int n_kv_heads,
           const Device& device);
  std::int64_t bytes() const { return static_cast<std::int64_t>(records_.nbytes()); }
  void attend() const { kivi_decode_attention(p_); }
  // f64 [group, head_dim]: the outputs of the last KV head of the last sequence. Takes records apart by
  // tensor views, not by layout.h: a second reading of the layout.
  at::Tensor wanted() const;

 private:
  at::Tensor q_, records_, workspace_;
  std::int64_t tokens_;
  KiviParams p_;
};

}  // namespace vi::cuda
