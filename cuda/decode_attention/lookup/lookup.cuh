// lookup: one decode step of attention over 8-bit vector-quantised K and V, tables in shared
// memory, every cross-lane step on tensor cores. VecInfer sec. 3.4, Eq. 10 Computes   o = softmax(q
// K^T * scale) V over coded tokens and exact ones (window, sinks); lse in log2 Oracle     oracle.h
// Test tests/cuda/decode_attention_test.cpp   Essay docs/kernels/decode_attention.md Shapes
// head_dim 64|128, dsub 4|8 (8 or more sub-spaces), 8 bits, GQA 1..16 in passes of four heads
// Launch     persistent: n_ctas CTAs of 16 warps, one a SM. Work = units of 64 tokens of items (KV
// head, pass,
//            sequence), concatenated; each CTA takes an equal run, so ragged batches balance; the
//            last CTA to finish a piece of an item combines its pieces in order (fixed order:
//            bitwise repeatable)
// Requires   227 KiB of shared memory (sm_90, sm_100), window at 1 KiB (checked), codes 16-byte
// aligned Traffic    per token and KV head: n_books bytes a side; per CTA and KV head 2 x 256 x
// head_dim x 2 B of books Roofline   d4b8, head_dim 128: 64 B a token = 4.9 clk/SM at 3.0 TB/s;
// look-ups: 32 lanes x 4 words = 4 clk Numerics   look-up entries, sums of four of them and
// probabilities f16, other sums f32. The mean centroid's score is taken out of each
//            entry (free under softmax), p = 2^(s - m) is shifted up by 2^14, its sum is of the
//            rounded values
// Design     K: lane = sub-space; tables are entry-major, so lane l only meets its own banks
// whatever the codes.
//   The two words of an entry (heads 01, 23) ARE a B fragment; A = constant selectors puts (token,
//   head) in rows; a second mma sums the 8 lane groups and routes them so that lane (g, q) ends
//   with head g%4, block q. V: lane (g, q) takes the tokens of block q and, one after another,
//   sub-spaces 8i + g: a row of A = V^T is then filled by the four lanes of a quad. They would meet
//   in one bank: the table holds each word twice, and lanes q >= 2 read the words of a pair in the
//   other order (their sums go to columns of their own and are added at the end). One shuffle
//   brings P into B fragments for all of head_dim.
#pragma once

#include "cuda/decode_attention/walk.cuh"

