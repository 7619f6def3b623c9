// gather: one decode step of attention over vector-quantised K and V whose codebooks lie in shared
// memory as they are: centroids are looked up straight into mma fragments. VecInfer sec. 3.4, Eq.
// 10 Computes   o = softmax(q K^T * scale) V over coded tokens and exact ones; lse in log2 Oracle
// oracle.h      Test tests/cuda/decode_attention_test.cpp Essay docs/kernels/decode_attention.md
// Shapes     head_dim 64|128, dsub 2|4|8, 8, 10 or 12 bits, where both books (times their copies)
//            take at most 192 KiB; 8 or 16 query heads a pass
// Launch     persistent, one CTA a SM, runs of units as in walk.cuh
// Traffic    per token and KV head the codes; per CTA and KV head both books
// Roofline   shared memory: d4b12, head_dim 128: 64 look-ups of 8 bytes = 4 cycles without bank
//            conflicts, 9.4 with those of random codes over so many copies
// Numerics   q and centroids as stored (f16), probabilities f16 shifted up by 2^14, all sums f32
// Design     A chunk is 32 tokens (two blocks of the code layout), taken as two tiles of 16. Keys
// are
//   the A operand: lane (g, q) looks up tokens 4g + j of sub-spaces 4i + q, an entry's words ARE
//   the fragment's registers (dims permuted alike in the query fragments). Two movmatrix turn
//   scores into the B operand of V; lane (g, q) then looks up tokens 8q.. of sub-spaces 8i + g. So
//   nothing depends on the number of heads but the mma count. Random codes meet in banks: entry c
//   lies kCopies times, side by side, and a lane reads copy lane % kCopies, which halves the banks
//   that can meet for each doubling.
#pragma once

#include "cuda/decode_attention/walk.cuh"

