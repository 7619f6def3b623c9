// encode: rows of K or V to packed codes in one kernel: center, scale, Hadamard or dense map,
// nearest centroid, pack. Oracle     oracle.h: oracle_codes      Test tests/cuda/encode_test.cpp
// Essay docs/kernels/encode.md Shapes     see params.h; `tile`: 128 tokens of one KV head a CTA
// (prefill) or 32 (a window's step); `row`: one new token a sequence (decode) Launch     tile: grid
// (token tiles, n_kv_heads, batch), 16 warps, a warp takes a sub-space at a time, a lane four tokens
//            or one; row: grid (n_kv_heads, batch), 16 warps, lanes over centroids
// Roofline   compute: n_books * ksub * dsub FMA a row (32768 at d4b8, head_dim 128) + 1.5 for each
// minimum Numerics   f32; distance |c|^2 / 2 - y.c; the lowest index of equal ones. Differs from
// f64 only where the two best
//            distances are within 1e-5 (|y|^2 + |c|^2)
#pragma once

#include "core/quant/code_layout.h"
#include "cuda/common/element.cuh"
#include "cuda/encode/params.h"

namespace vi::cuda::encoding {

constexpr int kTileWarps = 16, kTileThreads = kTileWarps * 32, kLongTile = 128, kShortTile = 32;
constexpr int kRowWarps = 16, kRowThreads = kRowWarps * 32, kMaxHeadDim = 1024;
constexpr unsigned kFull = 0xffffffffu;

__device__ inline std::uint8_t* stream_of(const EncodeParams& p, int sequence, int head, int token,
                                          int* local) {
  std::uint8_t* stream = p.codes + head * p.code_head_stride;
  if (!p.block_table) {
    *local = token;
    return stream + sequence * p.outer_stride;
  }
  *local = token % p.page_tokens;
  return stream + p.block_table[sequence * p.max_pages + token / p.page_tokens] * p.outer_stride;
}

__device__ __forceinline__ float input(const EncodeParams& p, std::int64_t row, int head, int i) {
  float x = load_element(p.rows, row * p.row_stride + head * p.head_stride + i, p.dtype);
  if (p.center) x -= p.center[head * p.head_dim + i];
  if (p.inverse_scale) x *= p.inverse_scale[head * p.head_dim + i];
  return x;
}

__device__ __forceinline__ const __half* book_of(const EncodeParams& p, int head, int m) {
  const std::int64_t book =
      p.shared ? head : static_cast<std::int64_t>(head) * (p.head_dim / p.dsub) + m;
  return static_cast<const __half*>(p.centroids) + (book << p.code_bits) * p.dsub;
}

// Where the rows of a sequence begin; -1: it has none.
__device__ __forceinline__ std::int64_t first_row(const EncodeParams& p, int sequence) {
  if (!p.from) return static_cast<std::int64_t>(sequence) * p.n_tokens;
  return p.from[sequence] < 0 ? -1 : sequence * p.window_rows + p.from[sequence];
}

// One row of 16 codes of sub-space m in its block: codes [0, keep) stay, code(t) fills [keep, end),
// zeros follow.
template <class Code>
__device__ __forceinline__ void pack_row(const quant::CodeLayout& layout, std::uint8_t* block,
                                         int m, int keep, int end, Code code) {
  const auto plane = [&](std::uint8_t* row, int bits, int shift) {
    auto* words = reinterpret_cast<std::uint16_t*>(row);
    std::uint64_t low = 0, high = 0;
    if (keep > 0) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const std::uint64_t w = i < bits ? words[i] : 0;
        if (i < 4)
          low |= w << (16 * i);
        else
          high |= w << (16 * (i - 4));
      }
      const int kept = keep * bits;
      if (kept < 64) low &= (std::uint64_t{1} << kept) - 1;
      if (kept <= 64)
        high = 0;
      else if (kept < 128)
        high &= (std::uint64_t{1} << (kept - 64)) - 1;
    }
    for (int t = keep; t < end; ++t) {
      const std::uint64_t c = (code(t) >> shift) & ((1u << bits) - 1u);
      const int bit = t * bits;
      if (bit < 64) low |= c << bit;
      if (bit >= 64)
        high |= c << (bit - 64);
      else if (bit + bits > 64)
        high |= c >> (64 - bit);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < bits)
        words[i] = static_cast<std::uint16_t>(i < 4 ? low >> (16 * i) : high >> (16 * (i - 4)));
  };
  plane(block + m * layout.low_row_bytes(), layout.low_bits(), 0);
  if (layout.high_bits() > 0)
    plane(block + layout.high_plane() + m * layout.high_row_bytes(), layout.high_bits(), 8);
}

