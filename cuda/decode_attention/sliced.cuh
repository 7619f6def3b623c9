// sliced: one decode step of attention over codes whose books are wider than a multiprocessor's shared memory, cut
// into slices of sub-spaces. Three launches: scores (a slice of the keys' sub-spaces each), values (a slice of the
// values' each, softmax on the way), generic::combine over the splits.
// Computes   o = softmax(q K^T * scale) V over coded tokens, then exact ones; lse in log2
// Oracle     oracle.h      Test tests/cuda/decode_attention_test.cpp
// Shapes     dsub 2, 4, 8; 8, 10, 12 bits; head_dim <= 256; passes of four query heads; both scopes, paged or not
// Launch     one-dimensional grids of items x slices x splits; 227 KiB a CTA (sm_90, sm_100)
// Traffic    codes once for a pass; 16 bytes of scores a token, pass and key slice written, and read by each value slice
// Numerics   entries of the score table f16 (the mean key's score taken out), scores, probabilities and sums f32
// Design     scores: lane = (four tokens, every fourth sub-space), look-ups in a table [sub-space][code][head];
//            values: lane = (block of 16 tokens, sub-space), centroids [code][sub-space], so a warp's look-up meets
//            few bank conflicts; sums stay in the lane. All sums in fixed order.
#pragma once

#include <algorithm>

#include "core/quant/code_layout.h"
#include "cuda/common/element.cuh"
#include "cuda/decode_attention/params.h"
#include "cuda/decode_attention/sliced_plan.h"

