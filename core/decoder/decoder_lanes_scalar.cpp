// The leaf kernels without vector instructions: the oracle of the other two, bit for bit.
#include <cmath>

#include "core/decoder/decoder_lanes.h"

#define VI_LANES inline

namespace vi::model::lanes {
namespace {

constexpr int kRows = 4;

struct V {
  float x[16];
};

template <class F>
inline V each(F f) {
  V v;
  for (int i = 0; i < 16; ++i) v.x[i] = f(i);
  return v;
}

inline V load(const float* p) {
  return each([&](int i) { return p[i]; });
}
inline void store(float* p, const V& v) {
  for (int i = 0; i < 16; ++i) p[i] = v.x[i];
}
inline V set1(float x) {
  return each([&](int) { return x; });
}
inline V fma(const V& a, const V& b, const V& c) {
  return each([&](int i) { return std::fma(a.x[i], b.x[i], c.x[i]); });
}
inline V add(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] + b.x[i]; });
}
inline V sub(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] - b.x[i]; });
}
inline V mul(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] * b.x[i]; });
}
inline V div(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] / b.x[i]; });
}
inline V neg(const V& a) {
  return each([&](int i) { return -a.x[i]; });
}
// b where a value is NaN, as the vector instructions do.
inline V max(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] > b.x[i] ? a.x[i] : b.x[i]; });
}
inline V min(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] < b.x[i] ? a.x[i] : b.x[i]; });
}
inline V round_nearest(const V& a) {
  return each([&](int i) { return std::nearbyint(a.x[i]); });
}
// p * 2^n by adding n to the exponent of p (p normal, the result normal).
inline V scale_pow2(const V& p, const V& n) {
  return each([&](int i) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &p.x[i], 4);
    bits += static_cast<std::uint32_t>(static_cast<std::int32_t>(n.x[i])) << 23;
    float out;
    __builtin_memcpy(&out, &bits, 4);
    return out;
  });
}
// 0 where x < low, else v.
inline V zero_below(const V& v, const V& x, const V& low) {
  return each([&](int i) { return x.x[i] < low.x[i] ? 0.0f : v.x[i]; });
}

#include "core/decoder/decoder_lanes_impl.h"

}  // namespace

const Table& scalar() { return kTable; }

}  // namespace vi::model::lanes