namespace vi::cuda::lookup {

constexpr int kWarps = 16, kThreads = kWarps * 32, kHeads = 4, kKsub = 256;
constexpr unsigned kWindow =
    0x400;  // where dynamic shared memory starts on sm_90: checked, not assumed

struct Place {  // where the codes of an item lie, for the lanes that add their own part
  const std::uint8_t *key, *value;
  int unit1, last_block;
};

template <int kHeadDim, int kDsubK, int kDsubV>
struct Shape {
  static constexpr int kBooksK = kHeadDim / kDsubK, kBooksV = kHeadDim / kDsubV;
  static_assert(kBooksK == 8 || kBooksK == 16 || kBooksK == 32, "a warp holds whole blocks' keys");
  static constexpr int kCopiesK = kBooksK == 8 ? 2 : 1;  // of a key entry: half a warp reads 16
  static_assert(kBooksV % 8 == 0 && kDsubV % 4 == 0, "values come in pairs of words");
  static constexpr int kTiles =
      kBooksK / 8;  // score tiles of a step (each a warp-wide row of look-ups)
  static constexpr int kKeyLoads = kBooksK / 8;  // 16-byte loads of key codes a lane and unit
  static constexpr int kValueLoads = kBooksV / 8;
  static constexpr int kPairs = kDsubV / 4;     // word pairs of a value entry
  static constexpr int kRows = kHeadDim / 32;   // 128-byte rows of the value table an entry
  static constexpr int kChunks = kHeadDim / 4;  // 8-byte chunks of a value entry
  static constexpr unsigned kKeyTable = kWindow, kValueTable = kKeyTable + 0x10000;
  static constexpr unsigned kMerge =
      kValueTable + (kRows / 2) * 0x10000;  // f32 [kWarps][4][head_dim]
  static constexpr unsigned kStats = kMerge + kWarps * kHeads * kHeadDim * 4;  // float2 [kWarps][4]
  static constexpr unsigned kPlan = kStats + kWarps * kHeads * 8;              // int [56], Place
  static constexpr unsigned kBytes = kPlan + 56 * 4 + sizeof(Place) - kWindow;
};

struct State {  // of one warp: head g%4 of lane (g, q)
  float top = -1e30f, shifted = -1e30f, sum = 0;
};

// Scores of 16 tokens: fetch(tile, j) gives the entry's words (heads 01, heads 23) of this lane's
// sub-space for token j of the tile's block. Lane (g, q) gets head g%4, block q, tokens g/4 and g/4
// + 2 of the four. select: A fragments that put the four heads of a token in rows 0..3 or 4..7
// (rows 8..15 repeat them, unused).
template <int kTiles, class Fetch>
__device__ __forceinline__ void score_step(const uint4 (&select)[2], const unsigned (&route)[4],
                                           Fetch fetch, float& low, float& high) {
  float r[4] = {0, 0, 0, 0};
#pragma unroll
  for (int pair = 0; pair < (kTiles + 1) / 2; ++pair) {
    unsigned a[4] = {0, 0, 0, 0};
#pragma unroll
    for (int half = 0; half < (kTiles > 1 ? 2 : 1); ++half) {
      float d[2][4] = {};  // tokens 0, 1 and tokens 2, 3
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint2 w = fetch(2 * pair + half, j);
        const uint4& e = select[j & 1];
        mma_f16(d[j >> 1], e.x, e.y, e.z, e.w, w.x, w.y);
      }
      a[2 * half] = pack_half2_finite(d[0][0], d[0][1]);
      a[2 * half + 1] = pack_half2_finite(d[1][0], d[1][1]);
    }
    mma_f16(r, a[0], a[1], a[2], a[3], route[2 * pair], route[2 * pair + 1]);
  }
  low = r[0];
  high = r[2];
}

// acc += V^T P for 16 tokens: fetch(row, i, j) gives word i of value row `row` for this lane's
// token j.
template <int kRows, class Fetch>
__device__ __forceinline__ void value_step(float (&acc)[kRows][2][4], unsigned b0, unsigned b1,
                                           Fetch fetch) {
#pragma unroll
  for (int row = 0; row < kRows; ++row)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      unsigned x[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) x[j] = fetch(row, i, j);
      mma_f16(acc[row][i], __byte_perm(x[0], x[2], 0x5410), __byte_perm(x[0], x[2], 0x7632),
              __byte_perm(x[1], x[3], 0x5410), __byte_perm(x[1], x[3], 0x7632), b0, b1);
    }
}

// Online softmax over 16 tokens; b0, b1: the B fragment of their probabilities for value_step.
template <int kRows>
__device__ __forceinline__ void softmax_step(float low, float high, State& s,
                                             float (&acc)[kRows][2][4], int lane, unsigned& b0,
                                             unsigned& b1) {
  const int g = lane >> 2, q = lane & 3;
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
    const float r0 = __shfl_sync(kFull, shrink, 8 * (q & 1)),
                r1 = __shfl_sync(kFull, shrink, 8 * (q & 1) + 4);
#pragma unroll
    for (int row = 0; row < kRows; ++row)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        acc[row][i][0] *= r0;
        acc[row][i][1] *= r1;
        acc[row][i][2] *= r0;
        acc[row][i][3] *= r1;
      }
  }
  const unsigned own = pack_half2(exp2_fast(low - s.shifted), exp2_fast(high - s.shifted));
  const float2 rounded = unpack_half2(own);
  s.sum += rounded.x + rounded.y;
  const unsigned other = __shfl_xor_sync(kFull, own, 16);
  const bool upper = g >= 4, active = (q >> 1) == (g >> 2);
  b0 = active ? (upper ? other : own) : 0u;  // tokens 0, 2
  b1 = active ? (upper ? own : other) : 0u;  // tokens 1, 3
}

