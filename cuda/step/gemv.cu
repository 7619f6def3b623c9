// gemv: y = W x for one vector, W read once. Oracle: the f64 product (tests: decode_step_test); naive
// twin: at::mv through cuda/torch/step_plain.cpp. Shapes: columns a multiple of 8, any rows.
// Launch: 8 warps a CTA, two rows a warp, x in shared memory as f32. Traffic: rows * columns * 2 bytes.
// The norm's 1 / rms(x) is one number, so it multiplies the finished sums: W (x w) / rms(x).
// Launched as a programmatic dependent: it starts while the kernel before it drains, asks for its first
// weights (which no kernel writes), and waits for that kernel before it touches x or y.
#include "cuda/common/check.h"
#include "cuda/common/element.cuh"
#include "cuda/step/dependent.cuh"
#include "cuda/step/params.h"

namespace vi::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * 32, kRows = 2, kAhead = 4;

template <bool kBf16>
__device__ __forceinline__ float2 widen(unsigned w) {
  if constexpr (kBf16) {
    return make_float2(__uint_as_float(w << 16), __uint_as_float(w & 0xffff0000u));
  } else {
    return __half22float2(*reinterpret_cast<const __half2*>(&w));
  }
}

template <bool kBf16>
__device__ __forceinline__ float dot8(const uint4& w, const float4& a, const float4& b, float sum) {
  const float2 w0 = widen<kBf16>(w.x), w1 = widen<kBf16>(w.y), w2 = widen<kBf16>(w.z),
               w3 = widen<kBf16>(w.w);
  sum = fmaf(w0.x, a.x, sum);
  sum = fmaf(w0.y, a.y, sum);
  sum = fmaf(w1.x, a.z, sum);
  sum = fmaf(w1.y, a.w, sum);
  sum = fmaf(w2.x, b.x, sum);
  sum = fmaf(w2.y, b.y, sum);
  sum = fmaf(w3.x, b.z, sum);
  return fmaf(w3.y, b.w, sum);
}

