// Fused decode attention on packed codes (VecInfer Eq. 9-10): scores through per-query look-up
// tables, values straight from the codebooks, exact rows in the same pass under one softmax. The
// cache is never expanded: no buffer here grows with kv_len beyond the splits' partial results.
// Invariant: the bytes of `out` depend on the views, q and the SIMD level, never on the number of
// threads.
#pragma once

#include "core/attention/views.h"
#include "core/common/simd.h"

namespace vi::attention {

// q [n_q_heads, head_dim] -> out [n_q_heads, head_dim] = softmax(q K^T / sqrt(head_dim)) V; zeros
// at len 0. heads [n_kv_heads]; query head i belongs to KV head i / group. Uses OpenMP's current
// number of threads. Oracle: reference_attention(). Error where the views do not fit together.
void decode_attention(const DecodeShape& shape, const HeadView* heads, const float* q, float* out,
                      Simd level = best_simd());

}  // namespace vi::attention