// ---- naive: one CTA a row and head writes plain codes; a second kernel packs them.

__global__ void naive_codes(EncodeParams p) {
  __shared__ float x[kMaxHeadDim], y[kMaxHeadDim];
  const int head = blockIdx.x, d = p.head_dim, n_books = d / p.dsub, ksub = 1 << p.code_bits;
  const std::int64_t row = blockIdx.y + static_cast<std::int64_t>(blockIdx.z) * gridDim.y;
  if (row >= static_cast<std::int64_t>(p.batch) * p.n_tokens) return;
  for (int i = threadIdx.x; i < d; i += blockDim.x) x[i] = input(p, row, head, i);
  __syncthreads();
  for (int j = threadIdx.x; j < d; j += blockDim.x) {
    float sum = 0;
    if (p.hadamard) {
      for (int i = 0; i < d; ++i) sum += __popc(i & j) & 1 ? -x[i] : x[i];
      sum *= rsqrtf(static_cast<float>(d));
    } else if (p.dense) {
      for (int i = 0; i < d; ++i)
        sum += x[i] * p.dense[(static_cast<std::int64_t>(head) * d + i) * d + j];
    } else {
      sum = x[j];
    }
    y[j] = sum;
  }
  __syncthreads();
  for (int m = threadIdx.x; m < n_books; m += blockDim.x) {
    const __half* book = book_of(p, head, m);
    float best = INFINITY;
    int code = 0;
    for (int c = 0; c < ksub; ++c) {
      float norm = 0, dot = 0;
      for (int i = 0; i < p.dsub; ++i) {
        const float v = __half2float(book[c * p.dsub + i]);
        norm += v * v;
        dot += v * y[m * p.dsub + i];
      }
      const float distance = 0.5f * norm - dot;
      if (distance < best) {
        best = distance;
        code = c;
      }
    }
    p.scratch[(row * p.n_kv_heads + head) * n_books + m] = static_cast<std::uint16_t>(code);
  }
}

__global__ void naive_pack(EncodeParams p) {  // one thread a (block of 16, head, sub-space)
  const int n_books = p.head_dim / p.dsub, head = blockIdx.y, sequence = blockIdx.z,
            first = p.first[sequence];
  const quant::CodeLayout layout{n_books, p.code_bits};
  const int m = threadIdx.x % n_books, base = (first / 16 + blockIdx.x) * 16;
  if (threadIdx.x >= n_books || base >= first + p.n_tokens) return;
  int local;
  std::uint8_t* stream = stream_of(p, sequence, head, base, &local);
  pack_row(layout, stream + local / 16 * layout.block_bytes(), m, max(first - base, 0),
           min(first + p.n_tokens - base, 16), [&](int t) {
             const std::int64_t row =
                 static_cast<std::int64_t>(sequence) * p.n_tokens + base + t - first;
             return static_cast<unsigned>(p.scratch[(row * p.n_kv_heads + head) * n_books + m]);
           });
}

// ---- fused

template <int kDsub>
__host__ __device__ constexpr int chunk_of() {
  return kDsub == 8 ? 128 : 256;
}  // centroids a warp holds at a time
constexpr int kPad = 4;  // floats: rows of the tile start four banks apart