// A score entry: four heads as two words.
__device__ __forceinline__ uint2 entry_words(const float (&s)[kHeads]) {
  return make_uint2(pack_half2_finite(s[0], s[1]), pack_half2_finite(s[2], s[3]));
}

// The lane's sub-vector of four queries, scaled, and what the mean key takes out of its entries.
template <int kDsubK>
__device__ __forceinline__ void load_query(const DecodeParams& p, int q_row, int n_heads, int h,
                                           int book, int head_dim, float (&query)[kHeads][kDsubK],
                                           float (&offset)[kHeads]) {
  const float scale = p.scale * kLog2e;
#pragma unroll
  for (int i = 0; i < kHeads; ++i) offset[i] = 0;
#pragma unroll
  for (int d = 0; d < kDsubK; d += 4) {
    float4 v[kHeads];
    const float4 mean =
        __ldg(reinterpret_cast<const float4*>(p.key.mean + h * head_dim + book * kDsubK + d));
#pragma unroll
    for (int i = 0; i < kHeads; ++i)
      v[i] = load_four(
          p.q,
          static_cast<std::int64_t>(q_row + min(i, n_heads - 1)) * head_dim + book * kDsubK + d,
          p.dtype);
#pragma unroll
    for (int i = 0; i < kHeads; ++i) {
      const float by = i < n_heads ? scale : 0.f;
      query[i][d] = v[i].x * by;
      query[i][d + 1] = v[i].y * by;
      query[i][d + 2] = v[i].z * by;
      query[i][d + 3] = v[i].w * by;
      offset[i] -= query[i][d] * mean.x + query[i][d + 1] * mean.y + query[i][d + 2] * mean.z +
                   query[i][d + 3] * mean.w;
    }
  }
}

