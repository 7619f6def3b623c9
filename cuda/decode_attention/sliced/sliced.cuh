// sliced: one decode step of attention over codes whose books are wider than a multiprocessor's shared memory, cut
// into slices of sub-spaces. Launches: scores (a slice of the keys' sub-spaces each), join where there are several
// slices, values (a slice of the values' each), generic::combine over the splits.
// Computes   o = softmax(q K^T * scale) V over coded tokens, then exact ones; lse in log2
// Oracle     oracle.h      Test tests/cuda/decode_attention_test.cpp
// Shapes     dsub 2, 4, 8; 8, 10, 12 bits; head_dim <= 256; passes of four query heads; both scopes, paged or not
// Launch     one-dimensional grids of items x slices x splits; up to 227 KiB a CTA (sm_90, sm_100)
// Traffic    codes once for a pass; probabilities, 8 bytes a token and pass, written once and read by each value
//            slice; with several key slices 16 bytes of scores a token and slice written and read
// Numerics   entries of the score table f16 (the mean key's score taken out), probabilities f16 relative to their
//            unit's maximum (summed as rounded), sums f32
// Design     a unit is 64 tokens of a warp. scores: lane (r, q) looks up tokens 4 r + t for every fourth sub-space
//            in [sub-space][code][head]; the two words of an entry are rows r and r + 8 of an mma with a constant B,
//            which sums over the quad. values: lane (r, q) looks up the tokens of block q for sub-spaces 8 i + r in
//            [sub-space][code]; a word (two dims) fills two k slots, B has a column for each head and dim of the
//            pair, so sums over tokens stay in the lane that owns the dims. All sums in fixed order.
#pragma once

#include "core/quant/code_layout.h"
#include "cuda/common/element.cuh"
#include "cuda/common/mma.cuh"
#include "cuda/decode_attention/params.h"
#include "cuda/decode_attention/sliced/plan.h"

namespace vi::cuda::sliced {

constexpr int kScoreThreads = 1024, kJoinThreads = 256;
constexpr int kValueWarps = kSlicedValueWarps, kValueThreads = 32 * kValueWarps;
constexpr int kUnit = kSlicedUnit, kHeads = kSlicedHeads, kMaxDim = 256;
constexpr float kLog2e = 1.4426950408889634f, kRaise = 14;  // probabilities are 2^14 at most
constexpr unsigned kAll = 0xffffffffu;

struct Args {
  DecodeParams p;
  SlicedPlan plan;
  __half* prob;    // [items, units, 4 blocks, heads, 16 tokens]
  float* stats;    // [items, units, 2, heads]: a unit's top (an integer) and sum of probabilities
  float4* scores;  // [items, key_slices, slots], several key slices only; then [items, dense_capacity]
  float4* exact;
  float* partial;  // [batch, n_q_heads, splits, head_dim + 1]: o, lse
};

// What a CTA works on: blockIdx.x = ((((b * n_kv_heads + h) * passes + pass) * slices + slice) * splits + split.
struct Item {
  int b, h, pass, slice, split, n_coded, n_exact;
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
    n_exact = p.dense_len ? p.dense_len[b] : 0;
  }
  __device__ int heads(const DecodeParams& p) const {  // of this pass
    return min(kHeads, p.n_q_heads / p.n_kv_heads - pass * kHeads);
  }
  __device__ std::int64_t q_row(const DecodeParams& p) const {
    return static_cast<std::int64_t>(b) * p.n_q_heads + h * (p.n_q_heads / p.n_kv_heads) + pass * kHeads;
  }
  __device__ std::int64_t dense_row(const DecodeParams& p, int token) const {
    return ((static_cast<std::int64_t>(b) * p.n_kv_heads + h) * p.dense_capacity + token) * p.head_dim;
  }
};

__device__ inline int units_of(int tokens) { return (tokens + kUnit - 1) / kUnit; }

