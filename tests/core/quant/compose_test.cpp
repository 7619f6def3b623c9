// The coders of core/quant/compose by hand, and that each can be fed token by token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "core/common/error.h"
#include "core/common/rng.h"
#include "core/quant/compose/balanced_code.h"
#include "core/quant/compose/outlier_code.h"
#include "core/quant/compose/residual_code.h"
#include "core/quant/compose/rope_code.h"
#include "core/quant/compose/sign_sketch.h"
#include "core/quant/compose/token_code.h"
#include "core/quant/integer_code.h"
#include "core/quant/vector_code.h"

namespace vi::quant {
namespace {

using testing::ElementsAre;
using transform::HeadTransform;
using transform::Step;

std::unique_ptr<HeadCoder> levels(int d, std::vector<float> values, const HeadTransform* t = nullptr) {
  int bits = 0;
  while ((1u << bits) < values.size()) ++bits;
  return std::make_unique<VectorCode>(d, t, make_books(1, bits, 1, values.data()));
}

std::vector<float> randoms(std::size_t n, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (float& v : x) v = static_cast<float>(2 * rng.normal() + 0.5);
  return x;
}

// Encoded at once and group by group: the same bytes; decoded in pieces and reconstructed: the same rows;
// bytes as counted; not exact.
void keeps_the_contract(const HeadCoder& coder, std::uint64_t seed) {
  const std::size_t d = coder.head_dim(), seal = coder.seal_tokens(), n = 16 * seal * 5;
  const std::vector<float> rows = randoms(n * d, seed);
  std::vector<std::uint8_t> one(coder.stream_bytes(n), 0), steps = one;
  EXPECT_DOUBLE_EQ(8.0 * one.size(), n * d * (coder.payload_bits() + coder.metadata_bits()));
  coder.encode(rows.data(), n, 0, one.data());
  for (std::size_t t = 0; t < n; t += seal) coder.encode(rows.data() + t * d, seal, t, steps.data());
  EXPECT_EQ(one, steps);
  std::vector<float> back(n * d), made(n * d), part(7 * d);
  coder.decode(one.data(), 0, n, back.data());
  coder.reconstruct(rows.data(), n, made.data());
  EXPECT_EQ(back, made);
  coder.decode(one.data(), 29, 7, part.data());
  EXPECT_TRUE(std::equal(part.begin(), part.end(), back.begin() + 29 * d));
  EXPECT_NE(back, rows);
  std::vector<float> bad = rows;
  bad[3] = std::nanf("");
  EXPECT_THROW(coder.encode(bad.data(), n, 0, one.data()), Error);
  EXPECT_THROW(coder.reconstruct(bad.data(), n, made.data()), Error);
}

std::vector<float> once(const HeadCoder& coder, const std::vector<float>& rows) {
  std::vector<float> out(rows.size());
  coder.reconstruct(rows.data(), rows.size() / coder.head_dim(), out.data());
  return out;
}

std::unique_ptr<HeadCoder> normed(int d, std::vector<float> values, bool renormalise) {
  Step step;
  step.kind = Step::Kind::token_norm;
  return std::make_unique<TokenCode>(HeadTransform{d, {}}, step, renormalise, nullptr, levels(d, std::move(values)));
}

TEST(TokenNorm, ByHand) {
  // |x| = 4: y = x * 2 / 4 = 1, nearest level 0.75, back 0.75 * 4 / 2; renormalised to 1: 2
  EXPECT_THAT(once(*normed(4, {-0.75f, 0.75f}, false), {2, 2, 2, 2}), ElementsAre(1.5f, 1.5f, 1.5f, 1.5f));
  EXPECT_THAT(once(*normed(4, {-0.75f, 0.75f}, true), {2, -2, 2, 2}), ElementsAre(2, -2, 2, 2));
  EXPECT_THAT(once(*normed(4, {-0.75f, 0.75f}, true), {0, 0, 0, 0}), ElementsAre(0, 0, 0, 0));
  // bytes: norms of 16 tokens, then the codes
  const auto coder = normed(4, {-0.75f, 0.75f}, false);
  std::vector<std::uint8_t> stream(coder->stream_bytes(1), 0);
  ASSERT_EQ(stream.size(), 16u * 2 + 4 * 2);
  const std::vector<float> row{3, -3, -3, 3};
  coder->encode(row.data(), 1, 0, stream.data());
  EXPECT_EQ(stream[0] | stream[1] << 8, 0x4600);  // 6
  EXPECT_EQ(stream[32] & 1, 1);
  EXPECT_EQ(stream[34] & 1, 0);
}

TEST(TokenNorm, Contract) {
  keeps_the_contract(*normed(8, {-1.5f, -0.5f, 0.5f, 1.5f}, false), 1);
  keeps_the_contract(*normed(8, {-1.5f, -0.5f, 0.5f, 1.5f}, true), 2);
  // two of them around a mean, a Hadamard behind: NSNQuant's order
  Step norm, center, rotate;
  norm.kind = Step::Kind::token_norm;
  center.kind = Step::Kind::center;
  center.vector = randoms(8, 9);
  rotate.kind = Step::Kind::hadamard;
  auto last = std::make_unique<HeadTransform>(HeadTransform{8, {rotate}});
  auto inner = levels(8, {-1.5f, -0.5f, 0.5f, 1.5f}, last.get());
  auto second = std::make_unique<TokenCode>(HeadTransform{8, {center}}, norm, false, std::move(last), std::move(inner));
  keeps_the_contract(TokenCode(HeadTransform{8, {}}, norm, false, nullptr, std::move(second)), 3);
  // around per-channel integers of 4 tokens: OScaR's order
  auto integers = std::make_unique<IntegerCode>(8, nullptr, GroupAxis::channel, 2, 4);
  keeps_the_contract(TokenCode(HeadTransform{8, {rotate}}, norm, false, nullptr, std::move(integers)), 4);
}

Step range_step(int trim) {
  Step step;
  step.kind = Step::Kind::token_range;
  step.vector = {static_cast<float>(trim)};
  return step;
}

TEST(KvquantValues, ByHand) {
  // 100 is farthest from the mean and left out; the rest spans [0, 2]: z = 1, r = 1, y = {-1, 0, 1, 99}.
  // 0 lies between -0.5 and 0.5 and takes the lower. The outlier comes back exactly.
  const HeadTransform t{4, {range_step(1)}};
  auto inner = std::make_unique<TokenCode>(HeadTransform{4, {}}, range_step(1), false, nullptr,
                                           levels(4, {-1, -0.5f, 0.5f, 1}));
  EXPECT_THAT(once(*inner, {0, 1, 2, 100}), ElementsAre(0, 0.5f, 2, 2));
  const OutlierCode coder(&t, 1, std::move(inner));
  EXPECT_THAT(once(coder, {0, 1, 2, 100}), ElementsAre(0, 0.5f, 2, 100));
  EXPECT_THAT(once(coder, {5, 5, 5, 5}), ElementsAre(5, 5, 5, 5));
  std::vector<std::uint8_t> stream(coder.stream_bytes(1), 0);
  EXPECT_EQ(stream.size(), 16u * 4 + 16 * 4 + 4 * 4);
  const std::vector<float> row{0, 1, 2, 100};
  coder.encode(row.data(), 1, 0, stream.data());
  EXPECT_EQ(stream[0] | stream[1] << 8, 3);
  EXPECT_EQ(stream[2] | stream[3] << 8, 0x5640);  // 100
  keeps_the_contract(coder, 5);
}

TEST(KvquantKeys, OutliersOfStaticRanges) {
  Step center, scale;
  center.kind = Step::Kind::center;
  center.vector = {0, 10, 0, 0};
  scale.kind = Step::Kind::scale;
  scale.vector = {1, 2, 1, 1};
  const HeadTransform t{4, {center, scale}};
  const OutlierCode coder(&t, 2, levels(4, {-1, -0.5f, 0.5f, 1}, &t));
  // y = {3, 0.5, -5, 1.5}: of three outside [-1, 1] the two largest are kept, 1.5 is clamped to its level
  EXPECT_THAT(once(coder, {3, 11, -5, 1.5f}), ElementsAre(3, 11, -5, 1));
  keeps_the_contract(coder, 6);
}

TEST(Residual, ByHand) {
  const ResidualCode coder(nullptr, levels(4, {-2, 2}), levels(4, {-1, 1}));
  EXPECT_THAT(once(coder, {3, 1, -2.9f, -1}), ElementsAre(3, 1, -3, -1));
  EXPECT_EQ(coder.payload_bits(), 2);
  keeps_the_contract(coder, 7);
}

TEST(Rope, EveryPositionOfAKeyHasOneCode) {
  const std::vector<float> books{0, 1, 1, 0};  // of one sub-space of 2 channels
  const auto inner = [&] { return std::make_unique<VectorCode>(2, nullptr, make_books(2, 1, 1, books.data())); };
  const RopeCode coder({std::numbers::pi / 2}, 0, inner());
  const std::vector<float> rows{1, 0, 0, 1, -1, 0, 0, -1};  // (1, 0) turned a quarter at each position
  const auto back = once(coder, rows);
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(back[i], rows[i], 1e-6);
  std::vector<std::uint8_t> stream(coder.stream_bytes(4), 0);
  coder.encode(rows.data(), 4, 0, stream.data());
  EXPECT_EQ(stream[0], 0x0f);  // code 1, four times
  // a stream that starts behind one sink
  const RopeCode later({std::numbers::pi / 2}, 1, inner());
  std::fill(stream.begin(), stream.end(), std::uint8_t{0});
  later.encode(rows.data() + 2, 3, 0, stream.data());
  EXPECT_EQ(stream[0], 0x07);
  std::vector<float> out(6);
  later.decode(stream.data(), 0, 3, out.data());
  for (std::size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], rows[i + 2], 1e-6);
  coder.reconstruct_at(rows.data() + 2, 1, {1, nullptr}, out.data());
  EXPECT_NEAR(out[1], 1, 1e-6);
}

TEST(Rope, Contract) {
  keeps_the_contract(RopeCode({1.0, 0.1, 0.01, 0.001}, 3, levels(8, {-1.5f, -0.5f, 0.5f, 1.5f})), 8);
}

TEST(Sketch, IsTheFormula) {
  const int d = 8, signs = 16;
  const SignSketch coder(d, nullptr, {signs, true, 0, 0, 3});
  const auto s = sketch_projections(signs, d, true, 3);
  for (int j = 0; j < signs; ++j) {  // orthogonal chunks of rows of length sqrt(d)
    double own = 0, other = 0;
    for (int i = 0; i < d; ++i) {
      own += s[j * d + i] * s[j * d + i];
      other += s[j * d + i] * s[(j / d * d + (j + 1) % d) * d + i];
    }
    EXPECT_NEAR(own, d, 1e-4);
    EXPECT_NEAR(other, 0, 1e-4);
  }
  const auto row = randoms(d, 4);
  double norm = 0;
  for (const float x : row) norm += x * x;
  std::vector<double> want(d, 0.0);
  for (int j = 0; j < signs; ++j) {
    double dot = 0;
    for (int i = 0; i < d; ++i) dot += s[j * d + i] * row[i];
    for (int i = 0; i < d; ++i)
      want[i] += std::sqrt(std::numbers::pi / 2) / signs * std::sqrt(norm) * (dot > 0 ? 1 : -1) * s[j * d + i];
  }
  const auto back = once(coder, row);
  for (int i = 0; i < d; ++i) EXPECT_NEAR(back[i], want[i], 2e-3);
  EXPECT_EQ(coder.payload_bits(), 2);
  EXPECT_EQ(coder.metadata_bits(), 2);
  EXPECT_THAT(once(coder, std::vector<float>(d, 0.0f)), testing::Each(0));
}

TEST(Sketch, InnerProductsAreUnbiased) {
  const int d = 8;
  const auto k = randoms(d, 5), q = randoms(d, 6);
  double exact = 0, mean = 0;
  for (int i = 0; i < d; ++i) exact += q[i] * k[i];
  const int rounds = 3000;
  for (int r = 0; r < rounds; ++r) {
    const auto back = once(SignSketch(d, nullptr, {16, false, 0, 0, 100u + r}), k);
    for (int i = 0; i < d; ++i) mean += q[i] * back[i] / rounds;
  }
  EXPECT_NEAR(mean, exact, 0.05 * std::fabs(exact) + 0.3);
}

TEST(Sketch, OutlierChannelsHaveTheirOwn) {
  const SignSketch coder(8, nullptr, {16, true, 4, 2, 3});
  std::vector<float> rows = randoms(4 * 8, 7);
  for (int t = 0; t < 4; ++t) rows[t * 8 + 5] = 50, rows[t * 8 + 1] = -40;
  std::vector<std::uint8_t> stream(coder.stream_bytes(4), 0);
  coder.encode(rows.data(), 4, 0, stream.data());
  EXPECT_EQ(stream.size(), 2u + 4 * (4 + 2 + 1));
  EXPECT_EQ(stream[0], 1);
  EXPECT_EQ(stream[1], 5);
  keeps_the_contract(coder, 8);
}

TEST(Prod, LevelsAndASketchOfTheRest) {
  auto sketch = std::make_unique<SignSketch>(8, nullptr, SketchForm{8, false, 0, 0, 1});
  const ResidualCode coder(nullptr, levels(8, {-0.75f, 0.75f}), std::move(sketch));
  EXPECT_EQ(coder.payload_bits(), 2);
  EXPECT_EQ(coder.metadata_bits(), 2);
  keeps_the_contract(coder, 9);
}

TEST(Balanced, EvensOutARankOneBlock) {
  const int d = 4;
  const BalancedCode coder(nullptr, 16, 4, levels(d, {-1, 1}));
  std::vector<float> rows(16 * d);
  for (int t = 0; t < 16; ++t)
    for (int i = 0; i < d; ++i)
      rows[t * d + i] = static_cast<float>((t % 3 ? 1 : 4) * (1 << i) * ((t * 7 + i * 3) % 5 < 2 ? -1 : 1));
  const auto back = once(coder, rows);
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(back[i], rows[i], 2e-3 * std::fabs(rows[i]));
  EXPECT_EQ(coder.metadata_bits(), 1 + 4);
  std::fill(rows.begin(), rows.begin() + d, 0.0f);  // a token of zeros, then a channel of zeros
  for (int t = 0; t < 16; ++t) rows[t * d + 1] = 0;
  const auto quiet = once(coder, rows);
  for (const float x : quiet) EXPECT_TRUE(std::isfinite(x));
  for (int i = 0; i < d; ++i) EXPECT_EQ(quiet[i], 0.0f);
  keeps_the_contract(coder, 10);
}

TEST(Compose, RefusesWhatCannotNest) {
  EXPECT_THROW(BalancedCode(nullptr, 16, 4, std::make_unique<IntegerCode>(4, nullptr, GroupAxis::channel, 2, 32)), Error);
  EXPECT_THROW(RopeCode({1.0}, 0, levels(4, {-1, 1})), Error);
  EXPECT_THROW(OutlierCode(nullptr, 4, levels(4, {-1, 1})), Error);
}

}  // namespace
}  // namespace vi::quant