template <int kHeadDim, int kDsubK, int kDsubV, bool kPaged>
__global__ void __launch_bounds__(kThreads, 1) decode(const __grid_constant__ WalkArgs args) {
  using S = Shape<kHeadDim, kDsubK, kDsubV>;
  extern __shared__ __align__(1024) unsigned char smem[];
  const DecodeParams& p = args.p;
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, g = lane >> 2, q = lane & 3;
  if (static_cast<unsigned>(__cvta_generic_to_shared(smem)) != kWindow) __trap();
  const auto shared = [&](unsigned address) { return smem + (address - kWindow); };
  int* plan = reinterpret_cast<int*>(shared(S::kPlan));
  volatile int* walk =
      plan + 32;  // of this CTA over its items; in shared memory: the main loop needs the registers
  volatile Place* place = reinterpret_cast<volatile Place*>(plan + 56);
  float* mean_score = reinterpret_cast<float*>(plan + 48);  // [4] what the mean key scores, log2

  if (!find_run<kWarps>(args, plan, walk)) return;
  const int passes = args.passes;

  // Constants of a lane.
  uint4 select[2];
  unsigned route[4];
  {
    const auto one = [](bool low, bool high) {
      return (low ? 0x3c00u : 0u) | (high ? 0x3c000000u : 0u);
    };
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      select[i].x = one(g == 4 * i, g == 4 * i + 1);
      select[i].z = one(g == 4 * i + 2, g == 4 * i + 3);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int block = S::kTiles == 4 ? i : S::kTiles == 2 ? 2 * i + (q >> 1) : q;
      route[i] = (g >> 1) == block ? 0x3c003c00u : 0u;
    }
  }
  unsigned lane_bits = lane;
  asm volatile("" : "+r"(lane_bits));
  const int book = lane % S::kBooksK, block_of_lane = lane / S::kBooksK;  // keys
  const int group = p.n_q_heads / p.n_kv_heads;

  for (;;) {
    const int b = walk[kSequence], len = p.kv_len[b], last_block = max((len + 15) / 16 - 1, 0);
    const int unit0 = walk[kAt] - walk[kItemStart];
    const int unit1 = min((len + kUnit - 1) / kUnit, walk[kEnd] - walk[kItemStart]);
    const int h = walk[kHeadPass] / passes;

    if (tid == 0) {
      place->key = p.key.codes + h * p.key.head_stride + (kPaged ? 0 : b * p.key.outer_stride);
      place->value =
          p.value.codes + h * p.value.head_stride + (kPaged ? 0 : b * p.value.outer_stride);
      if (len == 0) {  // there may be no codes to fetch: any bytes do
        place->key = static_cast<const std::uint8_t*>(p.key.by_code);
        place->value = static_cast<const std::uint8_t*>(p.value.by_code);
      }
      place->unit1 = unit1;
      place->last_block = last_block;
    }
    __syncthreads();

    // Codes: keys of blocks 4 unit + i, this lane's sub-space; values of block 4 unit + q,
    // sub-spaces 8 i + g.
    const auto page_of = [&](int unit) {
      if constexpr (!kPaged) return 0;
      return __ldg(p.block_table + walk[kSequence] * p.max_pages +
                   min(4 * unit + q, place->last_block) / (p.page_tokens / 16));
    };
    const auto load_keys = [&](int unit, int page, uint4(&codes)[S::kKeyLoads]) {
      const std::uint8_t* from = place->key + book * 16;
      const int last = place->last_block;
      if constexpr (kPaged) {  // a lane knows where block 4 unit + q lies: ask the quad lane that
                               // knows
        const unsigned slot = page * static_cast<unsigned>(p.key.outer_stride / (S::kBooksK * 16)) +
                              min(4 * unit + q, last) % (p.page_tokens / 16);
#pragma unroll
        for (int i = 0; i < S::kKeyLoads; ++i) {
          const unsigned its = __shfl_sync(kFull, slot, 4 / S::kTiles * i + block_of_lane);
          codes[i] = load_stream(from + static_cast<std::uint64_t>(its) * (S::kBooksK * 16));
        }
      } else {
#pragma unroll
        for (int i = 0; i < S::kKeyLoads; ++i) {
          const unsigned block = min(4 * unit + 4 / S::kTiles * i + block_of_lane, last);
          codes[i] = load_stream(from + static_cast<std::uint64_t>(block) * (S::kBooksK * 16));
        }
      }
    };
    const auto load_values = [&](int unit, int page, uint4(&codes)[S::kValueLoads]) {
      unsigned slot = min(4 * unit + q, place->last_block);
      if constexpr (kPaged)
        slot = page * static_cast<unsigned>(p.value.outer_stride / (S::kBooksV * 16)) +
               slot % (p.page_tokens / 16);
      const std::uint8_t* from =
          place->value + g * 16 + static_cast<std::uint64_t>(slot) * (S::kBooksV * 16);
#pragma unroll
      for (int i = 0; i < S::kValueLoads; ++i) codes[i] = load_stream(from + i * 128);
    };

    uint4 key[S::kKeyLoads] = {}, value[S::kValueLoads] = {};
    int unit = unit0 + warp, page = 0;
    // No branch around the loads: it would make copies of the codes, and the copies wait for them.
    if (len > 0) page = page_of(unit);
    load_keys(unit, page, key);
    load_values(unit, page, value);
    if (len > 0) page = page_of(unit + kWarps);

    // Tables. Values once per KV head, both copies of each word; scores of all centroids for these
    // queries.
    {
      const int first_head = walk[kHeadPass] % passes * kHeads;
      const int q_row = b * p.n_q_heads + h * group + first_head,
                n_heads = min(kHeads, group - first_head);
      float query[kHeads][kDsubK], offset[kHeads];
      load_query<kDsubK>(p, q_row, n_heads, h, book, kHeadDim, query, offset);
      if (tid < kHeads * kHeadDim / 64 &&
          b + 1 < p.batch) {  // the next item's queries, 128 bytes a thread, into L2
        const auto* next = static_cast<const std::uint16_t*>(p.q) +
                           static_cast<std::int64_t>(q_row + p.n_q_heads) * kHeadDim;
        if (tid < n_heads * kHeadDim / 64)
          asm volatile("prefetch.global.L2 [%0];" ::"l"(next + tid * 64));
      }
      if (len > 0 && walk[kTableHead] != h) {
        const int chunk = lane % S::kChunks, m = chunk / S::kPairs,
                  row = (m / 8) * S::kPairs + chunk % S::kPairs;
        constexpr int kPer = 32 / S::kChunks,
                      kSteps = kKsub / (kWarps * kPer);  // entries a warp writes at once
        const unsigned to = S::kValueTable + (row >> 1) * 0x10000 + (row & 1) * 128 + (m % 8) * 16;
        const int stride = p.value.shared ? kDsubV : kHeadDim,
                  first = warp * kPer + lane / S::kChunks;
        const __half* from = static_cast<const __half*>(p.value.by_code) +
                             (h * kKsub + first) * stride +
                             (p.value.shared ? chunk % S::kPairs : chunk) * 4;
        uint2 w[kSteps];
#pragma unroll
        for (int i = 0; i < kSteps; ++i)
          w[i] = __ldg(reinterpret_cast<const uint2*>(from + i * kWarps * kPer * stride));
#pragma unroll
        for (int i = 0; i < kSteps; ++i)
          sts128(to + (first + i * kWarps * kPer) * 256, w[i].x, w[i].x, w[i].y, w[i].y);
      }
      if (warp == 0) {
#pragma unroll
        for (int i = 0; i < kHeads; ++i) {
          float sum = offset[i];
#pragma unroll
          for (int step = 1; step < S::kBooksK; step *= 2) sum += __shfl_xor_sync(kFull, sum, step);
          if (lane == 0) mean_score[i] = -sum;
        }
      }
      if (len > 0) {
        constexpr int kPer = 32 / S::kBooksK, kSteps = kKsub / (kWarps * kPer),
                      kBatch = kDsubK == 4 ? 8 : 4;
        const int stride = p.key.shared ? kDsubK : kHeadDim, first = warp * kPer + block_of_lane;
        const __half* from = static_cast<const __half*>(p.key.by_code) +
                             (h * kKsub + first) * stride + (p.key.shared ? 0 : book * kDsubK);
#pragma unroll 1
        for (int start = 0; start < kSteps; start += kBatch) {
          uint2 w[kBatch][kDsubK / 4];
#pragma unroll
          for (int i = 0; i < kBatch; ++i)
#pragma unroll
            for (int d = 0; d < kDsubK / 4; ++d)
              w[i][d] = __ldg(reinterpret_cast<const uint2*>(
                  from + (start + i) * kWarps * kPer * stride + 4 * d));
#pragma unroll
          for (int i = 0; i < kBatch; ++i) {
            float s[kHeads] = {offset[0], offset[1], offset[2], offset[3]};
#pragma unroll
            for (int d = 0; d < kDsubK / 4; ++d) {
              const float2 lo = unpack_half2(w[i][d].x), hi = unpack_half2(w[i][d].y);
#pragma unroll
              for (int j = 0; j < kHeads; ++j)
                s[j] += query[j][4 * d] * lo.x + query[j][4 * d + 1] * lo.y +
                        query[j][4 * d + 2] * hi.x + query[j][4 * d + 3] * hi.y;
            }
            const uint2 e = entry_words(s);
            const unsigned to =
                S::kKeyTable + (first + (start + i) * kWarps * kPer) * 256 + book * 8;
            sts64(to, e.x, e.y);
            if constexpr (S::kCopiesK > 1) sts64(to + S::kBooksK * 8, e.x, e.y);
          }
        }
      }
    }
    __syncthreads();

    // Look-up addresses: byte 0 = the lane's place in an entry, byte 1 = the code.
    unsigned key_lane = lane % (S::kBooksK * S::kCopiesK) * 8,
             value_lane = g * 16 + (q >> 1) * 8 + (q & 1) * 4;
    unsigned token_lane = 16 * q + (g >> 2);
    asm volatile("" : "+r"(key_lane), "+r"(value_lane), "+r"(token_lane)::"memory");
    // An mma wants A in four consecutive registers, and rows 8..15 of the selectors do not matter:
    // constants that are needed anyway sit there, so that the fragments cost no register of their
    // own.
    select[0].y = key_lane;
    select[0].w = value_lane;
    select[1].y = token_lane;
    select[1].w = lane_bits;
    asm volatile("" : "+r"(select[0].x), "+r"(select[0].z), "+r"(select[1].x), "+r"(select[1].z));

    State state;
    float acc[S::kRows][2][4] = {};
    float low = 0, high = 0;
    const auto scores = [&](const unsigned(&codes)[S::kKeyLoads]) {
      score_step<S::kTiles>(
          select, route,
          [&](int tile, int j) {
            return lds64<S::kKeyTable>(__byte_perm(codes[tile], key_lane, 0x7604 | (j << 4)));
          },
          low, high);
    };
    const auto values = [&](const unsigned(&codes)[S::kValueLoads], unsigned b0, unsigned b1) {
      value_step<S::kRows>(acc, b0, b1, [&](int row, int i, int j) {
        const unsigned address =
            __byte_perm(codes[row / S::kPairs], value_lane, 0x7604 | (j << 4)) ^ (i == 0 ? 0u : 8u);
        switch (row) {
          case 0:
            return lds32<S::kValueTable>(address);
          case 1:
            return lds32<S::kValueTable + 128>(address);
          case 2:
            return lds32<S::kValueTable + 0x10000>(address);
          default:
            return lds32<S::kValueTable + 0x10000 + 128>(address);
        }
      });
    };
    unsigned key_word[S::kKeyLoads], value_word[S::kValueLoads];
    const auto take_key = [&](int step) {
#pragma unroll
      for (int i = 0; i < S::kKeyLoads; ++i) key_word[i] = word_of(key[i], step);
    };
    const auto take_value = [&](int step) {
#pragma unroll
      for (int i = 0; i < S::kValueLoads; ++i) value_word[i] = word_of(value[i], step);
    };
    if (unit < unit1) {
      take_key(0);
      scores(key_word);
    }
    int rest = len - unit * kUnit;  // tokens from this unit's first to the end
#pragma unroll 1
    for (; unit < place->unit1; unit += kWarps, rest -= kWarps * kUnit) {
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        if (rest < kUnit) {  // the sequence ends in this unit
          const int token = static_cast<int>(token_lane) + 4 * step;
          low = token < rest ? low : -INFINITY;
          high = token + 2 < rest ? high : -INFINITY;
        }
        unsigned b0, b1;
        softmax_step<S::kRows>(low, high, state, acc, lane_bits, b0, b1);
        // Scores of the next step first, so that their products overlap with this step's values.
        // The next codes are loaded in place as soon as these are used up, always: past the end
        // they are the last block's again (any byte is a code), and their scores are never used.
        // The other warps hide the latency.
        take_key((step + 1) % 4);
        scores(key_word);
        if (step == 2) load_keys(unit + kWarps, page, key);
        take_value(step);
        values(value_word, b0, b1);
        if (step == 3) {
          load_values(unit + kWarps, page, value);
          page = page_of(unit + 2 * kWarps);
        }
      }
    }

    // Exact tokens (sinks, window): steps of 16, dealt to the pieces of the item and there to the
    // warps, last warp first. A token scores like an entry of a codebook of its own, so all
    // numerics are those of the codes.
    const int item_start = walk[kItemStart], sequence = walk[kSequence],
              head_pass = walk[kHeadPass];
    const int item_units = max(1, (p.kv_len[sequence] + kUnit - 1) / kUnit);
    const int first_cta = item_start / walk[kPer], piece = static_cast<int>(blockIdx.x) - first_cta;
    const int n_pieces = (item_start + item_units - 1) / walk[kPer] - first_cta + 1;
    const int kv_head = head_pass / passes, first_head = head_pass % passes * kHeads,
              n_heads = min(kHeads, group - first_head);
    const int q_row = sequence * p.n_q_heads + kv_head * group + first_head;
    const int n_dense = p.dense_len ? p.dense_len[sequence] : 0;
    if (piece + n_pieces * (kWarps - 1 - warp) < (n_dense + 15) / 16) {
      float query[kHeads][kDsubK], offset[kHeads];
      load_query<kDsubK>(p, q_row, n_heads, kv_head, book, kHeadDim, query, offset);
      const std::int64_t dense = (static_cast<std::int64_t>(sequence) * p.n_kv_heads + kv_head) *
                                 p.dense_capacity * kHeadDim;
#pragma unroll 1
      for (int first = 16 * (piece + n_pieces * (kWarps - 1 - warp)); first < n_dense;
           first += 16 * n_pieces * kWarps) {
        score_step<S::kTiles>(
            select, route,
            [&](int tile, int j) {
              const int block = 4 / S::kTiles * tile + block_of_lane;
              const std::int64_t row =
                  dense +
                  static_cast<std::int64_t>(min(first + 4 * block + j, n_dense - 1)) * kHeadDim;
              float s[kHeads] = {offset[0], offset[1], offset[2], offset[3]};
#pragma unroll
              for (int d = 0; d < kDsubK; d += 4) {
                const float4 k = load_four(p.dense_key, row + book * kDsubK + d, p.dtype);
#pragma unroll
                for (int i = 0; i < kHeads; ++i)
                  s[i] += query[i][d] * k.x + query[i][d + 1] * k.y + query[i][d + 2] * k.z +
                          query[i][d + 3] * k.w;
              }
              return entry_words(s);
            },
            low, high);
        const int token = first + 4 * q + (g >> 2);
        low = token < n_dense ? low : -INFINITY;
        high = token + 2 < n_dense ? high : -INFINITY;
        unsigned b0, b1;
        softmax_step<S::kRows>(low, high, state, acc, lane, b0, b1);
        value_step<S::kRows>(acc, b0, b1, [&](int row, int i, int j) {
          const int chunk = (8 * (row / S::kPairs) + g) * S::kPairs + row % S::kPairs;
          const std::int64_t from =
              dense + static_cast<std::int64_t>(min(first + 4 * q + j, n_dense - 1)) * kHeadDim;
          const float4 v = load_four(p.dense_value, from + chunk * 4, p.dtype);
          return (i == 0) == (q < 2) ? pack_half2(v.x, v.y) : pack_half2(v.z, v.w);
        });
      }
    }

    // Merge the warps. Columns of acc: (word order, head): bring the two word orders together, then
    // by dims.
    float* merge = reinterpret_cast<float*>(shared(S::kMerge));
    float2* stats = reinterpret_cast<float2*>(shared(S::kStats));