// The block of 16 codes a sub-space that holds token 16 * block of the item's stream.
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
__device__ inline void fill_table(const Args& args, const Item& item, const float (*query)[kMaxDim], uint2* table, int m0, int books) {
  const DecodeParams& p = args.p;
  const int ds = p.key.dsub, ksub = 1 << p.key.code_bits;
  for (int i = threadIdx.x; i < books * ksub; i += kScoreThreads) {
    const int m = m0 + (i >> p.key.code_bits), c = i & (ksub - 1);
    const __half2* centroid = reinterpret_cast<const __half2*>(book_at(p, p.key, item.h, m) + c * ds);
    float s[kHeads] = {};
    for (int e = 0; e < ds; e += 2) {
      float2 x = __half22float2(centroid[e / 2]);
      const int d = m * ds + e;
      if (p.key.mean) {
        x.x -= p.key.mean[item.h * p.head_dim + d];
        x.y -= p.key.mean[item.h * p.head_dim + d + 1];
      }
#pragma unroll
      for (int head = 0; head < kHeads; ++head) s[head] += query[head][d] * x.x + query[head][d + 1] * x.y;
    }
    table[i] = make_uint2(pack_half2_finite(s[0], s[1]), pack_half2_finite(s[2], s[3]));
  }
}

// The mean key's score of each head, in all lanes.
__device__ inline void lift_of(const DecodeParams& p, const Item& item, const float (*query)[kMaxDim], float (&lift)[kHeads]) {
#pragma unroll
  for (int head = 0; head < kHeads; ++head) {
    lift[head] = 0;
    if (!p.key.mean) continue;
    for (int e = threadIdx.x & 31; e < p.head_dim; e += 32) lift[head] += query[head][e] * p.key.mean[item.h * p.head_dim + e];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) lift[head] += __shfl_xor_sync(kAll, lift[head], step);
  }
}

__device__ inline void load_query(const DecodeParams& p, const Item& item, float (*query)[kMaxDim]) {
  const int heads = item.heads(p), d = p.head_dim;
  for (int i = threadIdx.x; i < kHeads * d; i += blockDim.x) {
    const int head = i / d, e = i % d;
    query[head][e] = head < heads ? load_element(p.q, (item.q_row(p) + head) * d + e, p.dtype) * p.scale * kLog2e : 0.f;
  }
}

// Scores of a unit, lane's tokens lane and lane + 32, of which the first `count` are there -> its
// probabilities and their facts.
__device__ inline void finish_unit(const Args& args, std::int64_t item, int unit, float (&s)[2][kHeads], int count) {
  const int lane = threadIdx.x & 31;
  const std::int64_t at = item * args.plan.units + unit;
  __half* prob = args.prob + at * kUnit * kHeads + (lane / 16) * 16 * kHeads + lane % 16;
#pragma unroll
  for (int head = 0; head < kHeads; ++head) {
    float top = -INFINITY, sum = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (half * 32 + lane >= count) s[half][head] = -INFINITY;
      top = fmaxf(top, s[half][head]);
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(kAll, top, step));
    top = ceilf(top);  // an integer: another unit's maximum rescales these without rounding
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const __half w = __float2half_rn(exp2f(s[half][head] - top + kRaise));
      sum += __half2float(w);
      prob[half * 32 * kHeads + head * 16] = w;
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
    if (lane == 0) {
      args.stats[at * 2 * kHeads + head] = top;
      args.stats[at * 2 * kHeads + kHeads + head] = sum;
    }
  }
}

