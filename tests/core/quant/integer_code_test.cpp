// IntegerCode: KIVI's formula by hand and against a naive twin (exact), streams, constant groups.
#include "core/quant/integer_code.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/rng.h"

namespace vi::quant {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

std::vector<float> random_values(std::uint64_t seed, std::size_t n) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (float& v : x) v = static_cast<float>(3 * rng.normal() + 1);
  return x;
}

TEST(IntegerCode, PerChannelByHand) {
  const IntegerCode code(3, nullptr, GroupAxis::channel, 2, 4);
  // [4 tokens, 3 channels]; channel 0 exact, channel 1 with 1.5 -> 2, channel 2 with .5 -> 0
  // and 2.5 -> 2
  const std::vector<float> rows = {0, -1, 0, 1, 0.5, 0.5, 2, 2, 3, 3, 0, 2.5};
  std::vector<std::uint8_t> stream(code.stream_bytes(4), 0);
  EXPECT_EQ(stream.size(), 3u * 4 + 3);
  code.encode(rows.data(), 4, 0, stream.data());
  EXPECT_THAT(stream, ElementsAre(0x00, 0x3c, 0x00, 0x00,  // scale 1, minimum 0
                                  0x00, 0x3c, 0x00, 0xbc,  // scale 1, minimum -1
                                  0x00, 0x3c, 0x00, 0x00,  //
                                  0b11'10'01'00, 0b01'11'10'00, 0b10'11'00'00));
  std::vector<float> out(12);
  code.decode(stream.data(), 0, 4, out.data());
  EXPECT_THAT(out, ElementsAre(0, -1, 0, 1, 1, 0, 2, 2, 3, 3, 0, 2));
}

TEST(IntegerCode, PerTokenByHand) {
  const IntegerCode code(8, nullptr, GroupAxis::token, 2, 4);
  const std::vector<float> rows = {0,  1, 2, 3,  10, 10,   10,   10,  //
                                   -6, 0, 6, 12, 0,  0.75, 0.25, 0.5};
  std::vector<std::uint8_t> stream(code.stream_bytes(2), 0);
  EXPECT_EQ(stream.size(), 2u * (8 + 2));
  code.encode(rows.data(), 2, 0, stream.data());
  EXPECT_THAT(stream, ElementsAre(0x00, 0x3c, 0x00, 0x00, 0x00, 0x00, 0x00,
                                  0x49,              // constant: scale 0, minimum 10
                                  0b11'10'01'00, 0,  //
                                  0x00, 0x46, 0x00, 0xc6, 0x00, 0x34, 0x00, 0x00,  // 6, -6; 0.25, 0
                                  0b11'10'01'00, 0b10'01'11'00));
  std::vector<float> out(16);
  code.decode(stream.data(), 0, 2, out.data());
  EXPECT_EQ(out, rows);
}

// The formula once more, value by value, with the C library's rounding.
void naive_group(std::vector<float*> group, int bits) {
  float low = *group[0], high = *group[0];
  for (const float* x : group) low = std::fmin(low, *x), high = std::fmax(high, *x);
  const float top = static_cast<float>((1 << bits) - 1);
  const float scale = half_to_float(float_to_half((high - low) / top)),
              mn = half_to_float(float_to_half(low));
  for (float* x : group) {
    const float q =
        scale == 0 ? 0 : std::nearbyint(std::fmin(std::fmax((*x - mn) / scale, 0.0f), top));
    *x = q * scale + mn;
  }
}

std::vector<float> naive(std::vector<float> x, std::size_t n, int d, GroupAxis axis, int bits,
                         int g) {
  if (axis == GroupAxis::channel) {
    for (std::size_t t = 0; t < n; t += g)
      for (int c = 0; c < d; ++c) {
        std::vector<float*> group;
        for (std::size_t i = t; i < std::min(n, t + g); ++i) group.push_back(&x[i * d + c]);
        naive_group(group, bits);
      }
  } else {
    for (std::size_t i = 0; i < n * d; i += g) {
      std::vector<float*> group;
      for (int c = 0; c < g; ++c) group.push_back(&x[i + c]);
      naive_group(group, bits);
    }
  }
  return x;
}

TEST(IntegerCode, EqualsTheNaiveTwinExactly) {
  for (const GroupAxis axis : {GroupAxis::channel, GroupAxis::token})
    for (int bits = 1; bits <= 8; ++bits)
      for (const int group : {8, 32, 64}) {
        const int d = 64;
        const IntegerCode code(d, nullptr, axis, bits, group);
        EXPECT_EQ(code.payload_bits(), bits);
        EXPECT_EQ(code.metadata_bits(), 32.0 / group);
        for (const std::size_t n : {0, 1, 31, 32, 33, 64, 131}) {
          const std::vector<float> rows = random_values(n + bits, n * d);
          std::vector<float> out(n * d);
          code.reconstruct(rows.data(), n, out.data());
          EXPECT_EQ(out, naive(rows, n, d, axis, bits, group));
          const std::size_t whole = n / code.seal_tokens() * code.seal_tokens();
          std::vector<std::uint8_t> stream(code.stream_bytes(whole), 0), steps = stream;
          EXPECT_EQ(stream.size() * 8, whole * d * (code.payload_bits() + code.metadata_bits()));
          code.encode(rows.data(), whole, 0, stream.data());
          for (std::size_t t = 0; t < whole; t += code.seal_tokens())
            code.encode(rows.data() + t * d, code.seal_tokens(), t, steps.data());
          EXPECT_EQ(stream, steps);
          std::vector<float> back(whole * d);
          code.decode(stream.data(), 0, whole, back.data());
          EXPECT_TRUE(std::equal(back.begin(), back.end(), out.begin()));
          if (whole < 10) continue;
          std::vector<float> part(2 * d);
          code.decode(stream.data(), 7, 2, part.data());
          EXPECT_TRUE(std::equal(part.begin(), part.end(), back.begin() + 7 * d));
        }
      }
}

TEST(IntegerCode, ErrorIsAtMostHalfAStep) {
  const IntegerCode code(64, nullptr, GroupAxis::token, 4, 32);
  const std::vector<float> rows = random_values(1, 50 * 64);
  std::vector<float> out(rows.size());
  code.reconstruct(rows.data(), 50, out.data());
  for (std::size_t i = 0; i < rows.size(); i += 32) {
    const auto [low, high] = std::minmax_element(rows.begin() + i, rows.begin() + i + 32);
    const double step = (*high - *low) / 15;
    for (std::size_t j = i; j < i + 32; ++j)
      EXPECT_NEAR(out[j], rows[j], 0.5 * step + 0.02);  // f16 scale, minimum
  }
}

TEST(IntegerCode, ConstantTinyAndHugeGroups) {
  const IntegerCode code(4, nullptr, GroupAxis::token, 2, 4);
  std::vector<float> out(4);
  const auto back = [&](std::vector<float> x) {
    code.reconstruct(x.data(), 1, out.data());
    return out;
  };
  EXPECT_THAT(back({0, 0, 0, 0}), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(back({-2.5, -2.5, -2.5, -2.5}), ElementsAre(-2.5, -2.5, -2.5, -2.5));
  EXPECT_THAT(back({0, 1e-9f, 0, 0}), ElementsAre(0, 0, 0, 0));  // scale is 0 in f16
  for (const float x : back({-1e6f, 1e6f, 0, 0})) EXPECT_TRUE(std::isfinite(x));
}

TEST(IntegerCode, InsideATransform) {
  transform::HeadTransform t{8, std::vector<transform::Step>(1)};
  t.steps[0].kind = transform::Step::Kind::hadamard;
  const IntegerCode code(8, &t, GroupAxis::channel, 8, 4);
  const std::vector<float> rows = random_values(2, 8 * 8);
  std::vector<float> out(64), decoded(64);
  code.reconstruct(rows.data(), 8, out.data());
  std::vector<std::uint8_t> stream(code.stream_bytes(8), 0);
  code.encode(rows.data(), 8, 0, stream.data());
  code.decode(stream.data(), 0, 8, decoded.data());
  EXPECT_EQ(out, decoded);
  for (int i = 0; i < 64; ++i) EXPECT_NEAR(out[i], rows[i], 0.1);
}

TEST(IntegerCode, BadInput) {
  EXPECT_THROW(IntegerCode(8, nullptr, GroupAxis::channel, 3, 4), Error);   // 12 bits
  EXPECT_THROW(IntegerCode(64, nullptr, GroupAxis::token, 2, 128), Error);  // group above head_dim
  EXPECT_THROW(IntegerCode(8, nullptr, GroupAxis::token, 9, 8), Error);
  const IntegerCode code(8, nullptr, GroupAxis::channel, 2, 4);
  std::vector<float> rows(64, 1.0f);
  std::vector<std::uint8_t> stream(code.stream_bytes(8), 0);
  EXPECT_THROW(code.encode(rows.data(), 3, 0, stream.data()), Error);
  EXPECT_THROW(code.encode(rows.data(), 4, 2, stream.data()), Error);
  rows[9] = std::nanf("");
  EXPECT_THROW(code.encode(rows.data(), 4, 0, stream.data()), Error);
}

}  // namespace
}  // namespace vi::quant