namespace vi::cuda::sliced {

constexpr int kScoreThreads = 1024, kUnit = 32;  // a unit: tokens a warp of `scores` takes at once
constexpr int kValueWarps = kSlicedValueWarps, kValueThreads = 32 * kValueWarps;
constexpr float kLog2e = 1.4426950408889634f;

struct Args {
  DecodeParams p;
  SlicedPlan plan;
  float4* scores;  // [items, key_slices, slots]: four heads
  float* partial;  // [batch, n_q_heads, splits, head_dim + 1]: o, lse
};

// What a CTA works on: blockIdx.x = ((b * n_kv_heads + h) * passes + pass) * slices * splits + slice * splits + split.
struct Item {
  int b, h, pass, slice, split, n_coded, n_all;
  std::int64_t index;
  __device__ Item(const Args& args, int slices, int splits) {
    const DecodeParams& p = args.p;
    int at = blockIdx.x;
    split = at % splits, at /= splits;
    slice = at % slices, at /= slices;
    index = at;
    pass = at % args.plan.passes, at /= args.plan.passes;
    h = at % p.n_kv_heads, b = at / p.n_kv_heads;
    n_coded = p.kv_len[b];
    n_all = n_coded + (p.dense_len ? p.dense_len[b] : 0);
  }
  __device__ int heads(const DecodeParams& p) const {  // of this pass
    return min(kSlicedHeads, p.n_q_heads / p.n_kv_heads - pass * kSlicedHeads);
  }
  __device__ std::int64_t q_row(const DecodeParams& p) const {
    return static_cast<std::int64_t>(b) * p.n_q_heads + h * (p.n_q_heads / p.n_kv_heads) + pass * kSlicedHeads;
  }
};

// The 16 codes' block of `side` that holds token 16 * block of the item's stream.
__device__ inline const std::uint8_t* block_at(const DecodeParams& p, const CodedSide& side, const Item& item, int block,
                                               int block_bytes) {
  const std::uint8_t* stream = side.codes + item.h * side.head_stride;
  if (!p.block_table) return stream + item.b * side.outer_stride + static_cast<std::int64_t>(block) * block_bytes;
  const int per_page = p.page_tokens / quant::kBlockTokens;
  const std::int64_t page = p.block_table[static_cast<std::int64_t>(item.b) * p.max_pages + block / per_page];
  return stream + page * side.outer_stride + static_cast<std::int64_t>(block % per_page) * block_bytes;
}

__device__ inline const __half* book_at(const DecodeParams& p, const CodedSide& side, int h, int m) {
  const std::int64_t book = side.shared ? h : static_cast<std::int64_t>(h) * (p.head_dim / side.dsub) + m;
  return static_cast<const __half*>(side.centroids) + ((book << side.code_bits) * side.dsub);
}

// Table of the slice: [sub-space][code] four heads' q . (centroid - mean), in log2 units.
__device__ inline void fill_table(const Args& args, const Item& item, const float (*query)[256], __half2* table, int m0, int books) {
  const DecodeParams& p = args.p;
  const int ds = p.key.dsub, ksub = 1 << p.key.code_bits;
  for (int i = threadIdx.x; i < books * ksub; i += kScoreThreads) {
    const int m = m0 + (i >> p.key.code_bits), c = i & (ksub - 1);
    const __half2* centroid = reinterpret_cast<const __half2*>(book_at(p, p.key, item.h, m) + c * ds);
    float s[kSlicedHeads] = {};
    for (int e = 0; e < ds; e += 2) {
      float2 x = __half22float2(centroid[e / 2]);
      const int d = m * ds + e;
      if (p.key.mean) {
        x.x -= p.key.mean[item.h * p.head_dim + d];
        x.y -= p.key.mean[item.h * p.head_dim + d + 1];
      }
#pragma unroll
      for (int head = 0; head < kSlicedHeads; ++head) s[head] += query[head][d] * x.x + query[head][d + 1] * x.y;
    }
    table[2 * i] = __floats2half2_rn(s[0], s[1]);
    table[2 * i + 1] = __floats2half2_rn(s[2], s[3]);
  }
}

__device__ inline void load_query(const DecodeParams& p, const Item& item, float (*query)[256]) {
  const int heads = item.heads(p), d = p.head_dim;
  for (int i = threadIdx.x; i < kSlicedHeads * d; i += blockDim.x) {
    const int head = i / d, e = i % d;
    query[head][e] = head < heads ? load_element(p.q, (item.q_row(p) + head) * d + e, p.dtype) * p.scale * kLog2e : 0.f;
  }
}

// kHigh: code bits beyond eight.
template <int kHigh>
__global__ void __launch_bounds__(kScoreThreads) scores(const __grid_constant__ Args args) {
  const DecodeParams& p = args.p;
  const SlicedPlan& plan = args.plan;
  extern __shared__ __align__(16) unsigned char shared[];
  auto* query = reinterpret_cast<float(*)[256]>(shared);
  auto* table = reinterpret_cast<__half2*>(shared + kSlicedQueryBytes);
  const Item item(args, plan.key_slices, plan.score_splits);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = kScoreThreads / 32;
  const int units = (item.n_coded + kUnit - 1) / kUnit, per = (units + plan.score_splits - 1) / plan.score_splits;
  const int unit0 = per * item.split, unit1 = min(units, unit0 + per);
  const int n_exact = item.slice == 0 && item.split == plan.score_splits - 1 ? item.n_all - item.n_coded : 0;
  if (unit0 >= unit1 && n_exact == 0) return;
  load_query(p, item, query);
  __syncthreads();
  const int m0 = item.slice * plan.key_books, n_books = p.head_dim / p.key.dsub, books = min(plan.key_books, n_books - m0);
  float4* out = args.scores + (item.index * plan.key_slices + item.slice) * plan.slots;
  if (unit0 < unit1) fill_table(args, item, query, table, m0, books);
  __syncthreads();

  // A lane: tokens 4 quad .. 4 quad + 3 of the unit, sub-spaces m0 + first, + 4, ...
  const int quad = lane & 7, first = lane >> 3, in_block = quad & 3;
  const int block_bytes = n_books * 2 * (8 + kHigh), last_block = (item.n_coded - 1) / quant::kBlockTokens;
  for (int unit = unit0 + warp; unit < unit1; unit += n_warps) {
    const int block = min(2 * unit + (quad >> 2), last_block);
    const std::uint8_t* codes = block_at(p, p.key, item, block, block_bytes);
    float acc[4][kSlicedHeads] = {};
#pragma unroll 4
    for (int i = first; i < books; i += 4) {
      const int m = m0 + i;
      const std::uint32_t low = *reinterpret_cast<const std::uint32_t*>(codes + m * 16 + 4 * in_block);
      std::uint32_t high = 0;
      if constexpr (kHigh == 2) high = codes[n_books * 16 + m * 4 + in_block];
      if constexpr (kHigh == 4) high = *reinterpret_cast<const std::uint16_t*>(codes + n_books * 16 + m * 8 + 2 * in_block);
      const uint2* entries = reinterpret_cast<const uint2*>(table) + (i << (8 + kHigh));
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        std::uint32_t c = low >> 8 * t & 0xffu;
        if constexpr (kHigh > 0) c |= (high >> kHigh * t & ((1u << kHigh) - 1)) << 8;
        const uint2 entry = entries[c];
        const float2 a = __half22float2(reinterpret_cast<const __half2&>(entry.x)), b = __half22float2(reinterpret_cast<const __half2&>(entry.y));
        acc[t][0] += a.x, acc[t][1] += a.y, acc[t][2] += b.x, acc[t][3] += b.y;
      }
    }
    // The four lanes of a quad of tokens: lane `first` keeps token `first`.
    float pair[2][kSlicedHeads], one[kSlicedHeads];
    const bool upper = first & 2, odd = first & 1;
#pragma unroll
    for (int t = 0; t < 2; ++t)
#pragma unroll
      for (int head = 0; head < kSlicedHeads; ++head) {
        const float give = upper ? acc[t][head] : acc[t + 2][head];
        pair[t][head] = (upper ? acc[t + 2][head] : acc[t][head]) + __shfl_xor_sync(0xffffffffu, give, 16);
      }
#pragma unroll
    for (int head = 0; head < kSlicedHeads; ++head) {
      const float give = odd ? pair[0][head] : pair[1][head];
      one[head] = (odd ? pair[1][head] : pair[0][head]) + __shfl_xor_sync(0xffffffffu, give, 8);
    }
    out[unit * kUnit + 4 * quad + first] = make_float4(one[0], one[1], one[2], one[3]);
  }