#pragma unroll
    for (int row = 0; row < S::kRows; ++row) {
      float o[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) o[i] = acc[row][0][i] + __shfl_xor_sync(kFull, acc[row][1][i], 2);
      const int dim = (8 * (row / S::kPairs) + g) * kDsubV + (row % S::kPairs) * 4 + 2 * (q >> 1);
      float* to = merge + (warp * kHeads + 2 * (q & 1)) * kHeadDim + dim;
      *reinterpret_cast<float2*>(to) = make_float2(o[0], o[2]);
      *reinterpret_cast<float2*>(to + kHeadDim) = make_float2(o[1], o[3]);
    }
    float sum = state.sum;
    sum += __shfl_xor_sync(kFull, sum, 1);
    sum += __shfl_xor_sync(kFull, sum, 2);
    sum += __shfl_xor_sync(kFull, sum, 16);
    if (g < kHeads && q == 0) stats[warp * kHeads + g] = make_float2(state.shifted, sum);
    __syncthreads();

    const int item = head_pass * p.batch + sequence;
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
        if (head < n_heads) emit<kHeadDim>(p, q_row + head, dim, mean_o, lse + mean_score[head]);
      } else {
        const std::int64_t slot = static_cast<std::int64_t>(blockIdx.x + item) * kHeads + head;
        args.partial_o[slot * kHeadDim + dim] = mean_o;
        if (dim == 0) args.partial_lse[slot] = lse;
      }
    }
    if (n_pieces > 1)
      combine_pieces<kHeadDim, kHeads, kWarps>(args, walk, item, first_cta, n_pieces, n_heads,
                                               q_row, mean_score);
    if (tid == 0 && p.kv_len[sequence] > 0) walk[kTableHead] = kv_head;  // read behind a barrier
    if (!next_item(p, walk, item_units)) return;
  }
}

}  // namespace vi::cuda::lookup