namespace vi::cuda::gather {

constexpr int kChunk = 32;

template <int kHeadDim, int kDsub_, int kBits, int kCopies_, bool kShared_>
struct Side {
  static constexpr int kDsub = kDsub_, kCopies = kCopies_, kHigh = kBits - 8;
  static constexpr bool kShared = kShared_;
  static constexpr int kBooks = kHeadDim / kDsub, kKsub = 1 << kBits, kWords = kDsub / 2;
  static constexpr int kEntry = 2 * kDsub, kStride = kEntry * kCopies;  // bytes
  static constexpr int kBook = kKsub * kStride, kTable = (kShared ? 1 : kBooks) * kBook;
  static constexpr int kBlock = kBooks * 2 * kBits;  // bytes of a block of 16 tokens
  static_assert(kBooks % 8 == 0 && kHigh >= 0 && kHigh % 2 == 0 && kHigh <= 4);
};

template <int kHeadDim, int kNTiles>
struct Shape {
  static constexpr int kHeads = 8 * kNTiles, kWarps = kNTiles == 1 ? 16 : 12;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kMerge = kWarps * 4 * kHeadDim * 4;  // f32 [kWarps][4][head_dim]
  static constexpr int kStats = kWarps * kHeads * 8;        // float2 [kWarps][kHeads]
  static constexpr int kPlan = 48 * 4;
};
template <int kHeadDim, class K, class V, int kNTiles>
constexpr int shared_bytes() {
  using S = Shape<kHeadDim, kNTiles>;
  return K::kTable + V::kTable + S::kMerge + S::kStats + S::kPlan;
}

__device__ __forceinline__ unsigned transpose8x8(unsigned v) {
  unsigned r;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0,%1;" : "=r"(r) : "r"(v));
  return r;
}

// The high bits of four codes (kHigh each, in the low bits of v) in a byte each.
template <int kHigh>
__device__ __forceinline__ unsigned spread(unsigned v) {
  if constexpr (kHigh == 4) {
    v = (v | v << 8) & 0x00ff00ffu;
    return (v | v << 4) & 0x0f0f0f0fu;
  } else {
    v = (v | v << 12) & 0x000f000fu;
    return (v | v << 6) & 0x03030303u;
  }
}
// Code j of four.
template <int kHigh>
__device__ __forceinline__ unsigned code_of(unsigned low, unsigned high, int j) {
  if constexpr (kHigh == 0) return __byte_perm(low, 0, 0x4440 | j);
  const unsigned pair = __byte_perm(low, high, j < 2 ? 0x5140 : 0x7362);
  return j & 1 ? pair >> 16 : pair & 0xffffu;
}

// An entry of a table in shared memory.
template <int kWords>
__device__ __forceinline__ void load_entry(const unsigned char* from, unsigned* w) {
  if constexpr (kWords == 1) {
    w[0] = *reinterpret_cast<const unsigned*>(from);
  } else if constexpr (kWords == 2) {
    const uint2 v = *reinterpret_cast<const uint2*>(from);
    w[0] = v.x;
    w[1] = v.y;
  } else {
    const uint4 v = *reinterpret_cast<const uint4*>(from);
    w[0] = v.x;
    w[1] = v.y;
    w[2] = v.z;
    w[3] = v.w;
  }
}

// Two consecutive elements of an f16 or bf16 row as half2.
__device__ __forceinline__ unsigned load_two(const void* p, std::int64_t i, Dtype dtype) {
  const unsigned w =
      __ldg(reinterpret_cast<const unsigned*>(static_cast<const std::uint16_t*>(p) + i));
  return dtype == Dtype::f16
             ? w
             : pack_half2_finite(__uint_as_float(w << 16), __uint_as_float(w & 0xffff0000u));
}

// Copies a side's book of KV head h into shared memory, each entry kCopies times.
template <class S, int kThreads>
__device__ __forceinline__ void fill_table(const CodedSide& side, int h, unsigned char* table) {
  constexpr int kEntries = (S::kShared ? 1 : S::kBooks) * S::kKsub;
  const auto* from = static_cast<const unsigned char*>(side.centroids) +
                     static_cast<std::int64_t>(h) * kEntries * S::kEntry;
  for (int c = threadIdx.x; c < kEntries; c += kThreads) {
    unsigned w[S::kWords];
    if constexpr (S::kWords == 1) {
      w[0] = __ldg(reinterpret_cast<const unsigned*>(from) + c);
    } else if constexpr (S::kWords == 2) {
      const uint2 v = __ldg(reinterpret_cast<const uint2*>(from) + c);
      w[0] = v.x;
      w[1] = v.y;
    } else {
      const uint4 v = __ldg(reinterpret_cast<const uint4*>(from) + c);
      w[0] = v.x;
      w[1] = v.y;
      w[2] = v.z;
      w[3] = v.w;
    }
    // 16 bytes at a time; threads start at different copies, or they would all meet in a few banks
    constexpr int kStores = S::kStride >= 16 ? S::kStride / 16 : 1;
    if constexpr (S::kStride < 16) {
      auto* to = reinterpret_cast<unsigned*>(table + c * S::kStride);
#pragma unroll
      for (int i = 0; i < S::kStride / 4; ++i) to[i] = w[i % S::kWords];
    } else {
      auto* to = reinterpret_cast<uint4*>(table + c * S::kStride);
#pragma unroll
      for (int i = 0; i < kStores; ++i)
        to[(i + threadIdx.x) % kStores] =
            make_uint4(w[0], w[1 % S::kWords], w[2 % S::kWords], w[3 % S::kWords]);
    }
  }
}

template <int kHeadDim, class K, class V, int kNTiles>
__global__ void __launch_bounds__(Shape<kHeadDim, kNTiles>::kThreads, 1)
    decode(const __grid_constant__ WalkArgs args) {
  using S = Shape<kHeadDim, kNTiles>;
  constexpr int kWarps = S::kWarps, kThreads = S::kThreads, kHeads = S::kHeads;
  constexpr int kKeyBooks = K::kBooks / 4, kValueBooks = V::kBooks / 8;  // of a lane
  constexpr int kSteps = kHeadDim / 16, kTiles = kHeadDim / 16;
  extern __shared__ __align__(1024) unsigned char smem[];
  unsigned char* key_table = smem;
  unsigned char* value_table = smem + K::kTable;
  float* merge = reinterpret_cast<float*>(smem + K::kTable + V::kTable);
  float2* stats = reinterpret_cast<float2*>(smem + K::kTable + V::kTable + S::kMerge);
  int* plan = reinterpret_cast<int*>(smem + K::kTable + V::kTable + S::kMerge + S::kStats);
  volatile int* walk = plan + 32;
  const DecodeParams& p = args.p;
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, g = lane >> 2, q = lane & 3;
  if (!find_run<kWarps>(args, plan, walk)) return;
  const int group = p.n_q_heads / p.n_kv_heads, passes = args.passes;
  const int page_blocks = p.block_table ? p.page_tokens / 16 : 1 << 30;
  const float scale = p.scale * kLog2e;
  // Byte offsets of the lane's copy (and of its first sub-space) in the tables.
  const unsigned key_lane = lane % K::kCopies * K::kEntry + (K::kShared ? 0 : q * K::kBook),
                 value_lane = lane % V::kCopies * V::kEntry + (V::kShared ? 0 : g * V::kBook);
  int table_head = -1;

  for (;;) {
    const int b = walk[kSequence], len = p.kv_len[b], last_block = max((len + 15) / 16 - 1, 0);
    const int item_start = walk[kItemStart], head_pass = walk[kHeadPass];
    const int chunk0 = (walk[kAt] - item_start) * (kUnit / kChunk);
    const int chunk1 =
        min((len + kChunk - 1) / kChunk, (walk[kEnd] - item_start) * (kUnit / kChunk));
    const int h = head_pass / passes, first_head = head_pass % passes * kHeads,
              n_heads = min(kHeads, group - first_head);
    const int q_row = b * p.n_q_heads + h * group + first_head;
    // Without codes there may be none to fetch: any bytes do.
    const auto* key_codes = len > 0 ? p.key.codes + h * p.key.head_stride
                                    : static_cast<const std::uint8_t*>(p.key.centroids);
    const auto* value_codes = len > 0 ? p.value.codes + h * p.value.head_stride
                                      : static_cast<const std::uint8_t*>(p.value.centroids);

    // Codes of a chunk: keys of block g / 4, tokens 4 (g % 4)..; values of block q / 2, tokens
    // 8 (q % 2).. Past the end they are the last block's again, and their scores are never used.
    unsigned key_low[kKeyBooks], key_high[kKeyBooks] = {}, value_high[kValueBooks] = {};
    uint2 value_low[kValueBooks];
    const auto page_of = [&](int block) {
      block = min(block, last_block);
      if (len == 0) return 0;
      return p.block_table ? __ldg(p.block_table + static_cast<std::int64_t>(b) * p.max_pages +
                                   block / page_blocks)
                           : b;
    };
    const auto load_keys = [&](int chunk, int page) {
      const int block = min(2 * chunk + (g >> 2), last_block) % page_blocks;
      const std::uint8_t* from =
          key_codes + page * p.key.outer_stride + static_cast<std::int64_t>(block) * K::kBlock;
#pragma unroll
      for (int i = 0; i < kKeyBooks; ++i)
        key_low[i] = load_u32(from + (4 * i + q) * 16 + (g & 3) * 4);
      if constexpr (K::kHigh > 0) {
        from += K::kBooks * 16 + q * 2 * K::kHigh + (g & 3) * (K::kHigh / 2);
#pragma unroll
        for (int i = 0; i < kKeyBooks; ++i) {
          const std::uint8_t* at = from + i * 8 * K::kHigh;
          key_high[i] = K::kHigh == 4 ? load_u16(at) : load_u8(at);
        }
      }
    };
    const auto load_values = [&](int chunk, int page) {
      const int block = min(2 * chunk + (q >> 1), last_block) % page_blocks;
      const std::uint8_t* from =
          value_codes + page * p.value.outer_stride + static_cast<std::int64_t>(block) * V::kBlock;
#pragma unroll
      for (int i = 0; i < kValueBooks; ++i) {
        value_low[i] = load_u64(from + (8 * i + g) * 16 + (q & 1) * 8);
      }
      if constexpr (V::kHigh > 0) {
        from += V::kBooks * 16 + g * 2 * V::kHigh + (q & 1) * V::kHigh;
#pragma unroll
        for (int i = 0; i < kValueBooks; ++i) {
          const std::uint8_t* at = from + i * 16 * V::kHigh;
          value_high[i] = V::kHigh == 4 ? load_u32(at) : load_u16(at);
        }
      }
    };

    // No branch around the loads: it would make copies of the codes, and the copies wait for them.
    int chunk = chunk0 + warp;
    load_keys(chunk, page_of(2 * chunk + (g >> 2)));
    load_values(chunk, page_of(2 * chunk + (q >> 1)));
    int key_page = page_of(2 * (chunk + kWarps) + (g >> 2)),
        value_page = page_of(2 * (chunk + kWarps) + (q >> 1));
    unsigned query[kNTiles][kSteps][2];
#pragma unroll
    for (int n = 0; n < kNTiles; ++n) {
      const int head = 8 * n + g;
      const std::int64_t at = static_cast<std::int64_t>(q_row + min(head, n_heads - 1)) * kHeadDim;
#pragma unroll
      for (int u = 0; u < 2 * kSteps; ++u) {
        const unsigned w =
            load_two(p.q, at + (4 * (u / K::kWords) + q) * K::kDsub + 2 * (u % K::kWords), p.dtype);
        query[n][u / 2][u % 2] = head < n_heads ? w : 0u;
      }
    }
    if (len > 0 && table_head != h) {  // the same for all threads
      fill_table<K, kThreads>(p.key, h, key_table);
      fill_table<V, kThreads>(p.value, h, value_table);
      table_head = h;
      __syncthreads();
    }

    float acc[kNTiles][kTiles][4] = {}, top[kNTiles][2], sum[kNTiles][2] = {};
#pragma unroll
    for (int n = 0; n < kNTiles; ++n) top[n][0] = top[n][1] = -1e30f;

    // 16 tokens. key(i, row, words): the entry of the lane's i-th key sub-space for row g + 8 row;
    // value(i, k, words): likewise for the lane's k-th token; live(row): does row g + 8 row count.
    const auto tile = [&](auto key, auto value, auto live) {
      constexpr int kGroup = K::kWords == 1 ? 2 : 1;
      float s[kNTiles][4] = {};
#pragma unroll
      for (int i = 0; i < kKeyBooks; i += kGroup) {
        unsigned x[2][kGroup * K::kWords];
#pragma unroll
        for (int e = 0; e < kGroup; ++e)
#pragma unroll
          for (int row = 0; row < 2; ++row) key(i + e, row, &x[row][e * K::kWords]);
#pragma unroll
        for (int e = 0; e < kGroup * K::kWords / 2; ++e)
#pragma unroll
          for (int n = 0; n < kNTiles; ++n) {
            const unsigned(&f)[2] = query[n][i * K::kWords / 2 + e];
            mma_f16(s[n], x[0][2 * e], x[1][2 * e], x[0][2 * e + 1], x[1][2 * e + 1], f[0], f[1]);
          }
      }
      unsigned prob[kNTiles][2];
#pragma unroll
      for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) s[n][i] = live(i >> 1) ? s[n][i] * scale : -INFINITY;
        const float high[2] = {fmaxf(s[n][0], s[n][2]), fmaxf(s[n][1], s[n][3])};
        if (__any_sync(kFull, high[0] > top[n][0] || high[1] > top[n][1])) {  // rare: slack
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float next = high[e];
#pragma unroll
            for (int step = 4; step < 32; step *= 2)
              next = fmaxf(next, __shfl_xor_sync(kFull, next, step));
            next = next > top[n][e] ? next + kSlack : top[n][e];
            const float shrink = exp2_fast(top[n][e] - next);
            top[n][e] = next;
            sum[n][e] *= shrink;
#pragma unroll
            for (int t = 0; t < kTiles; ++t) {
              acc[n][t][e] *= shrink;
              acc[n][t][e + 2] *= shrink;
            }
          }
        }
        const float base[2] = {top[n][0] - kShift, top[n][1] - kShift};
#pragma unroll
        for (int row = 0; row < 2; ++row) {
          const unsigned w = pack_half2(exp2_fast(s[n][2 * row] - base[0]),
                                        exp2_fast(s[n][2 * row + 1] - base[1]));
          const float2 rounded = unpack_half2(w);
          sum[n][0] += rounded.x;
          sum[n][1] += rounded.y;
          prob[n][row] = transpose8x8(w);
        }
      }
#pragma unroll
      for (int i = 0; i < kValueBooks; ++i) {
        unsigned x[4][V::kWords];
#pragma unroll
        for (int k = 0; k < 4; ++k) value(i, k, x[k]);
#pragma unroll
        for (int w = 0; w < V::kWords; ++w) {
          const unsigned a0 = __byte_perm(x[0][w], x[1][w], 0x5410),
                         a1 = __byte_perm(x[0][w], x[1][w], 0x7632),
                         a2 = __byte_perm(x[2][w], x[3][w], 0x5410),
                         a3 = __byte_perm(x[2][w], x[3][w], 0x7632);
#pragma unroll
          for (int n = 0; n < kNTiles; ++n)
            mma_f16(acc[n][i * V::kWords + w], a0, a1, a2, a3, prob[n][0], prob[n][1]);
        }
      }
    };

