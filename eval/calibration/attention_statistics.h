// How much an error of each key and value would move the attention's output, measured while the model
// reads text exactly: what the metric basis (core/transform/metric.h) and weighted k-means
// (core/codec/spec.h: Weights) are made of. Only pairs count in which the query would find the key coded.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace vi::eval {

struct AttentionStatistics {
  at::Tensor query_moment;      // f64 [n_kv_heads, d, d] sum over queries of the group of q q^T
  at::Tensor sensitive_moment;  // the same, each query times the sum of its pairs' sensitivities
  at::Tensor attention;         // f32 [n_kv_heads, n] sum over queries of p^2
  at::Tensor sensitivity;       // f32 [n_kv_heads, n] sum over queries of p^2 |v - o|^2, behind W_o
  std::int64_t queries = 0;     // that were summed, of one KV head's group
};

// One sequence, one layer: q [n_q_heads, n, d], k and v [n_kv_heads, n, d], post-RoPE, any type and
// device. output_metric f32 [n_kv_heads, d, d]: sum of W_h^T W_h over the group's slices of W_o. A query
// at position t finds keys [sinks, t - recent] coded. Every `stride`-th query is asked; they go in chunks:
// memory is bounded.
AttentionStatistics attention_statistics(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                         const at::Tensor& output_metric, std::int64_t sinks, std::int64_t recent,
                                         std::int64_t stride = 1);

// W_o [hidden, n_q_heads d] -> output_metric [n_kv_heads, d, d].
at::Tensor output_metric(const at::Tensor& w_o, std::int64_t n_kv_heads, std::int64_t head_dim);

}  // namespace vi::eval
