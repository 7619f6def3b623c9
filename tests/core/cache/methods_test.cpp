// Every preset through the cache: token by token, in pieces and at once give the same bytes, what is decoded
// is the one-shot reconstruction, and the bytes held are those that the accountant counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>

#include "core/attention/reference.h"
#include "core/cache/coded_cache.h"
#include "tests/support/fit_method.h"

namespace vi::cache {
namespace {

namespace fs = std::filesystem;
const fs::path kMethods = fs::path(VI_SOURCE_DIR) / "experiments/methods";
constexpr int kLayer = 2, kHeads = 2, kDim = 128;

class EveryMethod : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Presets, EveryMethod, ::testing::ValuesIn(codec::method_names(kMethods)),
                         [](const auto& i) {
                           std::string name;
                           for (const char c : i.param) {
                             if (c == '+')
                               name += "_plus_";
                             else
                               name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           }
                           return name;
                         });

TEST_P(EveryMethod, StreamsAsItReconstructs) {
  const codec::MethodSpec method = codec::find_method(kMethods, GetParam());
  const testing::Fitted fitted = testing::fit_method(method, {5, kHeads, kDim, 320, 512});
  const std::int64_t n = 460;
  std::vector<float> rows[2];  // keys, values: [heads, n, dim]
  for (int h = 0; h < kHeads; ++h)
    for (const int side : {0, 1}) {
      const auto one = testing::sample_rows({5, kHeads, kDim, static_cast<std::size_t>(n), 0}, 500 + 2 * h + side, side == 0);
      rows[side].insert(rows[side].end(), one.begin(), one.end());
    }
  const auto make = [&] {
    CacheCoders coders;
    for (int h = 0; h < kHeads; ++h) {
      coders.key.push_back(fitted.codec->key(kLayer, h));
      coders.value.push_back(fitted.codec->value(kLayer, h));
    }
    return CodedCache({1, 2 * kHeads, kHeads, kDim}, method.codec.window, coders);
  };
  const auto feed = [&](CodedCache& cache, std::vector<std::int64_t> pieces) {
    std::int64_t at = 0;
    for (std::int64_t piece : pieces) {
      cache.append(0, rows[0].data() + at * kDim, rows[1].data() + at * kDim, piece, n * kDim);
      at += piece;
    }
    EXPECT_EQ(at, n);
  };
  CodedCache steps = make(), pieces = make(), once = make();
  feed(steps, std::vector<std::int64_t>(n, 1));
  feed(pieces, {1, 130, 5, 64, 260});
  feed(once, {n});
  const auto a = steps.views(0), b = pieces.views(0), c = once.views(0);
  std::int64_t coded_bytes = 0;
  for (int h = 0; h < kHeads; ++h)
    for (const int side : {0, 1}) {
      const auto of = [&](const std::vector<attention::HeadView>& views) {
        return side == 0 ? views[h].key : views[h].value;
      };
      const attention::SideView view = of(a);
      ASSERT_EQ(view.n_coded, of(b).n_coded);
      ASSERT_EQ(view.n_coded, of(c).n_coded);
      if (view.coder == nullptr) continue;
      ASSERT_GT(view.n_coded, 0u);
      const std::size_t bytes = view.coder->stream_bytes(view.n_coded);
      coded_bytes += static_cast<std::int64_t>(bytes);
      EXPECT_TRUE(std::equal(view.stream, view.stream + bytes, of(b).stream));
      EXPECT_TRUE(std::equal(view.stream, view.stream + bytes, of(c).stream));
      std::vector<float> decoded(view.n_coded * kDim), made(decoded.size());
      view.coder->decode(view.stream, 0, view.n_coded, decoded.data());
      const std::size_t sinks = method.codec.window.sinks, at = (h * n + sinks) * kDim;
      view.coder->reconstruct_at(rows[side].data() + at, view.n_coded, {sinks, rows[0].data() + at}, made.data());
      EXPECT_EQ(decoded, made) << (side ? "value" : "key") << " of head " << h;
      EXPECT_FALSE(std::equal(made.begin(), made.end(), rows[side].begin() + static_cast<std::ptrdiff_t>(at)));
      // counted bits = bytes held, up to the last block's unused places
      const double counted = view.coder->fixed_bytes() + view.n_coded * kDim *
                             (view.coder->payload_bits() + view.coder->metadata_bits()) / 8;
      EXPECT_LE(counted, bytes + 1e-6);
      EXPECT_GE(counted, bytes - 16.0 * kDim * (view.coder->payload_bits() + view.coder->metadata_bits()) / 8);
    }
  EXPECT_EQ(steps.payload_bytes(), static_cast<std::size_t>(coded_bytes));

  std::vector<float> q(2 * kHeads * kDim), out(q.size());
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = 0.1f * static_cast<float>((i * 37) % 11) - 0.5f;
  std::vector<double> oracle(q.size());
  steps.attend(0, q.data(), out.data());
  attention::reference_attention({2 * kHeads, kHeads, kDim}, a.data(), q.data(), oracle.data());
  for (std::size_t i = 0; i < q.size(); ++i) ASSERT_NEAR(out[i], oracle[i], 2e-4 * (1 + std::fabs(oracle[i])));
}

}  // namespace
}  // namespace vi::cache
