// lookup_d2: the look-up kernel for two-element sub-vectors (4 bits: d2b8 keys and values, head_dim
// 128): 64 sub-spaces a side, so a lane owns two. VecInfer sec. 3.4, Eq. 10
// Computes   o = softmax(q K^T * scale) V over coded tokens and exact ones; lse in log2
// Oracle     oracle.h      Test tests/cuda/decode_attention_test.cpp
// Essay      docs/kernels/decode_attention.md
// Launch     as lookup.cuh: persistent CTAs of 16 warps, one a SM; a warp takes 32 tokens at a time
// Requires   227 KiB of shared memory, window at 1 KiB (checked), codes 16-byte aligned
// Traffic    128 bytes a token and KV head
// Roofline   memory: 9.8 clk/SM a token at 3.0 TB/s; look-ups: 64 x 8 + 64 x 4 bytes = 6 clk
// Numerics   as lookup.cuh
// Design     Keys as there, each tile of four tokens summing two entries a lane. Values: lane =
//   sub-space too, so the table needs no copies. Lane (g, q) holds rows g, g + 8 of A = V^T (its
//   two dims) in the k slots of its quad place; the four lanes of a quad own different sub-spaces,
//   so B's columns are (owner, head of a pair) and hold P only where the slot is the owner's, else
//   zero.
#pragma once

#include "cuda/decode_attention/lookup/lookup.cuh"

namespace vi::cuda::lookup_d2 {

using lookup::kHeads;
using lookup::kKsub;
using lookup::kThreads;
using lookup::kWarps;
using lookup::kWindow;

constexpr int kHeadDim = 128, kBooks = 64, kBlock = kBooks * 16, kChunk = 32;
constexpr unsigned kKeyTable = kWindow;                // [half][code][32 books] of 8 bytes
constexpr unsigned kValueTable = kKeyTable + 0x20000;  // [code][64 books] of 4 bytes
constexpr unsigned kMerge = kValueTable + 0x10000;     // f32 [kWarps][4][head_dim]
constexpr unsigned kStats = kMerge + kWarps * kHeads * kHeadDim * 4;  // float2 [kWarps][4]
constexpr unsigned kPlan = kStats + kWarps * kHeads * 8;              // int [56], Place

struct Place {  // of an item's codes: in shared memory, the main loop needs the registers
  const std::uint8_t *key, *value;
  int len, chunk1, last_block;
};

constexpr unsigned kBytes = kPlan + 56 * 4 + sizeof(Place) - kWindow;

struct State {  // of one warp: head g % 4 of lane (g, q)
  float top = -1e30f, shifted = -1e30f, sum = 0;
};

// Probabilities of 16 tokens: the half2 of this lane's two tokens.
__device__ __forceinline__ unsigned softmax_step(float low, float high, State& s,
                                                 float (&acc)[2][2][4]) {
  float top = fmaxf(low, high);
  if (__any_sync(kFull, top > s.top)) {  // rare: the maximum was set with slack
    top = fmaxf(top, __shfl_xor_sync(kFull, top, 1));
    top = fmaxf(top, __shfl_xor_sync(kFull, top, 2));
    top = fmaxf(top, __shfl_xor_sync(kFull, top, 16));
    const float next = top > s.top ? top + kSlack : s.top;
    const float shrink = exp2_fast(s.top - next);
    s.sum *= shrink;
    s.top = next;
    s.shifted = next - kShift;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const float r0 = __shfl_sync(kFull, shrink, 8 * pair),
                  r1 = __shfl_sync(kFull, shrink, 8 * pair + 4);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        acc[half][pair][0] *= r0;
        acc[half][pair][1] *= r1;
        acc[half][pair][2] *= r0;
        acc[half][pair][3] *= r1;
      }
    }
  }
  const unsigned own = pack_half2(exp2_fast(low - s.shifted), exp2_fast(high - s.shifted));
  const float2 rounded = unpack_half2(own);
  s.sum += rounded.x + rounded.y;
  return own;
}

