// The flush rules, and that it does not matter in how many pieces the tokens come.
#include "core/cache/side_cache.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/common/error.h"
#include "tests/support/fake_coder.h"

namespace vi::cache {
namespace {

using codec::Flush;
using testing::FakeGroupCoder;
using testing::FakeVectorCoder;
using testing::normals;

constexpr int kDim = 8;

TEST(Window, KeepsTheNewestInOrderAndPoisonsTheRest) {
  Window window(2);
  std::size_t first = 0, next = 0;
  Rng rng(3);
  for (int step = 0; step < 2000; ++step) {
    const std::size_t n = rng.below(7);
    std::vector<float> rows;
    for (std::size_t i = 0; i < 2 * n; ++i) rows.push_back(static_cast<float>(2 * next + i));
    window.push(rows.data(), n);
    next += n;
    const std::size_t gone = window.size() > 40 ? window.size() - 40 + rng.below(20) : 0;
    window.drop(gone);
    first += gone;
    ASSERT_EQ(window.size(), next - first);
    for (std::size_t i = 0; i < 2 * window.size(); ++i) ASSERT_EQ(window.rows()[i], 2 * first + i);
  }
  EXPECT_LE(window.allocated_bytes(), 2 * sizeof(float) * 3 * 47);
  const float* oldest = window.rows();
  window.drop(1);
  EXPECT_TRUE(std::isnan(oldest[0]) && std::isnan(oldest[1]));
}

TEST(SideCache, BlockRuleAsKiviKeys) {  // the exact tail of a prompt is (T - sinks) mod recent
  const FakeVectorCoder coder(kDim, 4, 3, false, 1);
  for (const int sinks : {0, 4})
    for (int tokens = 0; tokens <= 200; ++tokens) {
      SideCache side(&coder, kDim, {.recent = 32, .sinks = sinks}, true);
      side.append(normals(tokens * kDim, 5).data(), tokens);
      const int after = std::max(0, tokens - sinks);
      EXPECT_EQ(side.view().n_coded, after / 32 * 32u);
      EXPECT_EQ(side.window_bytes(), (std::min(tokens, sinks) + after % 32) * kDim * sizeof(float));
      EXPECT_EQ(side.payload_bytes(), coder.stream_bytes(after / 32 * 32));
    }
}

TEST(SideCache, SlidingRuleKeepsExactlyTheNewest) {
  const FakeVectorCoder coder(kDim, 4, 3, false, 1);
  SideCache side(&coder, kDim, {.recent = 32, .sinks = 3, .key_flush = Flush::sliding}, true);
  const auto rows = normals(100 * kDim, 5);
  for (int t = 0; t < 100; ++t) {
    side.append(rows.data() + t * kDim, 1);
    const int coded = std::max(0, t + 1 - 3 - 32);
    ASSERT_EQ(side.view().n_coded, static_cast<std::size_t>(coded));
    const int oldest = 3 + coded;
    for (int i = 0; i < (t + 1 - oldest) * kDim; ++i)
      ASSERT_EQ(side.view().recent[i], rows[oldest * kDim + i]);
    for (int i = 0; i < std::min(3, t + 1) * kDim; ++i) ASSERT_EQ(side.view().sinks[i], rows[i]);
  }
}

TEST(SideCache, NoCoderStaysExact) {
  SideCache side(nullptr, kDim, {.recent = 4, .sinks = 2}, true);
  const auto rows = normals(50 * kDim, 5);
  side.append(rows.data(), 50);
  EXPECT_EQ(side.view().n_coded, 0u);
  EXPECT_EQ(side.payload_bytes(), 0u);
  EXPECT_EQ(side.window_bytes(), 50 * kDim * sizeof(float));
}

void expect_same(const SideCache& a, const SideCache& b) {
  const auto x = a.view(), y = b.view();
  ASSERT_EQ(a.len(), b.len());
  ASSERT_EQ(x.n_coded, y.n_coded);
  ASSERT_EQ(a.payload_bytes(), b.payload_bytes());
  ASSERT_EQ(a.window_bytes(), b.window_bytes());
  EXPECT_TRUE(std::equal(x.stream, x.stream + a.payload_bytes(), y.stream));
  const std::size_t rows = a.window_bytes() / sizeof(float),
                    sinks = std::min<std::size_t>(a.len(), 5) * kDim;
  EXPECT_TRUE(std::equal(x.sinks, x.sinks + sinks, y.sinks));
  EXPECT_TRUE(std::equal(x.recent, x.recent + (rows - sinks), y.recent));
}

// Any cutting of the same tokens gives the same bytes; whole groups stay whole groups (keys coded
// one token at a time would each be their own minimum and maximum: exact, but billed as coded).
TEST(SideCache, PiecesDoNotMatter) {
  const FakeVectorCoder vectors(kDim, 2, 4, true, 1);
  const FakeGroupCoder groups(kDim, 16);
  const auto all = normals(301 * kDim, 9);
  for (const quant::HeadCoder* coder : {static_cast<const quant::HeadCoder*>(&vectors),
                                        static_cast<const quant::HeadCoder*>(&groups)})
    for (const Flush flush : {Flush::block, Flush::sliding})
      for (const auto& [recent, step] : {std::pair{0, 0}, {1, 0}, {48, 0}, {48, 16}, {128, 0}, {96, 48}}) {
        const codec::WindowSpec rule{.recent = recent, .sinks = 5, .step = step, .key_flush = flush};
        SideCache whole(coder, kDim, rule, true);
        whole.append(all.data(), 301);
        EXPECT_EQ(whole.view().n_coded % coder->seal_tokens(), 0u);
        for (const std::size_t piece : {1u, 7u, 64u, 250u}) {
          SideCache pieces(coder, kDim, rule, true);
          for (std::size_t t = 0; t < 301; t += piece) {
            auto rows = std::vector<float>(
                all.begin() + static_cast<std::ptrdiff_t>(t * kDim),
                all.begin() +
                    static_cast<std::ptrdiff_t>(std::min<std::size_t>(301, t + piece) * kDim));
            pieces.append(rows.data(), rows.size() / kDim);
          }
          expect_same(whole, pieces);
        }
      }
}

TEST(SideCache, RefusesACoderOfAnotherWidth) {
  const FakeVectorCoder coder(16, 4, 3, false, 1);
  EXPECT_THROW(SideCache(&coder, kDim, {.recent = 32}, true), Error);
}

}  // namespace
}  // namespace vi::cache