  // Exact tokens: a warp each.
  for (int t = warp; t < n_exact; t += n_warps) {
    const std::int64_t row = ((static_cast<std::int64_t>(item.b) * p.n_kv_heads + item.h) * p.dense_capacity + t) * p.head_dim;
    float s[kSlicedHeads] = {};
    for (int e = lane; e < p.head_dim; e += 32) {
      const float k = load_element(p.dense_key, row + e, p.dtype);
#pragma unroll
      for (int head = 0; head < kSlicedHeads; ++head) s[head] += query[head][e] * k;
    }
#pragma unroll
    for (int head = 0; head < kSlicedHeads; ++head)
#pragma unroll
      for (int step = 16; step > 0; step /= 2) s[head] += __shfl_xor_sync(0xffffffffu, s[head], step);
    if (lane == 0) out[plan.exact_slot + t] = make_float4(s[0], s[1], s[2], s[3]);
  }
}

// Running softmax of one warp: four heads. `sum` is of this lane's tokens.
struct Softmax {
  float top[kSlicedHeads], sum[kSlicedHeads];
};

// Probabilities of `count` tokens at slot `first` (key slices summed, `lift` added) into prob[0..n); those from
// `count` on are zero. True if `shrink` of old sums is not one for all heads.
__device__ inline bool probabilities(const Args& args, const Item& item, int first, int count, int n, const float (&lift)[kSlicedHeads],
                                     float4* prob, Softmax& soft, float (&shrink)[kSlicedHeads]) {
  const SlicedPlan& plan = args.plan;
  const int lane = threadIdx.x & 31;
  const float4* from = args.scores + item.index * plan.key_slices * plan.slots + first;
  const bool coded = first < plan.exact_slot;
  const int slices = coded ? plan.key_slices : 1;
  float high[kSlicedHeads];
#pragma unroll
  for (int head = 0; head < kSlicedHeads; ++head) high[head] = -INFINITY;
  for (int t = lane; t < n; t += 32) {
    float4 s = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
    if (t < count) {
      s = from[t];
      for (int k = 1; k < slices; ++k) {
        const float4 more = from[k * plan.slots + t];
        s.x += more.x, s.y += more.y, s.z += more.z, s.w += more.w;
      }
      if (coded) s.x += lift[0], s.y += lift[1], s.z += lift[2], s.w += lift[3];
    }
    prob[t] = s;
    high[0] = fmaxf(high[0], s.x), high[1] = fmaxf(high[1], s.y), high[2] = fmaxf(high[2], s.z), high[3] = fmaxf(high[3], s.w);
  }
  bool changed = false;
#pragma unroll
  for (int head = 0; head < kSlicedHeads; ++head) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) high[head] = fmaxf(high[head], __shfl_xor_sync(0xffffffffu, high[head], step));
    const float next = fmaxf(soft.top[head], high[head]);
    shrink[head] = exp2f(soft.top[head] - next);
    changed |= next > soft.top[head];
    soft.top[head] = next;
    soft.sum[head] *= shrink[head];
  }
  for (int t = lane; t < n; t += 32) {
    float4 s = prob[t];
    s.x = exp2f(s.x - soft.top[0]), s.y = exp2f(s.y - soft.top[1]), s.z = exp2f(s.z - soft.top[2]), s.w = exp2f(s.w - soft.top[3]);
    soft.sum[0] += s.x, soft.sum[1] += s.y, soft.sum[2] += s.z, soft.sum[3] += s.w;
    prob[t] = s;
  }
  __syncwarp();
  return changed;
}

