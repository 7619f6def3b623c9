// How the persistent kernels (lookup, gather) share out their work: units of 64 tokens of items
// (KV head, pass, sequence), concatenated and cut into equal runs, one a CTA, so that ragged
// batches balance and a CUDA graph stays valid for any lengths. An item cut into pieces is combined
// by the last CTA to finish one, in the order of the pieces: the same bits every time.
#pragma once

#include "cuda/common/element.cuh"
#include "cuda/common/mma.cuh"
#include "cuda/decode_attention/params.h"

namespace vi::cuda {

constexpr int kUnit = 64;
constexpr unsigned kFull = 0xffffffffu;
constexpr float kSlack = 4.f;   // the running maximum is set this far above what was seen (log2)
constexpr float kShift = 14.f;  // probabilities are scaled by 2^kShift: far from half's subnormals
constexpr float kLog2e = 1.4426950408889634f;

struct WalkArgs {
  DecodeParams p;
  int min_units;
  int passes;          // over the codes, of so many query heads each as the kernel holds
  int* arrivals;       // [items], zero between launches
  float* partial_o;    // [items + n_ctas, heads of a pass, head_dim]
  float* partial_lse;  // [items + n_ctas, heads of a pass]
};

enum Walk { kSequence, kItemStart, kHeadPass, kTableHead, kAt, kEnd, kPer, kLast };  // of a CTA

// Which run of units is this CTA's: sum the batch's units (each thread a slice), then find the
// first item. plan: int [32] scratch, walk: int [8], both shared. False: nothing to do. Ends with a
// barrier.
template <int kWarps>
__device__ __forceinline__ bool find_run(const WalkArgs& args, int* plan, volatile int* walk) {
  const DecodeParams& p = args.p;
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
  const int slice = (p.batch + kWarps * 32 - 1) / (kWarps * 32);
  int mine = 0;
  for (int b = tid * slice; b < min(p.batch, (tid + 1) * slice); ++b)
    mine += max(1, (p.kv_len[b] + kUnit - 1) / kUnit);
  int before = mine;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int v = __shfl_up_sync(kFull, before, step);
    if (lane >= step) before += v;
  }
  if (lane == 31) plan[warp] = before;
  __syncthreads();
  int units = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) before += units;
    units += plan[w];
  }
  before -= mine;  // units of the batch before this thread's slice
  const int total = units * p.n_kv_heads * args.passes;
  const int per =
      max(args.min_units, (total + static_cast<int>(gridDim.x) - 1) / static_cast<int>(gridDim.x));
  const int begin = per * static_cast<int>(blockIdx.x), end = min(total, begin + per);
  if (begin >= end) return false;
  const int within = begin % units;
  if (within >= before && within < before + mine) {
    int b = tid * slice, start = before;
    for (;; ++b) {
      const int n = max(1, (p.kv_len[b] + kUnit - 1) / kUnit);
      if (within < start + n) break;
      start += n;
    }
    walk[kSequence] = b;
    walk[kItemStart] = begin - within + start;  // in units
    walk[kHeadPass] = begin / units;            // KV head * passes + pass
    walk[kTableHead] = -1;
    walk[kAt] = begin;
    walk[kEnd] = end;
    walk[kPer] = per;
  }
  __syncthreads();
  return true;
}

// To the next item of the run; false at its end. `item_units`: of the item just done.
__device__ __forceinline__ bool next_item(const DecodeParams& p, volatile int* walk,
                                          int item_units) {
  const int done = walk[kItemStart] + item_units, sequence = walk[kSequence],
            head_pass = walk[kHeadPass];
  if (done >= walk[kEnd]) return false;
  __syncthreads();  // all have read the walk and the merge
  if (threadIdx.x == 0) {
    const bool wrap = sequence + 1 == p.batch;
    walk[kAt] = walk[kItemStart] = done;
    walk[kSequence] = wrap ? 0 : sequence + 1;
    walk[kHeadPass] = wrap ? head_pass + 1 : head_pass;
  }
  __syncthreads();
  return true;
}

// One element of the result.
template <int kHeadDim>
__device__ __forceinline__ void emit(const DecodeParams& p, int row, int dim, float o, float lse) {
  const std::int64_t at = static_cast<std::int64_t>(row) * kHeadDim + dim;
  if (p.dtype == Dtype::f16)
    static_cast<__half*>(p.out)[at] = __float2half_rn(o);
  else
    static_cast<__nv_bfloat16*>(p.out)[at] = __float2bfloat16_rn(o);
  if (dim == 0 && p.lse) p.lse[row] = lse;
}

// Four consecutive elements of an f16 or bf16 row, 8-byte aligned. No branch: loads of several rows
// overlap.
__device__ __forceinline__ float4 load_four(const void* p, std::int64_t i, Dtype dtype) {
  const uint2 w = __ldg(reinterpret_cast<const uint2*>(static_cast<const std::uint16_t*>(p) + i));
  const float2 a = unpack_half2(w.x), b = unpack_half2(w.y);
  const bool f16 = dtype == Dtype::f16;
  return make_float4(
      f16 ? a.x : __uint_as_float(w.x << 16), f16 ? a.y : __uint_as_float(w.x & 0xffff0000u),
      f16 ? b.x : __uint_as_float(w.y << 16), f16 ? b.y : __uint_as_float(w.y & 0xffff0000u));
}

// Called by all threads of a CTA that has written its piece: the last piece of an item to arrive
// combines all. shift: [heads] added to each log-sum-exp, or null.
template <int kHeadDim, int kPassHeads, int kWarps>
__device__ __forceinline__ void combine_pieces(const WalkArgs& args, volatile int* walk, int item,
                                               int first_cta, int n_pieces, int n_heads, int q_row,
                                               const float* shift) {
  __threadfence();
  __syncthreads();
  const int tid = threadIdx.x;
  if (tid == 0) walk[kLast] = atomicAdd(&args.arrivals[item], 1) == n_pieces - 1;
  __syncthreads();
  if (!walk[kLast]) return;
  __threadfence();
  for (int i = tid; i < n_heads * kHeadDim; i += kWarps * 32) {
    const int head = i / kHeadDim, dim = i % kHeadDim;
    const std::int64_t slot = static_cast<std::int64_t>(first_cta + item) * kPassHeads + head;
    float top = -INFINITY, o = 0, l = 0;
    for (int k = 0; k < n_pieces; ++k)
      top = fmaxf(top, __ldcg(args.partial_lse + slot + k * kPassHeads));
    if (top > -INFINITY)
      for (int k = 0; k < n_pieces; ++k) {
        const float r = exp2_fast(__ldcg(args.partial_lse + slot + k * kPassHeads) - top);
        l += r;
        o += r * __ldcg(args.partial_o + (slot + k * kPassHeads) * kHeadDim + dim);
      }
    emit<kHeadDim>(args.p, q_row + head, dim, l > 0 ? o / l : 0.f,
                   (l > 0 ? top + log2f(l) : -INFINITY) + (shift ? shift[head] : 0.f));
  }
  if (tid == 0) args.arrivals[item] = 0;
}

}  // namespace vi::cuda