__device__ __forceinline__ uint4 load_once(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

// kDeep: the next weights are loaded before these are used, two CTAs a multiprocessor: long rows and many of
// them. Else three CTAs, so that a small matrix is one wave.
template <bool kBf16, bool kDeep>
__global__ void __launch_bounds__(kThreads, kDeep ? 2 : 3) kernel(GemvParams p) {
  extern __shared__ float4 staged[];  // [columns / 4] x, times the norm's weight
  __shared__ float part[kWarps];
  constexpr Dtype kDtype = kBf16 ? Dtype::bf16 : Dtype::f16;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const std::int64_t half = p.rows / 2;
  const bool silu = p.then == GemvParams::Then::silu;
  // Rows of this warp: a gate and its up row, or two neighbours.
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp;
  const std::int64_t r0 = silu ? at : kRows * at, r1 = silu ? at + half : r0 + 1;
  const bool on0 = r0 < (silu ? half : p.rows), on1 = silu ? on0 : r1 < p.rows;
  const int chunks = static_cast<int>(p.columns / 8);  // of 16 bytes
  const uint4* w0 = static_cast<const uint4*>(p.w) + (on0 ? r0 : 0) * chunks;
  const uint4* w1 = static_cast<const uint4*>(p.w) + (on1 ? r1 : 0) * chunks;
  // The first weights are asked for before x is staged: their latency hides that work.
  uint4 a[kAhead], b[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int c = lane + 32 * i;
    if (c < chunks) {
      a[i] = load_once(w0 + c);
      b[i] = load_once(w1 + c);
    }
  }
  next_may_start();
  wait_for_previous();
  float square = 0;
  for (int i = static_cast<int>(threadIdx.x); i < chunks; i += kThreads) {
    const uint4 v = static_cast<const uint4*>(p.x)[i];
    float2 x0 = widen<kBf16>(v.x), x1 = widen<kBf16>(v.y), x2 = widen<kBf16>(v.z),
           x3 = widen<kBf16>(v.w);
    if (p.norm) {
      square += x0.x * x0.x + x0.y * x0.y + x1.x * x1.x + x1.y * x1.y + x2.x * x2.x + x2.y * x2.y +
                x3.x * x3.x + x3.y * x3.y;
      const uint4 n = static_cast<const uint4*>(p.norm)[i];
      const float2 n0 = widen<kBf16>(n.x), n1 = widen<kBf16>(n.y), n2 = widen<kBf16>(n.z),
                   n3 = widen<kBf16>(n.w);
      x0.x *= n0.x, x0.y *= n0.y, x1.x *= n1.x, x1.y *= n1.y;
      x2.x *= n2.x, x2.y *= n2.y, x3.x *= n3.x, x3.y *= n3.y;
    }
    // Two planes, so that neighbouring lanes read neighbouring 16 bytes.
    staged[i] = make_float4(x0.x, x0.y, x1.x, x1.y);
    staged[chunks + i] = make_float4(x2.x, x2.y, x3.x, x3.y);
  }
  if (p.norm) {
    for (int o = 16; o > 0; o /= 2) square += __shfl_xor_sync(~0u, square, o);
    if (lane == 0) part[warp] = square;
  }
  __syncthreads();
  float s0 = 0, s1 = 0;
  for (int c0 = lane; c0 < chunks; c0 += 32 * kAhead) {
    uint4 na[kAhead], nb[kAhead];
    if constexpr (kDeep) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int c = c0 + 32 * (kAhead + i);
        if (c < chunks) {
          na[i] = load_once(w0 + c);
          nb[i] = load_once(w1 + c);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int c = c0 + 32 * i;
      if (c < chunks) {
        const float4 xa = staged[c], xb = staged[chunks + c];
        s0 = dot8<kBf16>(a[i], xa, xb, s0);
        s1 = dot8<kBf16>(b[i], xa, xb, s1);
      }
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int c = c0 + 32 * (kAhead + i);
      if constexpr (kDeep) {
        a[i] = na[i], b[i] = nb[i];
      } else if (c < chunks) {
        a[i] = load_once(w0 + c);
        b[i] = load_once(w1 + c);
      }
    }
  }
  for (int o = 16; o > 0; o /= 2) {
    s0 += __shfl_xor_sync(~0u, s0, o);
    s1 += __shfl_xor_sync(~0u, s1, o);
  }
  if (lane != 0 || !on0) return;
  if (p.norm) {
    float sum = 0;
    for (int i = 0; i < kWarps; ++i) sum += part[i];
    const float scale = rsqrtf(sum / static_cast<float>(p.columns) + p.eps);
    s0 *= scale, s1 *= scale;
  }
  if (p.bias) {
    s0 += load_element(p.bias, r0, kDtype);
    if (on1) s1 += load_element(p.bias, r1, kDtype);
  }
  if (silu) {
    store_element(p.y, r0, kDtype, s0 / (1 + __expf(-s0)) * s1);
    return;
  }
  const Dtype out = p.f32_out ? Dtype::f32 : kDtype;
  const bool add = p.then == GemvParams::Then::add;
  store_element(p.y, r0, out, add ? load_element(p.y, r0, out) + s0 : s0);
  if (on1) store_element(p.y, r1, out, add ? load_element(p.y, r1, out) + s1 : s1);
}

template <bool kBf16, bool kDeep>
void launch_as(const GemvParams& p) {
  const std::size_t bytes = static_cast<std::size_t>(p.columns) * sizeof(float);
  if (bytes > 48 * 1024)
    VI_CUDA(cudaFuncSetAttribute(kernel<kBf16, kDeep>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(bytes)));
  const std::int64_t items = (p.rows + 1) / 2;  // of two rows, whatever `then` says
  launch_dependent(kernel<kBf16, kDeep>, dim3(static_cast<unsigned>((items + kWarps - 1) / kWarps)), kThreads, bytes,
                   p.stream, p);
}

template <bool kBf16>
void launch(const GemvParams& p) {
  const bool small = p.rows <= 8192 && p.columns <= 8192;
  small ? launch_as<kBf16, false>(p) : launch_as<kBf16, true>(p);
}

}  // namespace

bool gemv_serves(std::int64_t columns, Dtype dtype) {
  return dtype != Dtype::f32 && columns % 8 == 0 && columns > 0 && columns <= 49152;
}

void gemv(const GemvParams& p) {
  if (!p.w || !p.x || !p.y || p.rows < 1) throw_call("gemv: a pointer or the rows are missing");
  if (!gemv_serves(p.columns, p.dtype))
    throw_call("gemv: " + std::to_string(p.columns) + " columns: expected a multiple of 8 up to 49152, in f16 or bf16");
  if (p.then == GemvParams::Then::silu && p.rows % 2) throw_call("gemv: silu needs an even number of rows");
  if (p.f32_out && p.then != GemvParams::Then::store) throw_call("gemv: f32 output is stored only");
  for (const void* q : {p.w, p.x, p.norm})
    if (reinterpret_cast<std::uintptr_t>(q) % 16) throw_call("gemv: not 16-byte aligned");
  p.dtype == Dtype::bf16 ? launch<true>(p) : launch<false>(p);
}

}  // namespace vi::cuda
