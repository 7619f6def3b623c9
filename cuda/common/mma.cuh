// Tensor-core, shared-memory and math instructions the kernels use, one wrapper each. sm_80 and
// later. Fragment layout of mma.m16n8k16 (lane = 4 g + q): A rows g, g+8 by k 2q, 2q+1, 2q+8, 2q+9;
// B the same k by column g; C rows g, g+8 by columns 2q, 2q+1.
#pragma once

#include <cuda_fp16.h>

namespace vi::cuda {

__device__ __forceinline__ void mma_f16(float (&c)[4], unsigned a0, unsigned a1, unsigned a2,
                                        unsigned a3, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_bf16(float (&c)[4], unsigned a0, unsigned a1, unsigned a2,
                                         unsigned a3, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Shared loads by absolute shared address plus an immediate. Pure to the compiler, so the address
// must come from a register that was laundered after the barrier behind the table's last write.
template <unsigned kOffset>
__device__ __forceinline__ unsigned lds32(unsigned address) {
  unsigned r;
  asm("ld.shared.b32 %0,[%1+%2];" : "=r"(r) : "r"(address), "n"(kOffset));
  return r;
}
template <unsigned kOffset>
__device__ __forceinline__ uint2 lds64(unsigned address) {
  uint2 r;
  asm("ld.shared.v2.b32 {%0,%1},[%2+%3];" : "=r"(r.x), "=r"(r.y) : "r"(address), "n"(kOffset));
  return r;
}
__device__ __forceinline__ void sts64(unsigned address, unsigned x, unsigned y) {
  asm volatile("st.shared.v2.b32 [%0],{%1,%2};" ::"r"(address), "r"(x), "r"(y) : "memory");
}
__device__ __forceinline__ void sts128(unsigned address, unsigned x, unsigned y, unsigned z,
                                       unsigned w) {
  asm volatile("st.shared.v4.b32 [%0],{%1,%2,%3,%4};" ::"r"(address), "r"(x), "r"(y), "r"(z), "r"(w)
               : "memory");
}

// 16 bytes that are read once: past L1, kept in order with other volatile instructions.
__device__ __forceinline__ uint4 load_stream(const void* p) {
  uint4 r;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3},[%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "l"(p));
  return r;
}

// Smaller pieces of the same, in L1: volatile too, so that they land in the registers they are for
// (a plain load is hoisted into others and copied, and the copy waits for the data).
__device__ __forceinline__ unsigned load_u32(const void* p) {
  unsigned r;
  asm volatile("ld.global.nc.u32 %0,[%1];" : "=r"(r) : "l"(p));
  return r;
}
__device__ __forceinline__ unsigned load_u16(const void* p) {
  unsigned r;
  asm volatile("ld.global.nc.u16 %0,[%1];" : "=r"(r) : "l"(p));
  return r;
}
__device__ __forceinline__ unsigned load_u8(const void* p) {
  unsigned r;
  asm volatile("ld.global.nc.u8 %0,[%1];" : "=r"(r) : "l"(p));
  return r;
}
__device__ __forceinline__ uint2 load_u64(const void* p) {
  uint2 r;
  asm volatile("ld.global.nc.v2.u32 {%0,%1},[%2];" : "=r"(r.x), "=r"(r.y) : "l"(p));
  return r;
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ unsigned pack_half2(float low, float high) {
  const __half2 h = __floats2half2_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&h);
}
// The same, with what overflows held at the largest half.
__device__ __forceinline__ unsigned pack_half2_finite(float low, float high) {
  unsigned r;
  asm("cvt.rn.satfinite.f16x2.f32 %0,%1,%2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
__device__ __forceinline__ float2 unpack_half2(unsigned bits) {
  return __half22float2(*reinterpret_cast<const __half2*>(&bits));
}
__device__ __forceinline__ unsigned word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

}  // namespace vi::cuda