// kHigh: code bits beyond eight.
template <int kHigh>
__global__ void __launch_bounds__(kScoreThreads) scores(const __grid_constant__ Args args) {
  const DecodeParams& p = args.p;
  const SlicedPlan& plan = args.plan;
  extern __shared__ __align__(16) unsigned char shared[];
  auto* query = reinterpret_cast<float(*)[kMaxDim]>(shared);
  auto* table = reinterpret_cast<uint2*>(shared + kSlicedQueryBytes);  // after it, one entry of zeros
  const Item item(args, plan.key_slices, plan.score_splits);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = kScoreThreads / 32, r = lane >> 2, q = lane & 3;
  const int units = units_of(item.n_coded), per = (units + plan.score_splits - 1) / plan.score_splits;
  const int unit0 = per * item.split, unit1 = min(units, unit0 + per);
  const int n_exact = item.slice == 0 && item.split == plan.score_splits - 1 ? item.n_exact : 0;
  if (unit0 >= unit1 && n_exact == 0) return;
  load_query(p, item, query);
  __syncthreads();
  const int m0 = item.slice * plan.key_books, n_books = p.head_dim / p.key.dsub, books = min(plan.key_books, n_books - m0);
  uint2* zero = table + (books << (8 + kHigh));
  if (unit0 < unit1) fill_table(args, item, query, table, m0, books);
  if (threadIdx.x == 0) *zero = make_uint2(0, 0);
  float lift[kHeads];
  lift_of(p, item, query, lift);
  __syncthreads();

  const bool direct = plan.key_slices == 1;
  float4* out = args.scores + (item.index * plan.key_slices + item.slice) * plan.slots;
  const int block_bytes = n_books * 2 * (8 + kHigh), last_block = (item.n_coded - 1) / quant::kBlockTokens, in_block = r & 3;
  const unsigned pick = r & 1 ? 0x3c000000u : 0x00003c00u;  // B: column n sums the words' halves n mod 2
  for (int unit = unit0 + warp; unit < unit1; unit += n_warps) {
    float s[2][kHeads];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int block = min(4 * unit + 2 * half + (r >> 2), last_block);
      const std::uint8_t* codes = block_at(p, p.key, item, block, block_bytes);
      float acc[4][4] = {};  // of tokens 4 r + t: heads
#pragma unroll 2
      for (int i = q; i < books + q; i += 8) {
        uint2 entry[2][4];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const int at = i + 4 * k, m = m0 + at;
          const bool there = at < books;
          std::uint32_t low = 0, high = 0;
          if (there) {
            low = load_u32(codes + m * 16 + 4 * in_block);
            if constexpr (kHigh == 2) high = load_u8(codes + n_books * 16 + m * 4 + in_block);
            if constexpr (kHigh == 4) high = load_u16(codes + n_books * 16 + m * 8 + 2 * in_block);
          }
          const uint2* entries = there ? table + (at << (8 + kHigh)) : zero;
#pragma unroll
          for (int t = 0; t < 4; ++t) {
            std::uint32_t c = low >> 8 * t & 0xffu;
            if constexpr (kHigh > 0) c |= (high >> kHigh * t & ((1u << kHigh) - 1)) << 8;
            entry[k][t] = entries[c];
          }
        }
#pragma unroll
        for (int t = 0; t < 4; ++t) mma_f16(acc[t], entry[0][t].x, entry[0][t].y, entry[1][t].x, entry[1][t].y, pick, pick);
      }
      // Every lane of a quad has the sums of its four tokens: lane q keeps token 4 r + q.
#pragma unroll
      for (int head = 0; head < kHeads; ++head)
        s[half][head] = q == 0 ? acc[0][head] : q == 1 ? acc[1][head] : q == 2 ? acc[2][head] : acc[3][head];
    }
    if (direct) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int head = 0; head < kHeads; ++head) s[half][head] += lift[head];
      finish_unit(args, item.index, unit, s, item.n_coded - unit * kUnit);
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (item.slice == 0)
#pragma unroll
          for (int head = 0; head < kHeads; ++head) s[half][head] += lift[head];
        out[unit * kUnit + half * 32 + lane] = make_float4(s[half][0], s[half][1], s[half][2], s[half][3]);
      }
    }
  }

  // Exact tokens: a warp each, then their units.
  if (n_exact == 0) return;
  float4* exact = args.exact + item.index * p.dense_capacity;
  for (int t = warp; t < n_exact; t += n_warps) {
    float s[kHeads] = {};
    for (int e = lane; e < p.head_dim; e += 32) {
      const float k = load_element(p.dense_key, item.dense_row(p, t) + e, p.dtype);
#pragma unroll
      for (int head = 0; head < kHeads; ++head) s[head] += query[head][e] * k;
    }
#pragma unroll
    for (int head = 0; head < kHeads; ++head)
#pragma unroll
      for (int step = 16; step > 0; step /= 2) s[head] += __shfl_xor_sync(kAll, s[head], step);
    if (lane == 0) exact[t] = make_float4(s[0], s[1], s[2], s[3]);
  }
  __syncthreads();
  for (int unit = warp; unit < units_of(n_exact); unit += n_warps) {
    float s[2][kHeads] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (const int t = unit * kUnit + half * 32 + lane; t < n_exact) {
        const float4 one = exact[t];
        s[half][0] = one.x, s[half][1] = one.y, s[half][2] = one.z, s[half][3] = one.w;
      }
    finish_unit(args, item.index, plan.exact_unit + unit, s, n_exact - unit * kUnit);
  }
}

// Several key slices: their scores summed, a warp a unit, `ctas` of them an item.
__global__ void __launch_bounds__(kJoinThreads) join(const __grid_constant__ Args args, const int ctas) {
  const SlicedPlan& plan = args.plan;
  const std::int64_t item = blockIdx.x / ctas;
  const int unit = blockIdx.x % ctas * (kJoinThreads / 32) + threadIdx.x / 32, lane = threadIdx.x & 31;
  const int count = args.p.kv_len[item / plan.passes / args.p.n_kv_heads] - unit * kUnit;
  if (count <= 0) return;
  const float4* from = args.scores + item * plan.key_slices * plan.slots + unit * kUnit + lane;
  float s[2][kHeads];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float4 sum = from[half * 32];
    for (int k = 1; k < plan.key_slices; ++k) {
      const float4 more = from[k * plan.slots + half * 32];
      sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
    }
    s[half][0] = sum.x, s[half][1] = sum.y, s[half][2] = sum.z, s[half][3] = sum.w;
  }
  finish_unit(args, item, unit, s, count);
}

