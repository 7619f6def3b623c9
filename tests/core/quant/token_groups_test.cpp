// Coders that look at tokens together: OTT's pool and Chelsea's merging, by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/common/error.h"
#include "core/common/rng.h"
#include "core/quant/compose/merge_code.h"
#include "core/quant/compose/token_pool.h"
#include "core/quant/integer_code.h"

namespace vi::quant {
namespace {

using testing::ElementsAre;

std::unique_ptr<HeadCoder> integers(GroupAxis axis, int d, int group) {
  return std::make_unique<IntegerCode>(d, nullptr, axis, 2, group);
}

// 12 tokens of 2 channels, |k| summed: 10 2 8 9 | 5 1 6 7 | 4 0.5 3 6
const std::vector<float> kKeys{4, 6, 1, -1, 8, 0, 6, 3,  //
                               1, 4, 0, 1, 5, 1, 3, 4,   //
                               3, 1, 0.25f, 0.25f, 1, 2, 6, 0};

TEST(TokenPool, ByHand) {
  const TokenPool coder({1, 1, 4, true}, integers(GroupAxis::channel, 2, 4));
  std::vector<std::uint8_t> stream(coder.stream_bytes(12), 0);
  EXPECT_EQ(coder.fixed_bytes(), 2u * (12 + 4));  // one in the pool, one pushed out of it
  EXPECT_EQ(stream.size(), coder.fixed_bytes() + 3 * (2 * 4 + 2));
  coder.encode(kKeys.data(), 12, 0, stream.data());
  std::vector<float> out(24);
  coder.decode(stream.data(), 0, 12, out.data());
  // Token 1 is traced first, token 5 pushes it to the auxiliary pool, which is full then: token 9, the
  // smallest of all, is not traced. Both traced ones are exact.
  EXPECT_EQ(out[2], 1);
  EXPECT_EQ(out[3], -1);
  EXPECT_EQ(out[10], 0);
  EXPECT_EQ(out[11], 1);
  // Group 1 without token 1, whose place the group's mean (4.75, 2) took: channel 0 of {4, 4.75, 8, 6} has
  // scale 4/3, channel 1 of {6, 2, 0, 3} has scale 2.
  const float step = out[6] - 4;
  EXPECT_NEAR(step, 2 * 4.0 / 3, 2e-3);
  EXPECT_THAT(std::vector<float>({out[1], out[5], out[7]}), ElementsAre(6, 0, 4));
  // Group 3 as KIVI would code it.
  const IntegerCode plain(2, nullptr, GroupAxis::channel, 2, 4);
  std::vector<float> group(kKeys.begin() + 16, kKeys.end());
  plain.reconstruct(group.data(), 4, group.data());
  EXPECT_TRUE(std::equal(group.begin(), group.end(), out.begin() + 16));
}

TEST(TokenPool, ValuesFollowTheirKeys) {
  const TokenPool coder({1, 1, 4, false}, integers(GroupAxis::token, 4, 4));
  EXPECT_TRUE(coder.wants_keys());
  Rng rng(2);
  std::vector<float> values(12 * 4), keys(12 * 4, 9.0f);
  for (float& x : values) x = static_cast<float>(rng.below(64)) / 4 + 0.125f;
  for (const int t : {1, 5}) std::fill_n(keys.begin() + t * 4, 4, t == 1 ? 2.0f : 1.0f);
  std::vector<std::uint8_t> stream(coder.stream_bytes(12), 0), steps = stream;
  coder.encode_with_keys(values.data(), keys.data(), 12, 0, stream.data());
  for (int t = 0; t < 12; t += 4) coder.encode_with_keys(values.data() + t * 4, keys.data() + t * 4, 4, t, steps.data());
  EXPECT_EQ(stream, steps);
  std::vector<float> out(48), made(48);
  coder.decode(stream.data(), 0, 12, out.data());
  coder.reconstruct_at(values.data(), 12, {0, keys.data()}, made.data());
  EXPECT_EQ(out, made);
  for (const int t : {1, 5})
    for (int i = 0; i < 4; ++i) EXPECT_EQ(out[t * 4 + i], values[t * 4 + i]);
  EXPECT_NE(out, values);
  EXPECT_THROW(coder.encode(values.data(), 12, 0, stream.data()), Error);
  EXPECT_THROW(coder.reconstruct(values.data(), 12, made.data()), Error);
}

TEST(TokenPool, WithoutTokensItIsTheInnerCoder) {
  const TokenPool coder({0, 32, 4, true}, integers(GroupAxis::channel, 2, 4));
  EXPECT_EQ(coder.fixed_bytes(), 0u);
  const IntegerCode plain(2, nullptr, GroupAxis::channel, 2, 4);
  std::vector<float> a(24), b(24);
  coder.reconstruct(kKeys.data(), 12, a.data());
  plain.reconstruct(kKeys.data(), 12, b.data());
  EXPECT_EQ(a, b);
  EXPECT_THROW(TokenPool({4, 1, 4, true}, integers(GroupAxis::channel, 2, 4)), Error);
  EXPECT_THROW(TokenPool({1, 1, 6, true}, integers(GroupAxis::channel, 2, 4)), Error);
}

TEST(Merge, ByHand) {
  // Even tokens look for odd ones: 0 is like 1, 2 like 3.
  const std::vector<float> keys{1, 0, 1, 0.5f, 0, 1, 0, 2}, values{1, 1, 3, 5, 0, 8, 0, 0};
  EXPECT_THAT(merge_tokens(keys.data(), 4, 2, 2), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(merge_tokens(keys.data(), 4, 2, 3), ElementsAre(0, 1, 2, 2));  // the best link first
  EXPECT_THAT(merge_tokens(keys.data(), 4, 2, 1), ElementsAre(0, 0, 0, 0));
  const MergeCode key(2, {4, 2, true}), value(2, {4, 2, false});
  std::vector<std::uint8_t> stream(key.stream_bytes(4), 0);
  EXPECT_EQ(stream.size(), 2u * 2 * 2 + 1);
  EXPECT_EQ(key.payload_bits(), 8);
  EXPECT_EQ(key.metadata_bits(), 1);
  key.encode(keys.data(), 4, 0, stream.data());
  EXPECT_EQ(stream[8], 0b1100);
  std::vector<float> out(8);
  key.decode(stream.data(), 0, 4, out.data());
  EXPECT_THAT(out, ElementsAre(1, 0.25f, 1, 0.25f, 0, 1.5f, 0, 1.5f));
  value.reconstruct_at(values.data(), 4, {0, keys.data()}, out.data());
  EXPECT_THAT(out, ElementsAre(2, 3, 2, 3, 0, 4, 0, 4));
  EXPECT_THROW(value.encode(values.data(), 4, 0, stream.data()), Error);
}

// A centroid that stands once for each of its tokens weighs as one with log(count) added to its logit.
TEST(Merge, IsTheLogCountCorrection) {
  Rng rng(3);
  const int d = 4, n = 16;
  std::vector<float> keys(n * d), values(n * d), k(n * d), v(n * d);
  for (float& x : keys) x = static_cast<float>(rng.normal());
  for (float& x : values) x = static_cast<float>(rng.normal());
  const MergeCode key(d, {n, 4, true}), value(d, {n, 4, false});
  key.reconstruct(keys.data(), n, k.data());
  value.reconstruct_at(values.data(), n, {0, keys.data()}, v.data());
  const auto cluster = merge_tokens(keys.data(), n, d, 4);
  const double q[d] = {0.3, -1, 0.7, 0.2};
  double sum = 0, out = 0, sum2 = 0, out2 = 0;
  for (int t = 0; t < n; ++t) {
    double score = 0;
    for (int i = 0; i < d; ++i) score += q[i] * k[t * d + i];
    sum += std::exp(score), out += std::exp(score) * v[t * d];
  }
  for (int c = 0; c < 4; ++c) {
    int count = 0, one = -1;
    for (int t = 0; t < n; ++t)
      if (cluster[t] == c) ++count, one = t;
    ASSERT_GE(one, 0);
    double score = std::log(count);
    for (int i = 0; i < d; ++i) score += q[i] * k[one * d + i];
    sum2 += std::exp(score), out2 += std::exp(score) * v[one * d];
  }
  EXPECT_NEAR(out / sum, out2 / sum2, 1e-12);
}

TEST(Merge, ChunkByChunkIsAllAtOnce) {
  const int d = 8;
  const MergeCode coder(d, {16, 2, true});
  Rng rng(4);
  std::vector<float> rows(80 * d), out(80 * d), made(80 * d);
  for (float& x : rows) x = static_cast<float>(rng.normal());
  std::vector<std::uint8_t> one(coder.stream_bytes(80), 0), steps = one;
  EXPECT_DOUBLE_EQ(one.size() * 8.0, 80 * d * (coder.payload_bits() + coder.metadata_bits()));
  coder.encode(rows.data(), 80, 0, one.data());
  for (int t = 0; t < 80; t += 16) coder.encode(rows.data() + t * d, 16, t, steps.data());
  EXPECT_EQ(one, steps);
  coder.decode(one.data(), 0, 80, out.data());
  coder.reconstruct(rows.data(), 80, made.data());
  EXPECT_EQ(out, made);
  EXPECT_NE(out, rows);
  std::vector<float> zeros(16 * d, 0.0f);
  coder.reconstruct(zeros.data(), 16, made.data());
  EXPECT_TRUE(std::all_of(made.begin(), made.begin() + 16 * d, [](float x) { return x == 0; }));
}

}  // namespace
}  // namespace vi::quant