#pragma unroll 1
    for (; chunk < chunk1; chunk += kWarps) {
      const int rest = len - chunk * kChunk - 4 * g;  // tokens from the lane's first to the end
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        tile(
            [&](int i, int row, unsigned* w) {
              const unsigned high =
                  K::kHigh > 0 ? spread < K::kHigh == 0 ? 4 : K::kHigh > (key_high[i]) : 0u;
              const unsigned code = code_of<K::kHigh>(key_low[i], high, 2 * t + row);
              load_entry<K::kWords>(
                  key_table + key_lane + (K::kShared ? 0 : i * 4 * K::kBook) + code * K::kStride,
                  w);
            },
            [&](int i, int k, unsigned* w) {
              const unsigned bits = k & 1 ? value_high[i] >> (4 * V::kHigh)
                                          : value_high[i] & ((1u << (4 * V::kHigh)) - 1u);
              const unsigned high =
                  V::kHigh > 0 ? spread < V::kHigh == 0 ? 4 : V::kHigh > (bits) : 0u;
              const unsigned code = code_of<V::kHigh>(k & 1 ? value_low[i].y : value_low[i].x, high,
                                                      2 * t + (k >> 1));
              load_entry<V::kWords>(value_table + value_lane + (V::kShared ? 0 : i * 8 * V::kBook) +
                                        code * V::kStride,
                                    w);
            },
            [&](int row) { return 2 * t + row < rest; });
      }
      load_keys(chunk + kWarps, key_page);
      load_values(chunk + kWarps, value_page);
      key_page = page_of(2 * (chunk + 2 * kWarps) + (g >> 2));
      value_page = page_of(2 * (chunk + 2 * kWarps) + (q >> 1));
    }

    // Exact tokens (sinks, window): tiles of 16, dealt to the pieces of the item and there to the
    // warps, last warp first.
    const int item_units = max(1, (len + kUnit - 1) / kUnit);
    const int first_cta = item_start / walk[kPer], piece = static_cast<int>(blockIdx.x) - first_cta;
    const int n_pieces = (item_start + item_units - 1) / walk[kPer] - first_cta + 1;
    const int n_dense = p.dense_len ? p.dense_len[b] : 0;
    const std::int64_t dense =
        (static_cast<std::int64_t>(b) * p.n_kv_heads + h) * p.dense_capacity * kHeadDim;