// The words of an exact row that lane's sub-space holds, as halves; zeros if the token is not there.
template <int kDsub>
__device__ inline void exact_words(const DecodeParams& p, const Item& item, int token, int m, unsigned (&words)[kDsub / 2]) {
#pragma unroll
  for (int w = 0; w < kDsub / 2; ++w) words[w] = 0;
  if (token >= item.n_exact) return;
  const std::int64_t at = item.dense_row(p, token) + m * kDsub;
#pragma unroll
  for (int w = 0; w < kDsub / 2; ++w)
    words[w] = pack_half2_finite(load_element(p.dense_value, at + 2 * w, p.dtype), load_element(p.dense_value, at + 2 * w + 1, p.dtype));
}

// kRows: groups of eight sub-spaces a slice has at most.
template <int kDsub, int kHigh, int kRows>
__global__ void __launch_bounds__(kValueThreads, 1) values(const __grid_constant__ Args args) {
  const DecodeParams& p = args.p;
  const SlicedPlan& plan = args.plan;
  constexpr int kBits = 8 + kHigh, kWords = kDsub / 2, kPairs = (kWords + 1) / 2;
  extern __shared__ __align__(16) unsigned char shared[];
  auto* book = reinterpret_cast<unsigned*>(shared);  // [sub-space][code][kWords]
  const Item item(args, plan.value_slices, plan.splits);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, r = lane >> 2, q = lane & 3;
  const int n_books = p.head_dim / kDsub, m0 = item.slice * plan.value_books, books = min(plan.value_books, n_books - m0);
  const int units = units_of(item.n_coded), all = units + units_of(item.n_exact), per = (all + plan.splits - 1) / plan.splits;
  const int unit0 = per * item.split, unit1 = min(all, unit0 + per);
  if (unit0 < unit1) {
    for (int at = 0; at < books; ++at) {
      const auto* from = reinterpret_cast<const unsigned*>(book_at(p, p.value, item.h, m0 + at));
      for (int i = threadIdx.x; i < kWords << kBits; i += kValueThreads) book[(at * kWords << kBits) + i] = from[i];
    }
  }
  __syncthreads();

  float acc[kRows][kPairs][4] = {};  // head q: dims 4 pair .. 4 pair + 3 of sub-space 8 i + r
  float top = -INFINITY, sum = 0, column_top = -INFINITY;  // of head q; of the head of B's column, r / 2
  const int block_bytes = n_books * 2 * kBits, last_block = max(0, (item.n_coded - 1) / quant::kBlockTokens);
  // B: column n = 2 head + dim of the pair; token t in k slots 2 q, 2 q + 1, token t + 1 eight further.
  const unsigned select_even = r & 1 ? 0x1054u : 0x5410u, select_odd = r & 1 ? 0x3254u : 0x5432u;
  for (int unit = unit0 + warp; unit < unit1; unit += kValueWarps) {
    const bool coded = unit < units;
    uint4 low[kRows];
    std::uint64_t high[kRows];
    if (coded) {
      const std::uint8_t* codes = block_at(p, p.value, item, min(4 * unit + q, last_block), block_bytes);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int m = m0 + min(8 * i + r, books - 1);
        low[i] = *reinterpret_cast<const uint4*>(codes + m * 16);
        if constexpr (kHigh == 0) high[i] = 0;
        if constexpr (kHigh == 2) high[i] = *reinterpret_cast<const std::uint32_t*>(codes + n_books * 16 + m * 4);
        if constexpr (kHigh == 4) high[i] = *reinterpret_cast<const std::uint64_t*>(codes + n_books * 16 + m * 8);
      }
    }
    const std::int64_t slot = item.index * plan.units + (coded ? unit : plan.exact_unit + unit - units);
    const uint4* from = reinterpret_cast<const uint4*>(args.prob + slot * kUnit * kHeads + (q * kHeads + (r >> 1)) * 16);
    const uint4 first = from[0], second = from[1];
    unsigned prob[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
    const float* stats = args.stats + slot * 2 * kHeads;
    const float unit_top = stats[q], next = fmaxf(top, unit_top), fade = exp2f(top - next);
    sum = sum * fade + stats[kHeads + q] * exp2f(unit_top - next);
    top = next;
    const float column_unit = stats[r >> 1];
    column_top = fmaxf(column_top, column_unit);
    if (__any_sync(kAll, column_unit < column_top)) {
      const __half2 lower = __float2half2_rn(exp2f(fmaxf(column_unit - column_top, -40.f)));
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const __half2 w = __hmul2(*reinterpret_cast<const __half2*>(&prob[i]), lower);
        prob[i] = *reinterpret_cast<const unsigned*>(&w);
      }
    }
    if (__any_sync(kAll, fade < 1)) {
#pragma unroll
      for (int i = 0; i < kRows; ++i)
#pragma unroll
        for (int pair = 0; pair < kPairs; ++pair)
#pragma unroll
          for (int e = 0; e < 4; ++e) acc[i][pair][e] *= fade;
    }
#pragma unroll
    for (int t = 0; t < quant::kBlockTokens; t += 2) {
      const unsigned b0 = __byte_perm(prob[t / 2], 0, select_even), b1 = __byte_perm(prob[t / 2], 0, select_odd);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        unsigned words[2][kWords];
        const int sub = min(8 * i + r, books - 1);
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          if (!coded) {
            exact_words<kDsub>(p, item, (unit - units) * kUnit + q * quant::kBlockTokens + t + k, m0 + sub, words[k]);
            continue;
          }
          unsigned c = word_of(low[i], t / 4) >> 8 * ((t + k) % 4) & 0xffu;
          if constexpr (kHigh > 0) c |= static_cast<unsigned>(high[i] >> kHigh * (t + k) & ((1u << kHigh) - 1)) << 8;
          const unsigned* entry = book + ((sub << kBits) + c) * kWords;
          if constexpr (kWords == 4) *reinterpret_cast<uint4*>(words[k]) = *reinterpret_cast<const uint4*>(entry);
          if constexpr (kWords == 2) *reinterpret_cast<uint2*>(words[k]) = *reinterpret_cast<const uint2*>(entry);
          if constexpr (kWords == 1) words[k][0] = entry[0];
        }
        if constexpr (kWords == 1) {
          mma_f16(acc[i][0], words[0][0], 0, words[1][0], 0, b0, b1);
        } else {
#pragma unroll
          for (int pair = 0; pair < kPairs; ++pair)
            mma_f16(acc[i][pair], words[0][2 * pair], words[0][2 * pair + 1], words[1][2 * pair], words[1][2 * pair + 1], b0, b1);
        }
      }
    }
  }

  // The warps, in order.
  __syncthreads();  // the book's memory is free
  auto* tops = reinterpret_cast<float(*)[kHeads]>(shared);
  float(*sums)[kHeads] = tops + kValueWarps;
  float* sides = reinterpret_cast<float*>(sums + kValueWarps);  // [warp][head][width]
  const int width = plan.value_books * kDsub;
  if (r == 0) tops[warp][q] = top, sums[warp][q] = sum;
