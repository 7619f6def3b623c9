#include "core/weights/dequant.h"

#include <cstring>

#include "core/common/error.h"
#include "core/common/half.h"

namespace vi::model {
namespace {

std::uint16_t load16(const std::uint8_t* p) {
  return static_cast<std::uint16_t>(p[0] | (p[1] << 8));
}
std::uint32_t load32(const std::uint8_t* p) {
  return load16(p) | (static_cast<std::uint32_t>(load16(p + 2)) << 16);
}
float load_half(const std::uint8_t* p) { return half_to_float(load16(p)); }

void q4_0(const std::uint8_t* b, float* y) {  // d, 16 x 2 nibbles
  const float d = load_half(b);
  for (int i = 0; i < 16; ++i) {
    y[i] = static_cast<float>((b[2 + i] & 15) - 8) * d;
    y[i + 16] = static_cast<float>((b[2 + i] >> 4) - 8) * d;
  }
}

void q4_1(const std::uint8_t* b, float* y) {  // d, m, 16 x 2 nibbles
  const float d = load_half(b), m = load_half(b + 2);
  for (int i = 0; i < 16; ++i) {
    y[i] = static_cast<float>(b[4 + i] & 15) * d + m;
    y[i + 16] = static_cast<float>(b[4 + i] >> 4) * d + m;
  }
}

void q5_0(const std::uint8_t* b, float* y) {  // d, 32 fifth bits, 16 x 2 nibbles
  const float d = load_half(b);
  const std::uint32_t high = load32(b + 2);
  for (int i = 0; i < 16; ++i) {
    const int low = (b[6 + i] & 15) | static_cast<int>(((high >> i) & 1u) << 4);
    const int up = (b[6 + i] >> 4) | static_cast<int>(((high >> (i + 16)) & 1u) << 4);
    y[i] = static_cast<float>(low - 16) * d;
    y[i + 16] = static_cast<float>(up - 16) * d;
  }
}

void q5_1(const std::uint8_t* b, float* y) {  // d, m, 32 fifth bits, 16 x 2 nibbles
  const float d = load_half(b), m = load_half(b + 2);
  const std::uint32_t high = load32(b + 4);
  for (int i = 0; i < 16; ++i) {
    const int low = (b[8 + i] & 15) | static_cast<int>(((high >> i) & 1u) << 4);
    const int up = (b[8 + i] >> 4) | static_cast<int>(((high >> (i + 16)) & 1u) << 4);
    y[i] = static_cast<float>(low) * d + m;
    y[i + 16] = static_cast<float>(up) * d + m;
  }
}

void q8_0(const std::uint8_t* b, float* y) {  // d, 32 int8
  const float d = load_half(b);
  for (int i = 0; i < 32; ++i) y[i] = static_cast<float>(static_cast<std::int8_t>(b[2 + i])) * d;
}

// Eight 6-bit (scale, minimum) pairs in 12 bytes.
void k_scale(const std::uint8_t* s, int j, int& scale, int& minimum) {
  if (j < 4) {
    scale = s[j] & 63;
    minimum = s[j + 4] & 63;
  } else {
    scale = (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4);
    minimum = (s[j + 4] >> 4) | ((s[j] >> 6) << 4);
  }
}

// Q4_K: d, dmin, scales[12], qs[128]. Q5_K has the fifth bits qh[32] before qs.
template <bool kFifthBit>
void q45_k(const std::uint8_t* b, float* y) {
  const float d = load_half(b), dmin = load_half(b + 2);
  const std::uint8_t* scales = b + 4;
  const std::uint8_t* high = b + 16;
  const std::uint8_t* q = b + (kFifthBit ? 48 : 16);
  for (int sub = 0; sub < 8; ++sub) {  // 32 elements each; two share 32 bytes
    int scale, minimum;
    k_scale(scales, sub, scale, minimum);
    const float a = d * static_cast<float>(scale), m = dmin * static_cast<float>(minimum);
    const std::uint8_t* bytes = q + (sub / 2) * 32;
    for (int i = 0; i < 32; ++i) {
      int value = sub % 2 ? bytes[i] >> 4 : bytes[i] & 15;
      if (kFifthBit) value |= ((high[i] >> sub) & 1) << 4;
      y[sub * 32 + i] = a * static_cast<float>(value) - m;
    }
  }
}

void q6_k(const std::uint8_t* b, float* y) {  // ql[128], qh[64], int8 scales[16], d
  const float d = load_half(b + 208);
  for (int half = 0; half < 2; ++half) {
    const std::uint8_t* low = b + half * 64;
    const std::uint8_t* high = b + 128 + half * 32;
    for (int quarter = 0; quarter < 4; ++quarter) {
      const std::uint8_t* nibbles = low + (quarter % 2) * 32;
      for (int i = 0; i < 32; ++i) {
        const int nibble = quarter < 2 ? nibbles[i] & 15 : nibbles[i] >> 4;
        const int value = (nibble | (((high[i] >> (2 * quarter)) & 3) << 4)) - 32;
        const auto scale = static_cast<std::int8_t>(b[192 + half * 8 + quarter * 2 + i / 16]);
        y[half * 128 + quarter * 32 + i] =
            d * static_cast<float>(scale) * static_cast<float>(value);
      }
    }
  }
}

template <void (*kDecode)(const std::uint8_t*, float*)>
void blocks(TensorType type, const std::uint8_t* src, std::int64_t n, float* out) {
  const BlockShape shape = block_shape(type);
  for (std::int64_t i = 0; i < n; i += shape.elements, src += shape.bytes) kDecode(src, out + i);
}

}  // namespace

BlockShape block_shape(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return {1, 4};
    case TensorType::f16:
    case TensorType::bf16:
      return {1, 2};
    case TensorType::q4_0:
      return {32, 18};
    case TensorType::q4_1:
      return {32, 20};
    case TensorType::q5_0:
      return {32, 22};
    case TensorType::q5_1:
      return {32, 24};
    case TensorType::q8_0:
      return {32, 34};
    case TensorType::q4_k:
      return {256, 144};
    case TensorType::q5_k:
      return {256, 176};
    case TensorType::q6_k:
      return {256, 210};
  }
  fail("block_shape: no such type");
}

void dequantize(TensorType type, const std::uint8_t* src, std::int64_t n, float* out) {
  switch (type) {
    case TensorType::f32:
      std::memcpy(out, src, static_cast<std::size_t>(n) * 4);
      return;
    case TensorType::f16:
      for (std::int64_t i = 0; i < n; ++i) out[i] = half_to_float(load16(src + 2 * i));
      return;
    case TensorType::bf16:
      for (std::int64_t i = 0; i < n; ++i) out[i] = bf16_to_float(load16(src + 2 * i));
      return;
    case TensorType::q4_0:
      return blocks<q4_0>(type, src, n, out);
    case TensorType::q4_1:
      return blocks<q4_1>(type, src, n, out);
    case TensorType::q5_0:
      return blocks<q5_0>(type, src, n, out);
    case TensorType::q5_1:
      return blocks<q5_1>(type, src, n, out);
    case TensorType::q8_0:
      return blocks<q8_0>(type, src, n, out);
    case TensorType::q4_k:
      return blocks<q45_k<false>>(type, src, n, out);
    case TensorType::q5_k:
      return blocks<q45_k<true>>(type, src, n, out);
    case TensorType::q6_k:
      return blocks<q6_k>(type, src, n, out);
  }
}

}  // namespace vi::model
