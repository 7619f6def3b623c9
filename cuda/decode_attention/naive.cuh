// naive: one decode step of attention over vector-quantised K and V, as plainly as it can be
// written. Computes   o = softmax(q K^T * scale) V over coded tokens, then exact ones; lse in log2
// (VecInfer Eq. 10) Oracle     oracle.h: oracle_decode     Test
// tests/cuda/decode_attention_test.cpp Shapes     any dsub, 1..16 code bits, head_dim <= 256, any
// GQA group, both codebook scopes, paged or contiguous Launch     grid (n_q_heads, batch), 256
// threads: one thread scores one token of a tile, then one output dim Numerics   f32 throughout
// Kept as the second oracle and the baseline of docs/kernels/decode_attention.md; re-reads codes
// per query head.
#pragma once

#include "core/quant/code_layout.h"
#include "cuda/common/element.cuh"
#include "cuda/decode_attention/params.h"

namespace vi::cuda {

namespace naive {

constexpr int kThreads = 256;  // also the tile, and the largest head_dim

__device__ inline const std::uint8_t* stream_of(const DecodeParams& p, const CodedSide& side, int b,
                                                int h, int token, int* local) {
  const std::uint8_t* stream = side.codes + h * side.head_stride;
  if (!p.block_table) {
    *local = token;
    return stream + b * side.outer_stride;
  }
  *local = token % p.page_tokens;
  const std::int64_t page = p.block_table[b * p.max_pages + token / p.page_tokens];
  return stream + page * side.outer_stride;
}

__device__ inline float centroid(const CodedSide& side, int head_dim, int h, int m, unsigned code,
                                 int i) {
  const int n_books = side.shared ? 1 : head_dim / side.dsub;
  const std::int64_t book = static_cast<std::int64_t>(h) * n_books + (side.shared ? 0 : m);
  return __half2float(static_cast<const __half*>(
      side.centroids)[((book << side.code_bits) + code) * side.dsub + i]);
}

__global__ void __launch_bounds__(kThreads) decode(DecodeParams p) {
  const int head = blockIdx.x, b = blockIdx.y, tid = threadIdx.x, d = p.head_dim;
  const int h = head / (p.n_q_heads / p.n_kv_heads);
  const int n_coded = p.kv_len[b], n_dense = p.dense_len ? p.dense_len[b] : 0;
  const quant::CodeLayout key_layout{d / p.key.dsub, p.key.code_bits},
      value_layout{d / p.value.dsub, p.value.code_bits};
  const std::int64_t dense =
      (static_cast<std::int64_t>(b) * p.n_kv_heads + h) * p.dense_capacity * d;
  __shared__ float q[kThreads], score[kThreads], reduce[kThreads];
  if (tid < d)
    q[tid] =
        load_element(p.q, (static_cast<std::int64_t>(b) * p.n_q_heads + head) * d + tid, p.dtype) *
        p.scale * 1.4426950408889634f;
  __syncthreads();
  float top = -INFINITY, sum = 0, acc = 0;
  for (int first = 0; first < n_coded + n_dense; first += kThreads) {
    const int t = first + tid;
    float s = -INFINITY;
    if (t < n_coded) {
      int local;
      const std::uint8_t* stream = stream_of(p, p.key, b, h, t, &local);
      s = 0;
      for (int m = 0; m < key_layout.n_books; ++m) {
        const unsigned code = quant::get_code(key_layout, stream, local, m);
        for (int i = 0; i < p.key.dsub; ++i)
          s += q[m * p.key.dsub + i] * centroid(p.key, d, h, m, code, i);
      }
    } else if (t < n_coded + n_dense) {
      s = 0;
      for (int i = 0; i < d; ++i)
        s += q[i] * load_element(p.dense_key,
                                 dense + static_cast<std::int64_t>(t - n_coded) * d + i, p.dtype);
    }
    reduce[tid] = s;
    __syncthreads();
    for (int step = kThreads / 2; step > 0; step /= 2) {
      if (tid < step) reduce[tid] = fmaxf(reduce[tid], reduce[tid + step]);
      __syncthreads();
    }
    const float next = fmaxf(top, reduce[0]), shrink = exp2f(top - next);
    score[tid] = exp2f(s - next);
    top = next;
    __syncthreads();
    sum *= shrink;
    acc *= shrink;
    const int count = min(kThreads, n_coded + n_dense - first);
    for (int i = 0; i < count; ++i) {
      sum += score[i];
      if (tid >= d) continue;
      float v;
      if (first + i < n_coded) {
        int local;
        const std::uint8_t* stream = stream_of(p, p.value, b, h, first + i, &local);
        const int m = tid / p.value.dsub;
        v = centroid(p.value, d, h, m, quant::get_code(value_layout, stream, local, m),
                     tid % p.value.dsub);
      } else {
        v = load_element(p.dense_value,
                         dense + static_cast<std::int64_t>(first + i - n_coded) * d + tid, p.dtype);
      }
      acc += score[i] * v;
    }
    __syncthreads();
  }
  const std::int64_t at = static_cast<std::int64_t>(b) * p.n_q_heads + head;
  if (tid < d) store_element(p.out, at * d + tid, p.dtype, sum > 0 ? acc / sum : 0.f);
  if (tid == 0 && p.lse) p.lse[at] = sum > 0 ? top + log2f(sum) : -INFINITY;
}

}  // namespace naive
}  // namespace vi::cuda