#pragma unroll 1
    for (int first = 16 * (piece + n_pieces * (kWarps - 1 - warp)); first < n_dense;
         first += 16 * n_pieces * kWarps) {
      const auto row_of = [&](int t) {
        return dense + static_cast<std::int64_t>(min(first + t, n_dense - 1)) * kHeadDim;
      };
      tile(
          [&](int i, int row, unsigned* w) {
#pragma unroll
            for (int u = 0; u < K::kWords; ++u)
              w[u] = load_two(p.dense_key, row_of(g + 8 * row) + (4 * i + q) * K::kDsub + 2 * u,
                              p.dtype);
          },
          [&](int i, int k, unsigned* w) {
#pragma unroll
            for (int u = 0; u < V::kWords; ++u)
              w[u] = load_two(
                  p.dense_value,
                  row_of(2 * q + (k & 1) + 8 * (k >> 1)) + (8 * i + g) * V::kDsub + 2 * u, p.dtype);
          },
          [&](int row) { return first + g + 8 * row < n_dense; });
    }

    // Merge the warps, four heads at a time.
    const int item = head_pass * p.batch + b;
#pragma unroll
    for (int n = 0; n < kNTiles; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
#pragma unroll
        for (int step = 4; step < 32; step *= 2)
          sum[n][e] += __shfl_xor_sync(kFull, sum[n][e], step);
        if (g == 0)
          stats[warp * kHeads + 8 * n + 2 * q + e] = make_float2(top[n][e] - kShift, sum[n][e]);
      }
