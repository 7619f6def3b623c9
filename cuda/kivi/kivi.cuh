// Fused decode attention over 2-bit integers in KIVI's form (arXiv 2402.02750), split over tokens.
// Computes   o = softmax(q K^T scale) V over what the codes stand for; nothing is dequantised to
// memory Oracle     oracle.h     Test tests/cuda/kivi_test.cpp     Layout layout.h Launch     grid
// (splits, n_kv_heads * passes, batch), 8 warps, two CTAs a multiprocessor; a warp takes
//            every eighth block of 32 tokens, four blocks in flight by cp.async
// Traffic    24 head_dim bytes a block and KV head: 3 bits an element, half of it on either side
// Codes go to the tensor cores without becoming numbers first: a 2-bit field of a half whose other
// bits are cleared IS the subnormal half code * 4^j * 2^-24, so one AND makes two elements. Rows of
// a fragment differ in j, and rows are scaled at the end. Scales are folded into the other operand:
// q times the scale of a channel, p times the scale of a token and group. Minima are one more row
// of the product. Numerics   q, q * scale, p, p * scale halves (|q| * scale < 65504), sums f32
#pragma once

#include "cuda/common/element.cuh"
#include "cuda/common/mma.cuh"
#include "cuda/kivi/kivi.h"
#include "cuda/kivi/layout.h"

