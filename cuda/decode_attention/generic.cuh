// generic: one decode step of attention over codes that no fast kernel serves. Slower than the
// dense baseline for most of them, and named so in supported_list(): centroids come from L2.
// Computes   o = softmax(q K^T * scale) V over coded tokens, then exact ones; lse in log2
// Oracle     oracle.h      Test tests/cuda/decode_attention_test.cpp
// Shapes     any dsub, 1..16 bits, head_dim <= 256, GQA 1..16 in one pass, both scopes, paged or
// not Launch     grid (splits, n_kv_heads, batch), 256 threads, then combine; sm_80 and later
// Traffic    codes once for the whole group; n_books entries a side and token from L1 or L2
// Numerics   decoded rows f16 (exact: centroids are), everything else f32
// Design     tiles of 32 tokens are decoded into shared memory by all threads; scores: lane =
// token,
//            warps over heads and slices of head_dim; output: thread = dim, slices over tokens. All
//            sums in fixed order.
#pragma once

#include "core/quant/code_layout.h"
#include "cuda/common/element.cuh"
#include "cuda/decode_attention/params.h"

namespace vi::cuda::generic {

constexpr int kThreads = 256, kWarps = 8, kTile = 32, kMaxHeads = 16, kMaxDim = 256;
constexpr int kPitch = kMaxDim + 2;  // halves: rows start one bank apart

struct Args {
  DecodeParams p;
  int splits;
  float* partial;  // [batch, n_q_heads, splits, head_dim + 1]: o, lse
};

// Rows [first, first + kTile) of one side, coded then exact, as halves.
__device__ inline void decode_tile(const DecodeParams& p, const CodedSide& side, const void* exact,
                                   int b, int h, int first, int n_coded, int n_all,
                                   __half (*rows)[kPitch]) {
  const int d = p.head_dim, n_books = d / side.dsub, tid = threadIdx.x;
  const quant::CodeLayout layout{n_books, side.code_bits};
  const auto* books = static_cast<const __half*>(side.centroids);
  for (int i = tid; i < kTile * n_books; i += kThreads) {
    const int m = i / kTile, t = i % kTile, token = first + t;
    __half* to = rows[t] + m * side.dsub;
    if (token < n_coded) {
      const std::uint8_t* stream = side.codes + h * side.head_stride;
      int local = token;
      if (p.block_table) {
        const std::int64_t page =
            p.block_table[static_cast<std::int64_t>(b) * p.max_pages + token / p.page_tokens];
        stream += page * side.outer_stride;
        local = token % p.page_tokens;
      } else {
        stream += b * side.outer_stride;
      }
      const std::int64_t book = side.shared ? h : static_cast<std::int64_t>(h) * n_books + m;
      const std::int64_t at =
          ((book << side.code_bits) + quant::get_code(layout, stream, local, m)) * side.dsub;
      if (side.dsub % 2 == 0) {
        for (int e = 0; e < side.dsub; e += 2)
          *reinterpret_cast<__half2*>(to + e) =
              __ldg(reinterpret_cast<const __half2*>(books + at + e));
      } else {
        for (int e = 0; e < side.dsub; ++e) to[e] = __ldg(books + at + e);
      }
    } else {
      const std::int64_t row =
          ((static_cast<std::int64_t>(b) * p.n_kv_heads + h) * p.dense_capacity + token - n_coded) *
          d;
      for (int e = 0; e < side.dsub; ++e)
        to[e] = token < n_all
                    ? __float2half_rn(load_element(exact, row + m * side.dsub + e, p.dtype))
                    : __half(0.f);
    }
  }
}

__global__ void __launch_bounds__(kThreads) decode(const __grid_constant__ Args args) {
  const DecodeParams& p = args.p;
  __shared__ __align__(8) __half rows[kTile][kPitch];
  __shared__ float query[kMaxHeads][kMaxDim];
  __shared__ float part[kMaxHeads > 8 ? 16 : 8][kTile];  // [slice * heads + head][token]
  __shared__ float prob[kMaxHeads][kTile];
  __shared__ float shrink[kMaxHeads], sums[kMaxHeads], tops[kMaxHeads];
  const int split = blockIdx.x, h = blockIdx.y, b = blockIdx.z, tid = threadIdx.x;
  const int lane = tid & 31, warp = tid >> 5, d = p.head_dim, group = p.n_q_heads / p.n_kv_heads;
  const int n_coded = p.kv_len[b], n_all = n_coded + (p.dense_len ? p.dense_len[b] : 0);
  const std::int64_t q_row = static_cast<std::int64_t>(b) * p.n_q_heads + h * group;
  for (int i = tid; i < group * d; i += kThreads)
    query[i / d][i % d] = load_element(p.q, q_row * d + i, p.dtype) * p.scale * 1.4426950408889634f;
  const int n_tiles = (n_all + kTile - 1) / kTile, per = (n_tiles + args.splits - 1) / args.splits;
  const int tile1 = min(n_tiles, per * (split + 1));
  // Score slices: warps beyond the heads share a head's dims.
  const int slices = group <= 1 ? 8 : group <= 2 ? 4 : group <= 4 ? 2 : 1;
  const int pairs = d / 2, slice_pairs = (pairs + slices - 1) / slices;
  // Output slices: threads beyond head_dim take other tokens.
  const int out_slices = kThreads / d, dim = tid % d, out_slice = tid / d;
  float acc[kMaxHeads];
#pragma unroll
  for (int i = 0; i < kMaxHeads; ++i) acc[i] = 0;
  float top = -INFINITY, sum = 0;  // of head `warp` and, in slot 1, head warp + 8: see below
  float top1 = -INFINITY, sum1 = 0;
  __syncthreads();

  for (int tile = per * split; tile < tile1; ++tile) {
    const int first = tile * kTile;
    decode_tile(p, p.key, p.dense_key, b, h, first, n_coded, n_all, rows);
    __syncthreads();
    for (int job = warp; job < group * slices; job += kWarps) {
      const int head = job % group, slice = job / group;
      const int from = slice * slice_pairs, to = min(pairs, from + slice_pairs);
      float s = 0;
      for (int i = from; i < to; ++i) {
        const float2 k = __half22float2(*reinterpret_cast<const __half2*>(&rows[lane][2 * i]));
        s += query[head][2 * i] * k.x + query[head][2 * i + 1] * k.y;
      }
      if (d % 2 && slice == slices - 1) s += query[head][d - 1] * __half2float(rows[lane][d - 1]);
      part[job][lane] = s;
    }
    __syncthreads();
    for (int head = warp; head < group; head += kWarps) {
      float s = 0;
      for (int slice = 0; slice < slices; ++slice) s += part[slice * group + head][lane];
      if (first + lane >= n_all) s = -INFINITY;
      float high = s;
#pragma unroll
      for (int step = 16; step > 0; step /= 2)
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, step));
      float& t = head < kWarps ? top : top1;
      float& l = head < kWarps ? sum : sum1;
      const float next = fmaxf(t, high), w = exp2f(s - next), r = exp2f(t - next);
      float total = w;
#pragma unroll
      for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
      t = next;
      l = l * r + total;
      prob[head][lane] = w;
      if (lane == 0) shrink[head] = r;
    }
    __syncthreads();  // also: all scores are made, the rows may go
    decode_tile(p, p.value, p.dense_value, b, h, first, n_coded, n_all, rows);
    __syncthreads();
    if (out_slice < out_slices) {
#pragma unroll
      for (int head = 0; head < kMaxHeads; ++head)
        if (head < group) acc[head] *= shrink[head];
      for (int t = out_slice; t < kTile; t += out_slices) {
        const float v = __half2float(rows[t][dim]);
#pragma unroll
        for (int head = 0; head < kMaxHeads; ++head)
          if (head < group) acc[head] += prob[head][t] * v;
      }
    }
    __syncthreads();
  }

  if (lane == 0) {
    if (warp < group) {
      sums[warp] = sum;
      tops[warp] = top;
    }
    if (warp + kWarps < group) {
      sums[warp + kWarps] = sum1;
      tops[warp + kWarps] = top1;
    }
  }
  // Slices of the output through the rows' memory, in order.
  float* slice_o = reinterpret_cast<float*>(rows);  // [out_slices][d], d * out_slices <= 256
  for (int head = 0; head < group; ++head) {
    __syncthreads();
    float mine = 0;
#pragma unroll
    for (int i = 0; i < kMaxHeads; ++i)
      if (i == head) mine = acc[i];
    if (out_slice < out_slices) slice_o[tid] = mine;
    __syncthreads();
    if (tid < d) {
      float o = 0;
      for (int s = 0; s < out_slices; ++s) o += slice_o[s * d + tid];
      float* to = args.partial + ((q_row + head) * args.splits + split) * (d + 1);
      to[tid] = sums[head] > 0 ? o / sums[head] : 0.f;
      if (tid == 0) to[d] = sums[head] > 0 ? tops[head] + log2f(sums[head]) : -INFINITY;
    }
  }
}

__global__ void combine(const __grid_constant__ Args args) {
  const DecodeParams& p = args.p;
  const std::int64_t row = blockIdx.x;
  const int d = p.head_dim, stride = d + 1;
  const float* parts = args.partial + row * args.splits * stride;
  float top = -INFINITY, o = 0, l = 0;
  for (int k = 0; k < args.splits; ++k) top = fmaxf(top, parts[k * stride + d]);
  if (top > -INFINITY)
    for (int k = 0; k < args.splits; ++k) {
      const float r = exp2f(parts[k * stride + d] - top);
      l += r;
      o += r * parts[k * stride + threadIdx.x];
    }
  store_element(p.out, row * d + threadIdx.x, p.dtype, l > 0 ? o / l : 0.f);
  if (threadIdx.x == 0 && p.lse) p.lse[row] = l > 0 ? top + log2f(l) : -INFINITY;
}

}  // namespace vi::cuda::generic