// Four tiles of four tokens: fetch(tile, half, j) gives the score words of the lane's sub-space.
template <class Fetch>
__device__ __forceinline__ void score_step(const uint2 (&select)[2], const unsigned (&route)[4],
                                           Fetch fetch, float& low, float& high) {
  float r[4] = {0, 0, 0, 0};
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    unsigned a[4];
#pragma unroll
    for (int other = 0; other < 2; ++other) {
      float d[2][4] = {};
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint2 w = fetch(2 * pair + other, half, j);
          const uint2& e = select[j & 1];
          mma_f16(d[j >> 1], e.x, e.x, e.y, e.y, w.x, w.y);
        }
      a[2 * other] = pack_half2_finite(d[0][0], d[0][1]);
      a[2 * other + 1] = pack_half2_finite(d[1][0], d[1][1]);
    }
    mma_f16(r, a[0], a[1], a[2], a[3], route[2 * pair], route[2 * pair + 1]);
  }
  low = r[0];
  high = r[2];
}

// acc += V^T P for 16 tokens: fetch(tile, half, j) gives the value word of the lane's sub-space.
template <class Fetch>
__device__ __forceinline__ void value_step(float (&acc)[2][2][4], unsigned own, int lane,
                                           Fetch fetch) {
  const int g = lane >> 2, q = lane & 3, e = g & 1;
  const bool diagonal = q == (g >> 1);
#pragma unroll
  for (int tile = 0; tile < 4; ++tile) {
    unsigned b[2][2];
#pragma unroll
    for (int pair = 0; pair < 2; ++pair)
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {  // tokens 0, 2, then 1, 3
        const unsigned v = __shfl_sync(kFull, own, 4 * (4 * odd + 2 * pair + e) + tile);
        b[pair][odd] = diagonal ? v : 0u;
      }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      unsigned x[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) x[j] = fetch(tile, half, j);
      const unsigned a0 = __byte_perm(x[0], x[2], 0x5410), a1 = __byte_perm(x[0], x[2], 0x7632),
                     a2 = __byte_perm(x[1], x[3], 0x5410), a3 = __byte_perm(x[1], x[3], 0x7632);
#pragma unroll
      for (int pair = 0; pair < 2; ++pair)
        mma_f16(acc[half][pair], a0, a1, a2, a3, b[pair][0], b[pair][1]);
    }
  }
}

// The lane's two sub-vectors of four queries, scaled, and what the mean key takes out.
struct Query {
  float value[2][kHeads][2], offset[2][kHeads];
  __device__ __forceinline__ void load(const DecodeParams& p, int q_row, int n_heads, int h,
                                       int lane) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int dim = 2 * (lane + 32 * half);
      const float2 mean = __ldg(reinterpret_cast<const float2*>(p.key.mean + h * kHeadDim + dim));
#pragma unroll
      for (int i = 0; i < kHeads; ++i) {
        const std::int64_t at =
            static_cast<std::int64_t>(q_row + min(i, n_heads - 1)) * kHeadDim + dim;
        const float by = i < n_heads ? p.scale * kLog2e : 0.f;
        value[half][i][0] = load_element(p.q, at, p.dtype) * by;
        value[half][i][1] = load_element(p.q, at + 1, p.dtype) * by;
        offset[half][i] = -(value[half][i][0] * mean.x + value[half][i][1] * mean.y);
      }
    }
  }
  __device__ __forceinline__ uint2 entry(int half, float k0, float k1) const {
    float s[kHeads];
#pragma unroll
    for (int i = 0; i < kHeads; ++i)
      s[i] = offset[half][i] + value[half][i][0] * k0 + value[half][i][1] * k1;
    return lookup::entry_words(s);
  }
};

