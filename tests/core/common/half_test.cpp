// Half and bfloat16: all 65536 patterns, and round-to-nearest-even against exact f64 arithmetic.
#include "core/common/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/common/rng.h"

namespace vi {
namespace {

// The value of half bits, from the definition.
double half_value(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == 31)
    return mantissa ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

// The nearest half of a finite value, ties to the even pattern, by looking at the two neighbours in
// f64.
std::uint16_t nearest_half(double value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (magnitude >= 65520.0)
    return sign | 0x7c00;                // half way between 65504 and 65536 goes up to infinity
  std::uint16_t low = 0, high = 0x7c00;  // half_value is increasing in the pattern
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (half_value(middle) <= magnitude ? low : high) = middle;
  }
  if (high == 0x7c00) return sign | low;
  const double below = magnitude - half_value(low), above = half_value(high) - magnitude;
  const bool up = above < below || (above == below && (low & 1));
  return sign | (up ? high : low);
}

TEST(Half, AllPatternsRoundTrip) {
  for (int i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const float value = half_to_float(bits);
    const double expected = half_value(bits);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << i;
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(value)))) << i;
      continue;
    }
    EXPECT_EQ(static_cast<double>(value), expected) << i;
    EXPECT_EQ(std::signbit(value), (bits & 0x8000) != 0) << i;
    EXPECT_EQ(float_to_half(value), bits) << i;
  }
}

TEST(Half, RoundsToNearestEven) {
  // Around every half: the value half way to the next, and the floats beside that.
  for (int i = 0; i < 0x7c00; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const double next = i == 0x7bff ? 65536.0 : half_value(static_cast<std::uint16_t>(i + 1));
    const auto middle = static_cast<float>((half_value(bits) + next) / 2);  // exact in f32
    for (const float value : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)}) {
      EXPECT_EQ(float_to_half(value), nearest_half(value)) << value;
      EXPECT_EQ(float_to_half(-value), nearest_half(-value)) << value;
    }
  }
  Rng rng(1);
  for (int i = 0; i < 1'000'000; ++i) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(rng.next()));
    if (std::isfinite(value)) {
      EXPECT_EQ(float_to_half(value), nearest_half(value)) << value;
    }
  }
  EXPECT_EQ(float_to_half(std::numeric_limits<float>::infinity()), 0x7c00);
  EXPECT_EQ(float_to_half(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(float_to_half(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(float_to_half(-0.0f), 0x8000);
}

TEST(Bfloat16, AllPatternsAndRounding) {
  for (int i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const float value = bf16_to_float(bits);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value)))) << i;
      continue;
    }
    EXPECT_EQ(float_to_bf16(value), bits) << i;
    if ((bits & 0x7fff) >= 0x7f7f) continue;  // the next one is infinity
    const std::uint32_t at = static_cast<std::uint32_t>(bits) << 16;
    const auto even = static_cast<std::uint16_t>(bits & 1 ? bits + 1 : bits);
    EXPECT_EQ(float_to_bf16(std::bit_cast<float>(at | 0x7fffu)), bits) << i;
    EXPECT_EQ(float_to_bf16(std::bit_cast<float>(at | 0x8000u)), even) << i;
    EXPECT_EQ(float_to_bf16(std::bit_cast<float>(at | 0x8001u)), bits + 1) << i;
  }
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  // A NaN whose payload lies in the lower half only must not become infinity.
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace vi