namespace vi::cuda::kivi {

constexpr int kWarps = 8, kThreads = kWarps * 32, kHeads = 8, kStages = 4;
constexpr unsigned kFull = 0xffffffffu;
constexpr float kSlack = 4.f, kLog2e = 1.4426950408889634f, kCodeUnit = 16777216.f;  // 2^24

__device__ __forceinline__ void copy16(unsigned shared, const void* global) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0],[%1],16;" ::"r"(shared), "l"(global)
               : "memory");
}
__device__ __forceinline__ uint4 lds128(unsigned address) {
  uint4 r;
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3},[%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "r"(address)
               : "memory");
  return r;
}
__device__ __forceinline__ unsigned multiply2(unsigned a, unsigned b) {
  unsigned r;
  asm("mul.rn.f16x2 %0,%1,%2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
__device__ __forceinline__ unsigned transpose8x8(unsigned v) {
  unsigned r;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0,%1;" : "=r"(r) : "r"(v));
  return r;
}
// 32 rows by 16 slots of codes times a fragment: rows g and g + 8, then g + 16 and g + 24.
__device__ __forceinline__ void multiply_codes(float (&low)[4], float (&high)[4], unsigned codes,
                                               unsigned b0, unsigned b1) {
  const unsigned far = codes >> 8;
  mma_f16(low, codes & 0x00030003u, codes & 0x000c000cu, far & 0x00030003u, far & 0x000c000cu, b0,
          b1);
  mma_f16(high, codes & 0x00300030u, codes & 0x00c000c0u, far & 0x00300030u, far & 0x00c000c0u, b0,
          b1);
}

template <int kHeadDim>
struct Shape {
  static constexpr int kSteps = kHeadDim / 16, kGroups = kHeadDim / 32;
  static constexpr int kRecord = 4 * record_words(kHeadDim);  // bytes
  static constexpr int kShared = kWarps * kStages * kRecord;
};

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, 2) decode(KiviParams p, int passes) {
  using S = Shape<kHeadDim>;
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ float2 stats[kWarps][kHeads];
  __shared__ int arrived;
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, g = lane >> 2, q = lane & 3;
  const int h = blockIdx.y / passes, first_head = blockIdx.y % passes * kHeads, b = blockIdx.z;
  const int group = p.n_q_heads / p.n_kv_heads, n_heads = min(kHeads, group - first_head);
  const int len = p.kv_len[b], n_blocks = (len + kBlock - 1) / kBlock;
  const std::int64_t q_row = static_cast<std::int64_t>(b) * p.n_q_heads + h * group + first_head;
  const auto* records = reinterpret_cast<const unsigned char*>(p.records) +
                        (static_cast<std::int64_t>(b) * p.n_kv_heads + h) * p.n_blocks *
                            static_cast<std::int64_t>(S::kRecord);
  const float scale = p.scale * kLog2e;

  const int per = (n_blocks + gridDim.x - 1) / gridDim.x;
  const int block1 = min(n_blocks, per * static_cast<int>(blockIdx.x + 1));
  int block = per * blockIdx.x + warp;
  const unsigned ring =
      static_cast<unsigned>(__cvta_generic_to_shared(memory)) + warp * kStages * S::kRecord;
  const auto fetch = [&](int which, int stage) {
    if (which < block1) {
      const unsigned char* from =
          records + static_cast<std::int64_t>(which) * S::kRecord + 16 * lane;
#pragma unroll
      for (int i = 0; i < S::kRecord / 512; ++i)
        copy16(ring + stage * S::kRecord + 512 * i + 16 * lane, from + 512 * i);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) fetch(block + i * kWarps, i);
  unsigned query[S::kSteps][2];  // B fragments: column g = head g
#pragma unroll
  for (int c = 0; c < S::kSteps; ++c)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::int64_t at = (q_row + g) * kHeadDim + 16 * c + 8 * i + 2 * q;
      query[c][i] = g < n_heads ? pack_half2_finite(load_element(p.q, at, p.dtype),
                                                    load_element(p.q, at + 1, p.dtype))
                                : 0u;
    }

  float acc[2 * S::kGroups][4] = {}, low_acc[2] = {};  // channels by heads; minima: groups by heads
  float top[2] = {-1e30f, -1e30f}, sum[2] = {0, 0};    // heads 2q, 2q + 1
  int stage = 0;
#pragma unroll 1
  for (; block < block1; block += kWarps, stage = (stage + 1) % kStages) {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory");
    __syncwarp();
    fetch(block + (kStages - 1) * kWarps, (stage + kStages - 1) % kStages);
    const unsigned record = ring + stage * S::kRecord, mine = record + 16 * lane,
                   quad = record + 16 * q;
    float s[2][4] = {},
          low[4] = {};  // tokens g + 8 j by heads 2q, 2q + 1; what minima give to each token
#pragma unroll
    for (int piece = 0; piece < S::kSteps / 4; ++piece) {
      const uint4 codes = lds128(mine + 512 * piece);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int c = 4 * piece + i;
        const uint4 half = lds128(quad + 4 * key_halves(kHeadDim) + 64 * c);
        multiply_codes(s[0], s[1], word_of(codes, i), multiply2(query[c][0], half.x),
                       multiply2(query[c][1], half.y));
        mma_f16(low, half.z, half.z, half.w, half.w, query[c][0], query[c][1]);
      }
    }
    float high[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int tile = 0; tile < 2; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int j = 2 * tile + i / 2;
        const float unit = scale * kCodeUnit / static_cast<float>(1 << 2 * j);
        s[tile][i] = fmaf(s[tile][i], unit, low[i & 1] * scale);
      }
    if (32 * block + 32 > len)
#pragma unroll
      for (int tile = 0; tile < 2; ++tile)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (32 * block + 16 * tile + 8 * (i / 2) + g >= len) s[tile][i] = -INFINITY;
#pragma unroll
    for (int tile = 0; tile < 2; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i) high[i & 1] = fmaxf(high[i & 1], s[tile][i]);
    if (__any_sync(kFull, high[0] > top[0] || high[1] > top[1])) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float next = high[e];
#pragma unroll
        for (int step = 4; step < 32; step *= 2)
          next = fmaxf(next, __shfl_xor_sync(kFull, next, step));
        next = next > top[e] ? next + kSlack : top[e];
        const float shrink = exp2_fast(top[e] - next);
        top[e] = next;
        sum[e] *= shrink;
        low_acc[e] *= shrink;
#pragma unroll
        for (int t = 0; t < 2 * S::kGroups; ++t) {
          acc[t][e] *= shrink;
          acc[t][e + 2] *= shrink;
        }
      }
    }
    unsigned weight[2][2];  // B fragments of 16 tokens each
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
      for (int i = 0; i < 4;
           ++i) {  // 2^8: far from subnormal halves, and scales up to 2^8 do not overflow
        s[tile][i] = exp2_fast(s[tile][i] - top[i & 1] + 8.f);
        sum[i & 1] += s[tile][i];
      }
      weight[tile][0] = transpose8x8(pack_half2(s[tile][0], s[tile][1]));
      weight[tile][1] = transpose8x8(pack_half2(s[tile][2], s[tile][3]));
    }