#pragma unroll
  for (int i = 0; i < kRows; ++i)
    if (8 * i + r < books)
#pragma unroll
      for (int e = 0; e < kDsub; ++e) sides[(warp * kHeads + q) * width + (8 * i + r) * kDsub + e] = acc[i][e / 4][e % 4];
  __syncthreads();
  const int heads = item.heads(p);
  for (int i = threadIdx.x; i < heads * books * kDsub; i += kValueThreads) {
    const int head = i / (books * kDsub), e = i % (books * kDsub), dim = m0 * kDsub + e;
    float high = -INFINITY, o = 0, l = 0;
    for (int w = 0; w < kValueWarps; ++w) high = fmaxf(high, tops[w][head]);
    if (high > -INFINITY)
      for (int w = 0; w < kValueWarps; ++w) {
        const float scale = exp2f(tops[w][head] - high);
        l += scale * sums[w][head];
        o += scale * sides[(w * kHeads + head) * width + e];
      }
    float* to = args.partial + ((item.q_row(p) + head) * plan.splits + item.split) * (p.head_dim + 1);
    to[dim] = l > 0 ? o / l : 0.f;
    if (dim == 0) to[p.head_dim] = l > 0 ? high - kRaise + log2f(l) : -INFINITY;
  }
}

}  // namespace vi::cuda::sliced