template <bool kPaged>
__global__ void __launch_bounds__(kThreads, 1) decode(const __grid_constant__ WalkArgs args) {
  extern __shared__ __align__(1024) unsigned char smem[];
  const DecodeParams& p = args.p;
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, g = lane >> 2, q = lane & 3;
  if (static_cast<unsigned>(__cvta_generic_to_shared(smem)) != kWindow) __trap();
  const auto shared = [&](unsigned address) { return smem + (address - kWindow); };
  int* plan = reinterpret_cast<int*>(shared(kPlan));
  volatile int* walk = plan + 32;
  float* mean_score = reinterpret_cast<float*>(plan + 48);  // [4] what the mean key scores, log2
  volatile Place* place = reinterpret_cast<volatile Place*>(plan + 56);
  if (!find_run<kWarps>(args, plan, walk)) return;
  const int passes = args.passes, group = p.n_q_heads / p.n_kv_heads;

  uint2 select[2];  // A fragments: heads of a token in rows 0..3 or 4..7
  unsigned route[4];
  {
    const auto one = [](bool low, bool high) {
      return (low ? 0x3c00u : 0u) | (high ? 0x3c000000u : 0u);
    };
#pragma unroll
    for (int i = 0; i < 2; ++i)
      select[i] = make_uint2(one(g == 4 * i, g == 4 * i + 1), one(g == 4 * i + 2, g == 4 * i + 3));
#pragma unroll
    for (int i = 0; i < 4; ++i) route[i] = (g >> 1) == i ? 0x3c003c00u : 0u;
  }
  int table_head = -1;

  for (;;) {
    const int b = walk[kSequence], len = p.kv_len[b];
    const int item_start = walk[kItemStart], head_pass = walk[kHeadPass];
    const int h = head_pass / passes, first_head = head_pass % passes * kHeads,
              n_heads = min(kHeads, group - first_head);
    const int q_row = b * p.n_q_heads + h * group + first_head;
    if (tid == 0) {
      const auto codes_of = [&](const CodedSide& side) {
        if (len == 0)  // there may be no codes to fetch: any bytes do
          return static_cast<const std::uint8_t*>(side.by_code);
        return side.codes + h * side.head_stride + (kPaged ? 0 : b * side.outer_stride);
      };
      place->key = codes_of(p.key);
      place->value = codes_of(p.value);
      place->len = len;
      place->chunk1 =
          min((len + kChunk - 1) / kChunk, (walk[kEnd] - item_start) * (kUnit / kChunk));
      place->last_block = max((len + 15) / 16 - 1, 0);
    }
    __syncthreads();

    // Codes of a chunk: its two blocks, sub-spaces lane and lane + 32.
    const auto page_of = [&](int chunk, int i) {
      if (!kPaged || place->len == 0) return 0;
      return __ldg(p.block_table + static_cast<std::int64_t>(walk[kSequence]) * p.max_pages +
                   min(2 * chunk + i, place->last_block) / (p.page_tokens / 16));
    };
    const auto load = [&](bool keys, int chunk, const int(&page)[2], uint4(&codes)[2][2]) {
      const std::uint8_t* from = (keys ? place->key : place->value) + lane * 16;
      const int last = place->last_block;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int block = min(2 * chunk + i, last);
        const std::uint8_t* at =
            from + (kPaged ? page[i] * (keys ? p.key.outer_stride : p.value.outer_stride) +
                                 block % (p.page_tokens / 16) * kBlock
                           : static_cast<std::int64_t>(block) * kBlock);
        codes[i][0] = load_stream(at);
        codes[i][1] = load_stream(at + 512);
      }
    };
    uint4 key[2][2], value[2][2];
    int chunk = (walk[kAt] - item_start) * (kUnit / kChunk) + warp;
    int page[2] = {page_of(chunk, 0), page_of(chunk, 1)};
    load(true, chunk, page, key);  // no branch around them: it would make copies that wait
    load(false, chunk, page, value);
    page[0] = page_of(chunk + kWarps, 0);
    page[1] = page_of(chunk + kWarps, 1);

    {  // tables
      Query query;
      query.load(p, q_row, n_heads, h, lane);
      if (len > 0 && table_head != h) {
        const auto* from = static_cast<const unsigned*>(p.value.by_code) +
                           h * kKsub * (p.value.shared ? 1 : kBooks);
        auto* to = reinterpret_cast<uint4*>(shared(kValueTable));
        for (int i = tid; i < kKsub * kBooks / 4; i += kThreads) {
          if (p.value.shared) {
            const unsigned w = __ldg(from + i / (kBooks / 4));
            to[i] = make_uint4(w, w, w, w);
          } else {
            to[i] = __ldg(reinterpret_cast<const uint4*>(from) + i);
          }
        }
        table_head = h;
      }
      if (warp == 0) {
#pragma unroll
        for (int i = 0; i < kHeads; ++i) {
          float sum = query.offset[0][i] + query.offset[1][i];
#pragma unroll
          for (int step = 1; step < 32; step *= 2) sum += __shfl_xor_sync(kFull, sum, step);
          if (lane == 0) mean_score[i] = -sum;
        }
      }
      if (len > 0) {
        constexpr int kBatch = 8;
        const int stride = p.key.shared ? 1 : kBooks;
        const auto* from = static_cast<const unsigned*>(p.key.by_code) + h * kKsub * stride +
                           (p.key.shared ? 0 : lane);
#pragma unroll 1
        for (int start = warp; start < kKsub; start += kWarps * kBatch) {
          unsigned w[kBatch][2];
#pragma unroll
          for (int i = 0; i < kBatch; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half)
              w[i][half] =
                  __ldg(from + (start + i * kWarps) * stride + (p.key.shared ? 0 : 32 * half));
#pragma unroll
          for (int i = 0; i < kBatch; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const float2 k = unpack_half2(w[i][half]);
              const uint2 e = query.entry(half, k.x, k.y);
              sts64(kKeyTable + half * 0x10000 + (start + i * kWarps) * 256 + lane * 8, e.x, e.y);
            }
        }
      }
    }
    __syncthreads();

    unsigned key_lane = lane * 8, value_lane = lane * 4;
    asm volatile("" : "+r"(key_lane), "+r"(value_lane)::"memory");
    State state;
    float acc[2][2][4] = {};
    float low = 0, high = 0;
    const auto scores = [&](int step) {  // tile: block tile / 2, word 2 (tile % 2) + step
      score_step(
          select, route,
          [&](int tile, int half, int j) {
            const unsigned address = __byte_perm(
                word_of(key[tile >> 1][half], 2 * (tile & 1) + step), key_lane, 0x7604 | (j << 4));
            return half == 0 ? lds64<kKeyTable>(address) : lds64<kKeyTable + 0x10000>(address);
          },
          low, high);
    };
    if (chunk < place->chunk1) scores(0);
#pragma unroll 1
    for (; chunk < place->chunk1; chunk += kWarps) {
      const int rest = place->len - chunk * kChunk;
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        if (rest < kChunk) {  // the sequence ends in this chunk
          const int token = 8 * q + 4 * step + (g >> 2);
          low = token < rest ? low : -INFINITY;
          high = token + 2 < rest ? high : -INFINITY;
        }
        const unsigned own = softmax_step(low, high, state, acc);
        // Scores of the next step first, to overlap with this step's values. Codes are loaded in
        // place as soon as they are used up; past the end they are the last block's again.
        scores(1 - step);
        if (step == 0) load(true, chunk + kWarps, page, key);
        value_step(acc, own, lane, [&](int tile, int half, int j) {
          const unsigned address =
              __byte_perm(word_of(value[tile >> 1][half], 2 * (tile & 1) + step), value_lane,
                          0x7604 | (j << 4));
          return half == 0 ? lds32<kValueTable>(address) : lds32<kValueTable + 128>(address);
        });
      }
      load(false, chunk + kWarps, page, value);
      page[0] = page_of(chunk + 2 * kWarps, 0);
      page[1] = page_of(chunk + 2 * kWarps, 1);
    }

    // Exact tokens (sinks, window): steps of 16, dealt to the pieces of the item and there to the
    // warps, last warp first.
    const int sequence = walk[kSequence], start = walk[kItemStart], hp = walk[kHeadPass];
    const int kv_head = hp / passes, first = hp % passes * kHeads,
              heads = min(kHeads, group - first);
    const int row = sequence * p.n_q_heads + kv_head * group + first;
    const int item_units = max(1, (place->len + kUnit - 1) / kUnit);
    const int first_cta = start / walk[kPer], piece = static_cast<int>(blockIdx.x) - first_cta;
    const int n_pieces = (start + item_units - 1) / walk[kPer] - first_cta + 1;
    const int n_dense = p.dense_len ? p.dense_len[sequence] : 0;
    if (piece + n_pieces * (kWarps - 1 - warp) < (n_dense + 15) / 16) {
      Query query;
      query.load(p, row, heads, kv_head, lane);
      const std::int64_t dense = (static_cast<std::int64_t>(sequence) * p.n_kv_heads + kv_head) *
                                 p.dense_capacity * kHeadDim;
#pragma unroll 1
      for (int from = 16 * (piece + n_pieces * (kWarps - 1 - warp)); from < n_dense;
           from += 16 * n_pieces * kWarps) {
        const auto at = [&](int tile, int half, int j) {
          return dense +
                 static_cast<std::int64_t>(min(from + 4 * tile + j, n_dense - 1)) * kHeadDim +
                 2 * (lane + 32 * half);
        };
        score_step(
            select, route,
            [&](int tile, int half, int j) {
              const std::int64_t i = at(tile, half, j);
              return query.entry(half, load_element(p.dense_key, i, p.dtype),
                                 load_element(p.dense_key, i + 1, p.dtype));
            },
            low, high);
        const int token = from + 4 * q + (g >> 2);
        low = token < n_dense ? low : -INFINITY;
        high = token + 2 < n_dense ? high : -INFINITY;
        const unsigned own = softmax_step(low, high, state, acc);
        value_step(acc, own, lane, [&](int tile, int half, int j) {
          const std::int64_t i = at(tile, half, j);
          return pack_half2_finite(load_element(p.dense_value, i, p.dtype),
                                   load_element(p.dense_value, i + 1, p.dtype));
        });
      }
    }

    // Merge the warps: a lane holds its own sub-spaces' dims for all four heads.
    float* merge = reinterpret_cast<float*>(shared(kMerge));
    float2* stats = reinterpret_cast<float2*>(shared(kStats));
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const float(&a)[4] = acc[half][pair];
        float* to = merge + (warp * kHeads + 2 * pair) * kHeadDim + 2 * (lane + 32 * half);
        *reinterpret_cast<float2*>(to) = make_float2(a[0], a[2]);
        *reinterpret_cast<float2*>(to + kHeadDim) = make_float2(a[1], a[3]);
      }
    float sum = state.sum;
    sum += __shfl_xor_sync(kFull, sum, 1);
    sum += __shfl_xor_sync(kFull, sum, 2);
    sum += __shfl_xor_sync(kFull, sum, 16);
    if (g < kHeads && q == 0) stats[warp * kHeads + g] = make_float2(state.shifted, sum);
    __syncthreads();
    const int item = hp * p.batch + sequence;
    for (int i = tid; i < kHeads * kHeadDim; i += kThreads) {
      const int head = i / kHeadDim, dim = i % kHeadDim;
      float top = -1e30f, o = 0, l = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) top = fmaxf(top, stats[w * kHeads + head].x);
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float2 s = stats[w * kHeads + head];
        const float r = exp2_fast(s.x - top);
        l += r * s.y;
        o += r * merge[(w * kHeads + head) * kHeadDim + dim];
      }
      const float mean_o = l > 0 ? o / l : 0.f, lse = l > 0 ? top + log2f(l) : -INFINITY;
      if (n_pieces == 1) {
        if (head < heads) emit<kHeadDim>(p, row + head, dim, mean_o, lse + mean_score[head]);
      } else {
        const std::int64_t slot = static_cast<std::int64_t>(blockIdx.x + item) * kHeads + head;
        args.partial_o[slot * kHeadDim + dim] = mean_o;
        if (dim == 0) args.partial_lse[slot] = lse;
      }
    }
    if (n_pieces > 1)
      combine_pieces<kHeadDim, kHeads, kWarps>(args, walk, item, first_cta, n_pieces, heads, row,
                                               mean_score);
    if (!next_item(p, walk, item_units)) return;
  }
}

}  // namespace vi::cuda::lookup_d2