#pragma unroll
    for (int piece = 0; piece < S::kGroups / 2; ++piece) {
      const uint4 codes = lds128(mine + 4 * value_codes(kHeadDim) + 512 * piece);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int t = 2 * piece + i;
        const uint4 half = lds128(quad + 4 * value_halves(kHeadDim) + 64 * t);
        // Summed up outside the tensor cores: those cut sums off instead of rounding them, which
        // adds up over thousands of blocks, and codes and minima nearly cancel.
        float part[2][4] = {};
        multiply_codes(part[0], part[1], word_of(codes, 2 * i), multiply2(weight[0][0], half.x),
                       multiply2(weight[0][1], half.y));
        multiply_codes(part[0], part[1], word_of(codes, 2 * i + 1), multiply2(weight[1][0], half.z),
                       multiply2(weight[1][1], half.w));
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          acc[2 * t][e] += part[0][e];
          acc[2 * t + 1][e] += part[1][e];
        }
      }
    }
    const uint4 minima =  // row g is group g; further rows repeat them
        lds128(quad + 4 * value_halves(kHeadDim) + 2 * kHeadDim + 64 * (g % S::kGroups));
    float part[4] = {};
    mma_f16(part, minima.x, 0u, minima.y, 0u, weight[0][0], weight[0][1]);
    mma_f16(part, minima.z, 0u, minima.w, 0u, weight[1][0], weight[1][1]);
    low_acc[0] += part[0];
    low_acc[1] += part[1];
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncthreads();  // the ring becomes the warps' results

  auto* merge = reinterpret_cast<float*>(memory);  // [warp][head][head_dim]
#pragma unroll
  for (int e = 0; e < 2; ++e) {
#pragma unroll
    for (int step = 4; step < 32; step *= 2) sum[e] += __shfl_xor_sync(kFull, sum[e], step);
    if (g == 0) stats[warp][2 * q + e] = make_float2(top[e], sum[e]);
    float* row = merge + (warp * kHeads + 2 * q + e) * kHeadDim;
#pragma unroll
    for (int t = 0; t < S::kGroups; ++t) {
      const float low = __shfl_sync(kFull, low_acc[e], 4 * t + q);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        row[32 * t + 8 * j + g] = fmaf(acc[2 * t + j / 2][2 * (j % 2) + e],
                                       kCodeUnit / static_cast<float>(1 << 2 * j), low);
    }
  }
  __syncthreads();
  const int n_items = gridDim.y * gridDim.z, item = blockIdx.z * gridDim.y + blockIdx.y,
            splits = gridDim.x;
  auto* arrivals = static_cast<int*>(p.workspace);
  float* parts = static_cast<float*>(p.workspace) + n_items;
  for (int i = tid; i < n_heads * kHeadDim; i += kThreads) {
    const int head = i / kHeadDim, dim = i % kHeadDim;
    float m = -1e30f, o = 0, l = 0;
    for (int w = 0; w < kWarps; ++w) m = fmaxf(m, stats[w][head].x);
    for (int w = 0; w < kWarps; ++w) {
      const float r = exp2_fast(stats[w][head].x - m);
      l += r * stats[w][head].y;
      o += r * merge[(w * kHeads + head) * kHeadDim + dim];
    }
    o = l > 0 ? o / l : 0.f;
    if (splits == 1) {
      store_element(p.out, (q_row + head) * kHeadDim + dim, p.dtype, o);
      continue;
    }
    float* part = parts + ((q_row + head) * splits + blockIdx.x) * (kHeadDim + 1);
    part[dim] = o;
    if (dim == 0) part[kHeadDim] = l > 0 ? m + log2f(l) : -INFINITY;
  }
  if (splits == 1) return;
  // The last split of an item puts all together; it also leaves the counter as it was.
  __threadfence();
  __syncthreads();
  if (tid == 0) arrived = atomicAdd(&arrivals[item], 1);
  __syncthreads();
  if (arrived != splits - 1) return;
  if (tid == 0) arrivals[item] = 0;
  __threadfence();
  for (int i = tid; i < n_heads * kHeadDim; i += kThreads) {
    const int head = i / kHeadDim, dim = i % kHeadDim;
    const float* part = parts + (q_row + head) * splits * (kHeadDim + 1);
    float m = -INFINITY, o = 0, l = 0;
    for (int k = 0; k < splits; ++k) m = fmaxf(m, __ldcg(part + k * (kHeadDim + 1) + kHeadDim));
    for (int k = 0; k < splits && m > -INFINITY; ++k) {
      const float r = exp2_fast(__ldcg(part + k * (kHeadDim + 1) + kHeadDim) - m);
      l += r;
      o += r * __ldcg(part + k * (kHeadDim + 1) + dim);
    }
    store_element(p.out, (q_row + head) * kHeadDim + dim, p.dtype, l > 0 ? o / l : 0.f);
  }
}

}  // namespace vi::cuda::kivi
