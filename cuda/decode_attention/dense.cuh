// dense: the same decode step over exact f16/bf16 K and V: our own fair baseline beside the coded
// kernels. Computes   o = softmax(q K^T * scale) V, split over tokens, combined by log-sum-exp
// Oracle     oracle.h: oracle_dense     Test tests/cuda/decode_attention_test.cpp
// Shapes     head_dim 64|128, GQA group 1..16 in passes of eight heads
// Launch     grid (splits, n_kv_heads * passes, batch), 8 warps; a warp takes runs of 16 tokens
// Traffic    4 * head_dim bytes a token and KV head, straight from global memory to mma fragments,
// 16 bytes a lane Numerics   q, K, V, p in the cache's dtype, sums f32; p shifted up as in
// lookup.cuh
#pragma once

#include "cuda/common/element.cuh"
#include "cuda/common/mma.cuh"
#include "cuda/decode_attention/launch.h"

namespace vi::cuda::dense {

constexpr int kWarps = 8, kThreads = kWarps * 32, kHeads = 8;
constexpr unsigned kFull = 0xffffffffu;
constexpr float kSlack = 4.f, kLog2e = 1.4426950408889634f;

template <bool kBf16>
__device__ __forceinline__ void mma(float (&c)[4], unsigned a0, unsigned a1, unsigned a2,
                                    unsigned a3, unsigned b0, unsigned b1) {
  if constexpr (kBf16)
    mma_bf16(c, a0, a1, a2, a3, b0, b1);
  else
    mma_f16(c, a0, a1, a2, a3, b0, b1);
}
template <bool kBf16>
__device__ __forceinline__ unsigned pack(float low, float high) {
  if constexpr (kBf16) {
    const __nv_bfloat162 h = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const unsigned*>(&h);
  }
  return pack_half2(low, high);
}
__device__ __forceinline__ unsigned transpose8x8(unsigned v) {
  unsigned r;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0,%1;" : "=r"(r) : "r"(v));
  return r;
}

// Dims in mma order: a lane's 16 bytes are eight dims 32 c + 8 q of one row, two k-steps of a
// fragment.
template <int kHeadDim, bool kBf16>
__global__ void __launch_bounds__(kThreads) decode(DenseParams p, int passes) {
  constexpr int kChunks = kHeadDim / 32;  // 16-byte pieces of a key row a lane holds
  constexpr int kTiles = kHeadDim / 16;   // value mma tiles: dims 8 g + 2 e, + 1 (e < 4), then + 64
  __shared__ float merge[kWarps][kHeads][kHeadDim];
  __shared__ float2 stats[kWarps][kHeads];
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, g = lane >> 2, q = lane & 3;
  const int h = blockIdx.y / passes, first_head = blockIdx.y % passes * kHeads, b = blockIdx.z;
  const int group = p.n_q_heads / p.n_kv_heads, n_heads = min(kHeads, group - first_head),
            len = p.kv_len[b];
  const std::int64_t q_row = static_cast<std::int64_t>(b) * p.n_q_heads + h * group + first_head;
  const std::int64_t rows = (static_cast<std::int64_t>(b) * p.n_kv_heads + h) * p.capacity;
  const auto* key = static_cast<const std::uint16_t*>(p.key) + rows * kHeadDim;
  const auto* value = static_cast<const std::uint16_t*>(p.value) + rows * kHeadDim;
  const float scale = p.scale * kLog2e;

  unsigned query[kChunks][4];  // B fragments: column g = head g
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::int64_t at = (q_row + g) * kHeadDim + 32 * c + 8 * q + 2 * i;
      query[c][i] =
          g < n_heads
              ? *reinterpret_cast<const unsigned*>(static_cast<const std::uint16_t*>(p.q) + at)
              : 0u;
    }
  const int n_tiles = (len + 15) / 16, per = (n_tiles + gridDim.x - 1) / gridDim.x;
  const int tile1 = min(n_tiles, per * static_cast<int>(blockIdx.x + 1));
  float acc[kTiles][4] = {};
  float top[2] = {-1e30f, -1e30f}, sum[2] = {0, 0};  // heads 2q, 2q + 1
  const auto key_of = [&](int tile, int half, int c) {
    return load_stream(
        key + static_cast<std::int64_t>(min(16 * tile + 8 * half + g, len - 1)) * kHeadDim +
        32 * c + 8 * q);
  };
  const auto value_of = [&](int tile, int t, int half) {  // tokens 2q, 2q+1, 2q+8, 2q+9
    const int token = 16 * tile + 2 * q + (t & 1) + (t >> 1) * 8;
    return load_stream(value + static_cast<std::int64_t>(min(token, len - 1)) * kHeadDim + 8 * g +
                       64 * half);
  };
  int tile = per * blockIdx.x + warp;
  uint4 k[2][kChunks];
  if (tile < tile1)
#pragma unroll
    for (int c = 0; c < kChunks; ++c)
      for (int half = 0; half < 2; ++half) k[half][c] = key_of(tile, half, c);
#pragma unroll 1
  for (; tile < tile1; tile += kWarps) {
    uint4 v[4][kHeadDim / 64];
#pragma unroll
    for (int t = 0; t < 4; ++t)
#pragma unroll
      for (int half = 0; half < kHeadDim / 64; ++half) v[t][half] = value_of(tile, t, half);
    float s[4] = {0, 0, 0, 0};  // tokens g, g + 8 by heads 2q, 2q + 1
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      mma<kBf16>(s, k[0][c].x, k[1][c].x, k[0][c].y, k[1][c].y, query[c][0], query[c][1]);
      mma<kBf16>(s, k[0][c].z, k[1][c].z, k[0][c].w, k[1][c].w, query[c][2], query[c][3]);
    }
    if (tile + kWarps < tile1)
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
#pragma unroll
        for (int half = 0; half < 2; ++half) k[half][c] = key_of(tile + kWarps, half, c);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      s[i] = 16 * tile + g + (i >> 1) * 8 < len ? s[i] * scale : -INFINITY;
    const float high0 = fmaxf(s[0], s[2]), high1 = fmaxf(s[1], s[3]);
    if (__any_sync(kFull, high0 > top[0] || high1 > top[1])) {
      float next[2] = {high0, high1};
#pragma unroll
      for (int e = 0; e < 2; ++e) {
#pragma unroll
        for (int step = 4; step < 32; step *= 2)
          next[e] = fmaxf(next[e], __shfl_xor_sync(kFull, next[e], step));
        next[e] = next[e] > top[e] ? next[e] + kSlack : top[e];
        const float shrink = exp2_fast(top[e] - next[e]);
        top[e] = next[e];
        sum[e] *= shrink;
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          acc[t][e] *= shrink;
          acc[t][e + 2] *= shrink;
        }
      }
    }
    float w[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      w[i] = exp2_fast(s[i] - top[i & 1] + (kBf16 ? 0.f : 14.f));
      sum[i & 1] += w[i];
    }
    const unsigned b0 = transpose8x8(pack<kBf16>(w[0], w[1])),
                   b1 = transpose8x8(pack<kBf16>(w[2], w[3]));
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const int half = t / 4, e = t % 4;
      const unsigned x0 = word_of(v[0][half], e), x1 = word_of(v[1][half], e),
                     x2 = word_of(v[2][half], e), x3 = word_of(v[3][half], e);
      mma<kBf16>(acc[t], __byte_perm(x0, x1, 0x5410), __byte_perm(x0, x1, 0x7632),
                 __byte_perm(x2, x3, 0x5410), __byte_perm(x2, x3, 0x7632), b0, b1);
    }
  }