template <int kDsub>
__device__ inline void add(float (&acc)[kSlicedHeads][kDsub], const float4& w, const float (&v)[kDsub]) {
#pragma unroll
  for (int e = 0; e < kDsub; ++e) {
    acc[0][e] += w.x * v[e];
    acc[1][e] += w.y * v[e];
    acc[2][e] += w.z * v[e];
    acc[3][e] += w.w * v[e];
  }
}

template <int kDsub, int kHigh>
__global__ void __launch_bounds__(kValueThreads) values(const __grid_constant__ Args args) {
  const DecodeParams& p = args.p;
  const SlicedPlan& plan = args.plan;
  constexpr int kBits = 8 + kHigh, kWords = kDsub / 2;
  extern __shared__ __align__(16) unsigned char shared[];
  const int books = plan.value_books, groups = 32 / books;  // books: a power of two
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  auto* book = reinterpret_cast<std::uint32_t*>(shared);  // [code][books][kWords]
  auto* prob = reinterpret_cast<float4*>(shared + (sizeof(std::uint32_t) * kWords * books << kBits)) + warp * groups * quant::kBlockTokens;
  const Item item(args, plan.value_slices, plan.splits);
  const int n_books = p.head_dim / kDsub, m0 = item.slice * books, g = lane / books, m = m0 + lane % books;
  const bool mine = m < n_books;
  const int chunk = groups * quant::kBlockTokens;  // tokens a warp takes at once
  const int chunks = (item.n_coded + chunk - 1) / chunk, n_exact = item.n_all - item.n_coded;
  const int all = chunks + (n_exact + chunk - 1) / chunk, per = (all + plan.splits - 1) / plan.splits;
  const int chunk0 = per * item.split, chunk1 = min(all, chunk0 + per);

  float lift[kSlicedHeads] = {};  // scores of the mean key
  if (p.key.mean) {
    const int heads = item.heads(p);
#pragma unroll
    for (int head = 0; head < kSlicedHeads; ++head) {
      if (head < heads)
        for (int e = lane; e < p.head_dim; e += 32)
          lift[head] += load_element(p.q, (item.q_row(p) + head) * p.head_dim + e, p.dtype) * p.scale * kLog2e * p.key.mean[item.h * p.head_dim + e];
#pragma unroll
      for (int step = 16; step > 0; step /= 2) lift[head] += __shfl_xor_sync(0xffffffffu, lift[head], step);
    }
  }
  for (int i = threadIdx.x; i < books << kBits; i += kValueThreads) {
    const int at = i >> kBits, c = i & ((1 << kBits) - 1);
    const auto* from = reinterpret_cast<const std::uint32_t*>(book_at(p, p.value, item.h, min(m0 + at, n_books - 1)) + c * kDsub);
    std::uint32_t* to = book + (c * books + at) * kWords;
#pragma unroll
    for (int w = 0; w < kWords; ++w) to[w] = from[w];
  }
  __syncthreads();

  Softmax soft;
  float acc[kSlicedHeads][kDsub] = {}, shrink[kSlicedHeads];
#pragma unroll
  for (int head = 0; head < kSlicedHeads; ++head) soft.top[head] = -INFINITY, soft.sum[head] = 0;
  const int block_bytes = n_books * 2 * kBits, last_block = max(0, (item.n_coded - 1) / quant::kBlockTokens);
  const auto entry = [&](int c, float(&v)[kDsub]) {
    const std::uint32_t* from = book + (c * books + lane % books) * kWords;
    std::uint32_t words[kWords];
    if constexpr (kWords == 4) *reinterpret_cast<uint4*>(words) = *reinterpret_cast<const uint4*>(from);
    if constexpr (kWords == 2) *reinterpret_cast<uint2*>(words) = *reinterpret_cast<const uint2*>(from);
    if constexpr (kWords == 1) words[0] = from[0];
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const float2 x = __half22float2(reinterpret_cast<const __half2&>(words[w]));
      v[2 * w] = x.x, v[2 * w + 1] = x.y;
    }
  };
  for (int at = chunk0 + warp; at < chunk1; at += kValueWarps) {
    const bool coded = at < chunks;
    const int first = coded ? at * chunk : (at - chunks) * chunk, count = min(chunk, (coded ? item.n_coded : n_exact) - first);
    uint4 low = make_uint4(0, 0, 0, 0);
    std::uint64_t high = 0;
    if (coded) {  // asked for before the scores
      const std::uint8_t* codes = block_at(p, p.value, item, min(first / quant::kBlockTokens + g, last_block), block_bytes);
      const int row = min(m, n_books - 1);
      low = *reinterpret_cast<const uint4*>(codes + row * 16);
      if constexpr (kHigh == 2) high = *reinterpret_cast<const std::uint32_t*>(codes + n_books * 16 + row * 4);
      if constexpr (kHigh == 4) high = *reinterpret_cast<const std::uint64_t*>(codes + n_books * 16 + row * 8);
    }
    __syncwarp();  // the last chunk's probabilities are read
    if (probabilities(args, item, coded ? first : plan.exact_slot + first, count, chunk, lift, prob, soft, shrink)) {
#pragma unroll
      for (int head = 0; head < kSlicedHeads; ++head)
#pragma unroll
        for (int e = 0; e < kDsub; ++e) acc[head][e] *= shrink[head];
    }
    if (coded) {
      const std::uint32_t words[4] = {low.x, low.y, low.z, low.w};
#pragma unroll
      for (int t = 0; t < quant::kBlockTokens; ++t) {
        int c = words[t / 4] >> 8 * (t % 4) & 0xffu;
        if constexpr (kHigh > 0) c |= static_cast<int>(high >> kHigh * t & ((1u << kHigh) - 1)) << 8;
        float v[kDsub];
        entry(c, v);
        add<kDsub>(acc, prob[g * quant::kBlockTokens + t], v);
      }
    } else if (mine) {
      for (int t = g; t < count; t += groups) {
        const std::int64_t row =
            ((static_cast<std::int64_t>(item.b) * p.n_kv_heads + item.h) * p.dense_capacity + first + t) * p.head_dim + m * kDsub;
        float v[kDsub];
#pragma unroll
        for (int e = 0; e < kDsub; ++e) v[e] = load_element(p.dense_value, row + e, p.dtype);
        add<kDsub>(acc, prob[t], v);
      }
    }
  }

  // Lanes of one sub-space, then warps, in order.