#pragma unroll
    for (int round = 0; round < kHeads / 4; ++round) {
      if (4 * round >= n_heads) break;
      if (round > 0) __syncthreads();
      if ((q >> 1) == (round & 1)) {
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          const int dim = (8 * (t / V::kWords) + g) * V::kDsub + 2 * (t % V::kWords);
          float* to = merge + (warp * 4 + 2 * (q & 1)) * kHeadDim + dim;
          const float(&a)[4] = acc[round / 2][t];
          *reinterpret_cast<float2*>(to) = make_float2(a[0], a[2]);
          *reinterpret_cast<float2*>(to + kHeadDim) = make_float2(a[1], a[3]);
        }
      }
      __syncthreads();
      for (int i = tid; i < 4 * kHeadDim; i += kThreads) {
        const int head = 4 * round + i / kHeadDim, dim = i % kHeadDim;
        if (head >= n_heads) continue;
        float high = -1e30f, o = 0, l = 0;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) high = fmaxf(high, stats[w * kHeads + head].x);
#pragma unroll
        for (int w = 0; w < kWarps; ++w) {
          const float2 st = stats[w * kHeads + head];
          const float r = exp2_fast(st.x - high);
          l += r * st.y;
          o += r * merge[(w * 4 + i / kHeadDim) * kHeadDim + dim];
        }
        const float mean = l > 0 ? o / l : 0.f, lse = l > 0 ? high + log2f(l) : -INFINITY;
        if (n_pieces == 1) {
          emit<kHeadDim>(p, q_row + head, dim, mean, lse);
        } else {
          const std::int64_t slot = static_cast<std::int64_t>(blockIdx.x + item) * kHeads + head;
          args.partial_o[slot * kHeadDim + dim] = mean;
          if (dim == 0) args.partial_lse[slot] = lse;
        }
      }
    }
    if (n_pieces > 1)
      combine_pieces<kHeadDim, kHeads, kWarps>(args, walk, item, first_cta, n_pieces, n_heads,
                                               q_row, nullptr);
    if (!next_item(p, walk, item_units)) return;
  }
}

}  // namespace vi::cuda::gather