template <int kDsub, int kTile>
std::size_t tile_bytes(int head_dim) {
  return sizeof(float) *
             (kTile * (head_dim + kPad) + kTileWarps * chunk_of<kDsub>() * (kDsub + 1)) +
         sizeof(std::uint16_t) * kTile * (head_dim / kDsub);
}

// Explicitly rounded: the tile kernel computes a distance twice and must find the same bits.
template <int kDsub>
__device__ __forceinline__ float half_norm_of(const float (&c)[kDsub]) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kDsub; ++i) sum = __fmaf_rn(c[i], c[i], sum);
  return __fmul_rn(0.5f, sum);
}

template <int kDsub>
__device__ __forceinline__ float distance_to(const float (&y)[kDsub], const float* c,
                                             float half_norm) {
  float v = half_norm;
#pragma unroll
  for (int i = 0; i < kDsub; ++i) v = __fmaf_rn(-y[i], c[i], v);
  return v;
}

template <int kDsub, int kTile>
__global__ void __launch_bounds__(kTileThreads, 1) tile(const __grid_constant__ EncodeParams p) {
  extern __shared__ __align__(16) float shared[];
  const int d = p.head_dim, n_books = d / kDsub, ksub = 1 << p.code_bits, pitch = d + kPad;
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, head = blockIdx.y,
            sequence = blockIdx.z;
  const int first = p.first[sequence],
            base = first / 16 * 16 + blockIdx.x * kTile;  // stream token of the tile's first
  const std::int64_t begin = first_row(p, sequence);
  if (begin < 0 || base >= first + p.n_tokens) return;
  constexpr int kChunk = chunk_of<kDsub>(), kPerLane = kTile / 32;
  float* x = shared;  // [kTile][pitch]
  float* book = shared + kTile * pitch + warp * kChunk * (kDsub + 1);
  float* norm = book + kChunk * kDsub;
  auto* codes = reinterpret_cast<std::uint16_t*>(shared + kTile * pitch +
                                                 kTileWarps * kChunk * (kDsub + 1));  // [m][kTile]
  const auto valid = [&](int t) { return base + t >= first && base + t < first + p.n_tokens; };

  // Rows in, centred and scaled; a warp a row, so that a Hadamard transform stays inside the warp.
  for (int t = warp; t < kTile; t += kTileWarps) {
    const std::int64_t row = begin + base + t - first;
    if (!p.hadamard) {
      for (int i = lane; i < d; i += 32) x[t * pitch + i] = valid(t) ? input(p, row, head, i) : 0.f;
      continue;
    }
    const int per = d / 32;
    float v[8];
#pragma unroll
    for (int e = 0; e < 8; ++e)
      v[e] = e < per && valid(t) ? input(p, row, head, lane * per + e) : 0.f;
#pragma unroll
    for (int bit = 1; bit < 8; bit *= 2)
      if (bit < per) {
#pragma unroll
        for (int e = 0; e < 8; ++e)
          if (!(e & bit)) {
            const float a = v[e], b = v[e | bit];
            v[e] = a + b;
            v[e | bit] = a - b;
          }
      }
#pragma unroll
    for (int bit = 1; bit < 32; bit *= 2)
#pragma unroll
      for (int e = 0; e < 8; ++e)
        if (e < per) {
          const float other = __shfl_xor_sync(kFull, v[e], bit);
          v[e] = lane & bit ? other - v[e] : v[e] + other;
        }
    const float norm_of_h = rsqrtf(static_cast<float>(d));
#pragma unroll
    for (int e = 0; e < 8; ++e) v[e] *= norm_of_h;
#pragma unroll
    for (int e = 0; e < 8; ++e)
      if (e < per) x[t * pitch + lane * per + e] = v[e];
  }
  __syncthreads();
  if (p.dense) {  // y = x A in place: a warp owns its rows, eight at a time, lanes over columns
    const float* a = p.dense + static_cast<std::int64_t>(head) * d * d;
    for (int t0 = warp * 8; t0 < kTile; t0 += kTileWarps * 8) {
      float sum[8][8];  // [column of the lane][row]
#pragma unroll
      for (int c = 0; c < 8; ++c)
#pragma unroll
        for (int r = 0; r < 8; ++r) sum[c][r] = 0;
      for (int i = 0; i < d; ++i) {
        float v[8];
#pragma unroll
        for (int r = 0; r < 8; ++r) v[r] = x[(t0 + r) * pitch + i];
#pragma unroll
        for (int c = 0; c < 8; ++c)
          if (32 * c + lane < d) {
            const float w = __ldg(a + static_cast<std::int64_t>(i) * d + 32 * c + lane);
#pragma unroll
            for (int r = 0; r < 8; ++r) sum[c][r] += v[r] * w;
          }
      }
      __syncwarp();
#pragma unroll
      for (int c = 0; c < 8; ++c)
        if (32 * c + lane < d)
#pragma unroll
          for (int r = 0; r < 8; ++r) x[(t0 + r) * pitch + 32 * c + lane] = sum[c][r];
    }
    __syncthreads();
  }

  // Nearest centroids: a warp takes sub-space m, a lane four tokens; minima of four centroids are
  // compared at once.
  for (int m = warp; m < n_books; m += kTileWarps) {
    const __half* from = book_of(p, head, m);
    float y[kPerLane][kDsub], best[kPerLane];
    int group[kPerLane];
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      best[k] = INFINITY;
      group[k] = 0;
#pragma unroll
      for (int i = 0; i < kDsub; ++i) y[k][i] = x[(lane + 32 * k) * pitch + m * kDsub + i];
    }
    for (int start = 0; start < ksub; start += kChunk) {
      const int count = min(kChunk, ksub - start), padded = (count + 3) / 4 * 4;
      __syncwarp();
      for (int c = lane; c < padded; c += 32) {
        float v[kDsub];
#pragma unroll
        for (int i = 0; i < kDsub; ++i) {
          v[i] = c < count ? __half2float(from[(start + c) * kDsub + i]) : 0.f;
          book[c * kDsub + i] = v[i];
        }
        norm[c] = c < count ? half_norm_of<kDsub>(v) : INFINITY;
      }
      __syncwarp();
      for (int c = 0; c < padded; c += 4) {
        const float4 n = *reinterpret_cast<const float4*>(norm + c);
        const float half_norm[4] = {n.x, n.y, n.z, n.w};
        float lowest[kPerLane];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float v[kDsub];
#pragma unroll
          for (int i = 0; i < kDsub; ++i) v[i] = book[(c + e) * kDsub + i];
#pragma unroll
          for (int k = 0; k < kPerLane; ++k) {
            const float distance = distance_to<kDsub>(y[k], v, half_norm[e]);
            lowest[k] = e == 0 ? distance : fminf(lowest[k], distance);
          }
        }
#pragma unroll
        for (int k = 0; k < kPerLane; ++k)
          if (lowest[k] < best[k]) {
            best[k] = lowest[k];
            group[k] = start + c;
          }
      }
    }
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {  // which of the four: the same arithmetic again
      int code = group[k];
      for (int e = 3; e >= 0; --e) {
        const int c = group[k] + e;
        if (c >= ksub) continue;
        float v[kDsub];
#pragma unroll
        for (int i = 0; i < kDsub; ++i) v[i] = __half2float(from[c * kDsub + i]);
        if (distance_to<kDsub>(y[k], v, half_norm_of<kDsub>(v)) == best[k]) code = c;
      }
      codes[m * kTile + lane + 32 * k] = static_cast<std::uint16_t>(code);
    }
  }
  __syncthreads();
  const quant::CodeLayout layout{n_books, p.code_bits};
  for (int i = tid; i < kTile / 16 * n_books; i += kTileThreads) {
    const int m = i % n_books, t0 = i / n_books * 16;
    if (base + t0 >= first + p.n_tokens) continue;
    int local;
    std::uint8_t* block = stream_of(p, sequence, head, base + t0, &local);
    block += local / 16 * layout.block_bytes();
    if (p.code_bits == 8 && valid(t0) && valid(t0 + 15)) {
      unsigned w[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const auto* c = codes + m * kTile + t0 + 4 * j;
        w[j] = c[0] | c[1] << 8 | c[2] << 16 | static_cast<unsigned>(c[3]) << 24;
      }
      *reinterpret_cast<uint4*>(block + m * 16) = make_uint4(w[0], w[1], w[2], w[3]);
    } else {
      pack_row(layout, block, m, min(max(first - base - t0, 0), 16),
               min(first + p.n_tokens - base - t0, 16),
               [&](int t) { return static_cast<unsigned>(codes[m * kTile + t0 + t]); });
    }
  }
}