#pragma unroll
  for (int head = 0; head < kSlicedHeads; ++head) {
    for (int step = 16; step > 0; step /= 2) soft.sum[head] += __shfl_xor_sync(0xffffffffu, soft.sum[head], step);
#pragma unroll
    for (int e = 0; e < kDsub; ++e)
      for (int step = 16; step >= books; step /= 2) acc[head][e] += __shfl_xor_sync(0xffffffffu, acc[head][e], step);
  }
  __syncthreads();  // the book's memory is free
  auto* tops = reinterpret_cast<float(*)[kSlicedHeads]>(shared);
  float(*sums)[kSlicedHeads] = tops + kValueWarps;
  float* sides = reinterpret_cast<float*>(sums + kValueWarps);  // [warp][head][books * kDsub]
  const int width = books * kDsub;
  if (lane == 0)
#pragma unroll
    for (int head = 0; head < kSlicedHeads; ++head) tops[warp][head] = soft.top[head], sums[warp][head] = soft.sum[head];
  if (lane < books)
#pragma unroll
    for (int head = 0; head < kSlicedHeads; ++head)
#pragma unroll
      for (int e = 0; e < kDsub; ++e) sides[(warp * kSlicedHeads + head) * width + lane * kDsub + e] = acc[head][e];
  __syncthreads();
  const int heads = item.heads(p);
  for (int i = threadIdx.x; i < heads * width; i += kValueThreads) {
    const int head = i / width, e = i % width, dim = m0 * kDsub + e;
    if (dim >= p.head_dim) continue;
    float top = -INFINITY, o = 0, l = 0;
    for (int w = 0; w < kValueWarps; ++w) top = fmaxf(top, tops[w][head]);
    if (top > -INFINITY)
      for (int w = 0; w < kValueWarps; ++w) {
        const float r = exp2f(tops[w][head] - top);
        l += r * sums[w][head];
        o += r * sides[(w * kSlicedHeads + head) * width + e];
      }
    float* to = args.partial + ((item.q_row(p) + head) * plan.splits + item.split) * (p.head_dim + 1);
    to[dim] = l > 0 ? o / l : 0.f;
    if (dim == 0) to[p.head_dim] = l > 0 ? top + log2f(l) : -INFINITY;
  }
}

}  // namespace vi::cuda::sliced
