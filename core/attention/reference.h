// The oracle of every attention kernel: one query token against a cache, in f64 and by the
// definitions (codes read one by one, transforms undone step by step), and its f32 twin that
// decodes everything first. out = softmax(q K^T / sqrt(head_dim)) V (VecInfer Eq. 10); all zeros at
// len 0.
#pragma once

#include <vector>

#include "core/attention/views.h"

namespace vi::attention {

// All rows of one side in f64, [len, head_dim].
std::vector<double> side_rows(const SideView& side, std::size_t n_sinks, std::size_t len,
                              int head_dim);

// q [n_q_heads, head_dim] -> out [n_q_heads, head_dim]; heads [n_kv_heads].
void reference_attention(const DecodeShape& shape, const HeadView* heads, const float* q,
                         double* out);
void naive_attention(const DecodeShape& shape, const HeadView* heads, const float* q, float* out);

}  // namespace vi::attention