template <int kDsub>
__global__ void __launch_bounds__(kRowThreads) row(const __grid_constant__ EncodeParams p) {
  __shared__ float x[256], y[256];
  const int d = p.head_dim, n_books = d / kDsub, ksub = 1 << p.code_bits;
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, head = blockIdx.x,
            sequence = blockIdx.y;
  const int token = p.first[sequence];
  const std::int64_t begin = first_row(p, sequence);
  if (begin < 0) return;
  for (int i = tid; i < d; i += kRowThreads) x[i] = input(p, begin, head, i);
  __syncthreads();
  const float* rotated = x;
  if (p.hadamard) {
    for (int bit = 1; bit < d; bit *= 2) {
      for (int i = tid; i < d / 2; i += kRowThreads) {
        const int low = i / bit * 2 * bit + i % bit;
        const float a = x[low], b = x[low + bit];
        x[low] = a + b;
        x[low + bit] = a - b;
      }
      __syncthreads();
    }
    const float norm = rsqrtf(static_cast<float>(d));
    for (int i = tid; i < d; i += kRowThreads) x[i] *= norm;
    __syncthreads();
  } else if (p.dense) {
    for (int j = tid; j < d; j += kRowThreads) {
      float sum = 0;
      for (int i = 0; i < d; ++i)
        sum += x[i] * p.dense[(static_cast<std::int64_t>(head) * d + i) * d + j];
      y[j] = sum;
    }
    __syncthreads();
    rotated = y;
  }
  const quant::CodeLayout layout{n_books, p.code_bits};
  int local;
  std::uint8_t* stream = stream_of(p, sequence, head, token, &local);
  std::uint8_t* block = stream + local / 16 * layout.block_bytes();
  const int t = local % 16;
  for (int m = warp; m < n_books; m += kRowWarps) {
    const __half* from = book_of(p, head, m);
    float v[kDsub], best = INFINITY;
    int code = 0;
#pragma unroll
    for (int i = 0; i < kDsub; ++i) v[i] = rotated[m * kDsub + i];
#pragma unroll 8
    for (int c = lane; c < ksub; c += 32) {
      float w[kDsub];
#pragma unroll
      for (int i = 0; i < kDsub; i += 2) {
        const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(from + c * kDsub + i));
        w[i] = pair.x;
        w[i + 1] = pair.y;
      }
      const float distance = distance_to<kDsub>(v, w, half_norm_of<kDsub>(w));
      if (distance < best) {
        best = distance;
        code = c;
      }
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(kFull, best, step);
      const int its = __shfl_xor_sync(kFull, code, step);
      if (other < best || (other == best && its < code)) {
        best = other;
        code = its;
      }
    }
    if (lane == 0) {
      if (p.code_bits == 8 && t > 0)
        block[m * 16 + t] = static_cast<std::uint8_t>(code);  // zeros follow already
      else
        pack_row(layout, block, m, t, t + 1, [&](int) { return static_cast<unsigned>(code); });
    }
  }
}

}  // namespace vi::cuda::encoding
