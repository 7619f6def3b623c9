// The oracles of cuda/kivi: coding in f32 as core/quant/integer_code.h (range minimum, rounding
// even) codes, decoding and attention in f64 by the definitions.
#pragma once

#include <vector>

#include "cuda/kivi/kivi.h"

namespace vi::cuda {

// One head: rows [n, head_dim] -> records; and back to n rows of one side.
std::vector<std::uint32_t> oracle_kivi_encode(const float* key, const float* value, int n,
                                              int head_dim);
std::vector<double> oracle_kivi_decode(const std::uint32_t* records, int n, int head_dim, bool key);
// Heads of one KV head of one sequence, [n_heads, head_dim] each: softmax(q K^T scale) V.
std::vector<double> oracle_kivi_attention(const float* q, int n_heads, const std::uint32_t* records,
                                          int n, int head_dim, double scale);

}  // namespace vi::cuda
