// The ranges and roundings of IntegerCode by hand: QuaRot (both), q4_0, q8_0, vLLM's values.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/common/error.h"
#include "core/common/rng.h"
#include "core/quant/integer_code.h"

namespace vi::quant {
namespace {

using testing::ElementsAre;

struct Coded {
  std::vector<std::uint8_t> stream;
  std::vector<float> back;
};

Coded code(IntegerForm form, const std::vector<float>& row) {
  form.group = static_cast<int>(row.size());
  const IntegerCode coder(static_cast<int>(row.size()), nullptr, form);
  Coded out{std::vector<std::uint8_t>(coder.stream_bytes(1), 0), std::vector<float>(row.size())};
  coder.encode(row.data(), 1, 0, out.stream.data());
  coder.decode(out.stream.data(), 0, 1, out.back.data());
  std::vector<float> made(row.size());
  coder.reconstruct(row.data(), 1, made.data());
  EXPECT_EQ(made, out.back);
  EXPECT_EQ(out.stream.size() * 8.0, row.size() * (coder.payload_bits() + coder.metadata_bits()));
  return out;
}

IntegerForm form(int bits, IntegerRange range, Rounding rounding = Rounding::even, float clip = 1) {
  return {GroupAxis::token, bits, 0, range, rounding, clip};
}

TEST(IntegerRanges, QuaRotAsymmetric) {
  // scale (2.2 + 0.8) / 3 = 1, zero round(0.8) = 1; q = round(x) + 1
  const Coded c = code(form(2, IntegerRange::zero_point), {-0.8f, 0.3f, 1.6f, 2.2f});
  EXPECT_THAT(c.stream, ElementsAre(0x00, 0x3c, 0x00, 0x3c, 0b11'11'01'00));
  EXPECT_THAT(c.back, ElementsAre(-1, 0, 2, 2));
  // clip 0.5: range [-1, 2], scale 1, zero 1; what lies outside is clamped
  const Coded d = code(form(2, IntegerRange::zero_point, Rounding::even, 0.5f), {-2, 0, 2, 4});
  EXPECT_THAT(d.stream, ElementsAre(0x00, 0x3c, 0x00, 0x3c, 0b11'11'01'00));
  EXPECT_THAT(d.back, ElementsAre(-1, 0, 2, 2));
  // a range that lies above zero: zero point -2, beyond the codes
  EXPECT_THAT(code(form(2, IntegerRange::zero_point), {4, 6, 8, 10}).back, ElementsAre(4, 6, 8, 10));
  for (const float x : {3.0f, -3.0f, 0.0f})  // the authors divide by zero
    EXPECT_THAT(code(form(2, IntegerRange::zero_point), {x, x, x, x}).back, ElementsAre(x, x, x, x));
}

TEST(IntegerRanges, QuaRotSymmetric) {
  // scale 7 / 7 = 1; q = {7, -7, 3, 0} (-0.5 to even), stored with 8 added
  const Coded c = code(form(4, IntegerRange::symmetric), {7, -7, 3.4f, -0.5f});
  EXPECT_THAT(c.stream, ElementsAre(0x00, 0x3c, 0x1f, 0x8b));
  EXPECT_THAT(c.back, ElementsAre(7, -7, 3, 0));
  // 2 bits: levels -2 .. 1, scale = max / 1 = 2; 0.6 up, -0.5 to even
  EXPECT_THAT(code(form(2, IntegerRange::symmetric), {1.2f, -1, 0.4f, -2}).back, ElementsAre(2, 0, 0, -2));
  EXPECT_THAT(code(form(4, IntegerRange::symmetric), {0, 0, 0, 0}).back, ElementsAre(0, 0, 0, 0));
}

TEST(IntegerRanges, Q8) {  // half away from zero, against the scale before rounding
  std::vector<float> row(32, 0.0f);
  row[0] = 127, row[1] = -0.5f, row[2] = 2.5f, row[3] = -127;
  const Coded c = code(form(8, IntegerRange::symmetric, Rounding::away), row);
  EXPECT_EQ(c.stream.size(), 34u);  // ggml's block
  EXPECT_EQ(c.back[0], 127);
  EXPECT_EQ(c.back[1], -1);
  EXPECT_EQ(c.back[2], 3);
  EXPECT_EQ(c.back[3], -127);
}

TEST(IntegerRanges, Q4) {
  // d = -8 / -8 = 1; q = trunc(x + 8.5), at most 15
  const Coded c = code(form(4, IntegerRange::extreme, Rounding::away), {-8, 7, 7.6f, 0.5f});
  EXPECT_THAT(c.stream, ElementsAre(0x00, 0x3c, 0xf0, 0x9f));
  EXPECT_THAT(c.back, ElementsAre(-8, 7, 7, 1));
  // a positive extreme makes a negative scale: 4 / -8
  const Coded d = code(form(4, IntegerRange::extreme, Rounding::away), {4, -2, 1, 0});
  EXPECT_THAT(d.stream, ElementsAre(0x00, 0xb8, 0xc0, 0x86));
  EXPECT_THAT(d.back, ElementsAre(4, -2, 1, 0));
  EXPECT_THAT(code(form(4, IntegerRange::extreme, Rounding::away), {0, 0, 0, 0}).back, ElementsAre(0, 0, 0, 0));
  std::vector<float> block(32, 1.0f);
  EXPECT_EQ(code(form(4, IntegerRange::extreme, Rounding::away), block).stream.size(), 18u);
}

TEST(IntegerRanges, VllmValues) {
  // scale 3 / 3 = 1, min 0; q = trunc(x + 0.5): 0.5 goes up, to even it would stay 0
  EXPECT_THAT(code(form(2, IntegerRange::minimum, Rounding::away), {0, 0.5f, 1.4f, 3}).back, ElementsAre(0, 1, 1, 3));
  EXPECT_THAT(code(form(2, IntegerRange::minimum), {0, 0.5f, 1.4f, 3}).back, ElementsAre(0, 0, 1, 3));
}

TEST(IntegerRanges, NeverSilentlyExactAndWithinAStep) {
  Rng rng(1);
  std::vector<float> row(64);
  for (float& x : row) x = static_cast<float>(rng.normal());
  for (const IntegerRange range : {IntegerRange::minimum, IntegerRange::zero_point,
                                   IntegerRange::symmetric, IntegerRange::extreme})
    for (const Rounding rounding : {Rounding::even, Rounding::away})
      for (const int bits : {2, 3, 4, 8}) {
        const Coded c = code(form(bits, range, rounding), row);
        double most = 0;
        for (std::size_t i = 0; i < row.size(); ++i) most = std::max(most, std::fabs(double(c.back[i]) - row[i]));
        EXPECT_GT(most, 0) << bits;
        EXPECT_LT(most, 8.0 / ((1 << (bits - 1)) - 1)) << bits;
      }
}

TEST(IntegerRanges, Refuses) {
  IntegerForm one = form(1, IntegerRange::symmetric);
  one.group = 8;
  EXPECT_THROW(IntegerCode(8, nullptr, one), Error);
  IntegerForm clip = form(2, IntegerRange::minimum, Rounding::even, 0);
  clip.group = 8;
  EXPECT_THROW(IntegerCode(8, nullptr, clip), Error);
}

}  // namespace
}  // namespace vi::quant