#pragma unroll
  for (int e = 0; e < 2; ++e) {
#pragma unroll
    for (int step = 4; step < 32; step *= 2) sum[e] += __shfl_xor_sync(kFull, sum[e], step);
    if (g == 0) stats[warp][2 * q + e] = make_float2(top[e], sum[e]);
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int row = 0; row < 2; ++row)
        merge[warp][2 * q + e][8 * g + 64 * (t / 4) + 2 * (t % 4) + row] = acc[t][2 * row + e];
  }
  __syncthreads();
  for (int i = tid; i < n_heads * kHeadDim; i += kThreads) {
    const int head = i / kHeadDim, dim = i % kHeadDim;
    float m = -1e30f, o = 0, l = 0;
    for (int w = 0; w < kWarps; ++w) m = fmaxf(m, stats[w][head].x);
    for (int w = 0; w < kWarps; ++w) {
      const float r = exp2_fast(stats[w][head].x - m);
      l += r * stats[w][head].y;
      o += r * merge[w][head][dim];
    }
    const std::int64_t slot = (q_row + head) * gridDim.x + blockIdx.x;
    p.workspace[slot * (kHeadDim + 1) + dim] = l > 0 ? o / l : 0.f;
    if (dim == 0) p.workspace[slot * (kHeadDim + 1) + kHeadDim] = l > 0 ? m + log2f(l) : -INFINITY;
  }
}

__global__ void combine(DenseParams p, int splits) {
  const std::int64_t row = blockIdx.x;
  const float* parts = p.workspace + row * splits * (p.head_dim + 1);
  float top = -INFINITY, o = 0, l = 0;
  for (int k = 0; k < splits; ++k) top = fmaxf(top, parts[k * (p.head_dim + 1) + p.head_dim]);
  if (top > -INFINITY)
    for (int k = 0; k < splits; ++k) {
      const float r = exp2_fast(parts[k * (p.head_dim + 1) + p.head_dim] - top);
      l += r;
      o += r * parts[k * (p.head_dim + 1) + threadIdx.x];
    }
  store_element(p.out, row * p.head_dim + threadIdx.x, p.dtype, l > 0 ? o / l : 0.f);
}

}  // namespace vi::cuda::dense
