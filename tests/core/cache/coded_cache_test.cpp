// The caches against attention's oracle over rows the test keeps itself. Every row handed to a
// cache is overwritten with NaN right after the call, as a decoder's buffers would be: what the
// cache attends to can only be its own codes and window.
#include "core/cache/coded_cache.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstring>

#include "core/attention/reference.h"
#include "core/common/error.h"
#include "core/quant/integer_code.h"
#include "core/quant/vector_code.h"
#include "tests/support/fake_coder.h"

namespace vi::cache {
namespace {

using codec::Flush;
using codec::WindowSpec;
using testing::normals;

struct Layout {
  CacheShape shape;
  WindowSpec window;
  std::vector<std::unique_ptr<quant::HeadCoder>> key, value;  // empty: exact

  CacheCoders coders() const {
    const std::size_t n = static_cast<std::size_t>(shape.n_layers) * shape.n_kv_heads;
    CacheCoders c{std::vector<const quant::HeadCoder*>(n), std::vector<const quant::HeadCoder*>(n)};
    for (std::size_t i = 0; i < key.size(); ++i) c.key[i] = key[i].get();
    for (std::size_t i = 0; i < value.size(); ++i) c.value[i] = value[i].get();
    return c;
  }
};

// Feeds `pieces` of tokens to every layer and after each compares attend() with the oracle.
class Feeder {
 public:
  explicit Feeder(const Layout& layout) : s_(layout), cache(s_.shape, s_.window, s_.coders()) {
    k_.resize(heads());
    v_.resize(heads());
  }
  void feed(std::int64_t n, std::uint64_t seed) {
    const int d = s_.shape.head_dim;
    const std::int64_t stride = n * d + 5;  // a gap between heads
    for (int layer = 0; layer < s_.shape.n_layers; ++layer) {
      std::vector<float> k = normals(s_.shape.n_kv_heads * stride, seed + layer);
      std::vector<float> v = normals(s_.shape.n_kv_heads * stride, seed + layer + 77);
      for (int h = 0; h < s_.shape.n_kv_heads; ++h) {
        const auto keep = [&](std::vector<float>& to, const std::vector<float>& from) {
          to.insert(to.end(), from.begin() + h * stride, from.begin() + h * stride + n * d);
        };
        keep(k_[layer * s_.shape.n_kv_heads + h], k);
        keep(v_[layer * s_.shape.n_kv_heads + h], v);
      }
      cache.append(layer, k.data(), v.data(), n, stride);
      std::fill(k.begin(), k.end(), NAN);
      std::fill(v.begin(), v.end(), NAN);
    }
    len_ += n;
  }
  void check(std::uint64_t seed) {
    const CacheCoders coders = s_.coders();
    const attention::DecodeShape shape{s_.shape.n_q_heads, s_.shape.n_kv_heads, s_.shape.head_dim};
    for (int layer = 0; layer < s_.shape.n_layers; ++layer) {
      ASSERT_EQ(cache.len(layer), len_);
      std::vector<std::vector<std::uint8_t>> streams;
      streams.reserve(2 * heads());
      std::vector<attention::HeadView> views(s_.shape.n_kv_heads);
      for (int h = 0; h < s_.shape.n_kv_heads; ++h) {
        const std::size_t i = static_cast<std::size_t>(layer) * s_.shape.n_kv_heads + h;
        views[h].len = static_cast<std::size_t>(len_);
        views[h].n_sinks = std::min<std::size_t>(views[h].len, s_.window.sinks);
        views[h].key = side(coders.key[i], k_[i], true, views[h].n_sinks, streams.emplace_back());
        views[h].value =
            side(coders.value[i], v_[i], false, views[h].n_sinks, streams.emplace_back());
      }
      const auto q =
          normals(static_cast<std::size_t>(shape.n_q_heads) * shape.head_dim, seed + layer);
      std::vector<float> out(q.size()), naive(q.size());
      std::vector<double> oracle(q.size());
      cache.attend(layer, q.data(), out.data());
      reference_attention(shape, views.data(), q.data(), oracle.data());
      naive_attention(shape, views.data(), q.data(), naive.data());
      double worst = 0, allowed = 2e-6;
      for (std::size_t j = 0; j < q.size(); ++j) {
        allowed = std::max(allowed, 2 * std::abs(naive[j] - oracle[j]));
        const double e = std::abs(out[j] - oracle[j]);
        worst = std::isnan(e) ? INFINITY : std::max(worst, e);
      }
      EXPECT_LE(worst, allowed) << "layer " << layer << " at " << len_ << " tokens";
    }
  }

 private:
  std::size_t heads() const {
    return static_cast<std::size_t>(s_.shape.n_layers) * s_.shape.n_kv_heads;
  }
  // The same side by the rule's own words: everything coded in one go from the rows kept here.
  attention::SideView side(const quant::HeadCoder* coder, const std::vector<float>& rows, bool key,
                           std::size_t n_sinks, std::vector<std::uint8_t>& stream) const {
    const int d = s_.shape.head_dim;
    const Flush flush = key ? s_.window.key_flush : s_.window.value_flush;
    const std::size_t after = static_cast<std::size_t>(len_) - n_sinks, recent = s_.window.recent;
    std::size_t coded = 0;
    if (coder != nullptr) {
      coded = flush == Flush::block ? after / recent * recent : after - std::min(after, recent);
      stream.resize(coder->stream_bytes(coded));
      coder->encode(rows.data() + n_sinks * d, coded, 0, stream.data());
    }
    return {coder, stream.data(), coded, rows.data(), rows.data() + (n_sinks + coded) * d};
  }
  const Layout& s_;
  std::int64_t len_ = 0;
  std::vector<std::vector<float>> k_, v_;

 public:
  CodedCache cache;
};

void run(const Layout& layout) {
  Feeder feeder(layout);
  feeder.check(1);  // an empty cache attends to nothing: zeros
  std::uint64_t seed = 100;
  for (const std::int64_t n : {1, 2, 1, 70, 1, 1, 130, 33}) {
    feeder.feed(n, seed += 1000);
    feeder.check(seed + 500);
  }
  for (int step = 0; step < 140; ++step) feeder.feed(1, seed += 1000);
  feeder.check(seed);
  feeder.cache.reset();
  EXPECT_EQ(feeder.cache.len(0), 0);
  EXPECT_EQ(feeder.cache.payload_bytes() + feeder.cache.window_bytes(), 0u);
}

constexpr CacheShape kShape{2, 6, 2, 32};

TEST(CodedCache, DenseIsExact) { run({kShape, {.recent = 0, .sinks = 0}, {}, {}}); }

TEST(CodedCache, VectorCodesBothFlushRules) {
  for (const Flush flush : {Flush::block, Flush::sliding})
    for (const int sinks : {0, 4}) {
      Layout layout{
          kShape, {.recent = 64, .sinks = sinks, .key_flush = flush, .value_flush = flush}, {}, {}};
      for (int i = 0; i < 4; ++i) {
        layout.key.push_back(std::make_unique<testing::FakeVectorCoder>(
            32, 4, 5, i % 2 == 0, i, testing::affine_transform(32, i)));
        layout.value.push_back(std::make_unique<testing::FakeVectorCoder>(
            32, 8, 6, i % 2 == 0, i + 9, testing::affine_transform(32, i + 9)));
      }
      run(layout);
    }
}

TEST(CodedCache, KiviKeysByBlocksValuesSliding) {
  Layout layout{
      kShape,
      {.recent = 64, .sinks = 0, .key_flush = Flush::block, .value_flush = Flush::sliding},
      {},
      {}};
  for (int i = 0; i < 4; ++i) {
    layout.key.push_back(
        std::make_unique<quant::IntegerCode>(32, nullptr, quant::GroupAxis::channel, 2, 32));
    layout.value.push_back(
        std::make_unique<quant::IntegerCode>(32, nullptr, quant::GroupAxis::token, 2, 16));
  }
  run(layout);
}

TEST(CodedCache, OneSideExact) {
  for (const bool keys : {false, true}) {
    Layout layout{kShape, {.recent = 32, .sinks = 2}, {}, {}};
    for (int i = 0; i < 4; ++i)
      (keys ? layout.key : layout.value)
          .push_back(std::make_unique<testing::FakeVectorCoder>(32, 4, 4, false, i));
    run(layout);
  }
}

TEST(CodedCache, TheProjectsVectorCode) {
  const auto t = testing::affine_transform(32, 4);
  auto centroids = normals(8 * 256 * 4, 5);
  for (float& c : centroids) c = half_to_float(float_to_half(c));
  Layout layout{kShape, {.recent = 128, .sinks = 4}, {}, {}};
  for (int i = 0; i < 4; ++i) {
    layout.key.push_back(
        std::make_unique<quant::VectorCode>(32, &t, quant::make_books(4, 8, 8, centroids.data())));
    layout.value.push_back(
        std::make_unique<quant::VectorCode>(32, &t, quant::make_books(4, 8, 1, centroids.data())));
  }
  run(layout);
}

TEST(CodedCache, BytesAreTheCodersBytes) {
  Layout layout{kShape, {.recent = 64, .sinks = 4}, {}, {}};
  for (int i = 0; i < 4; ++i) {
    layout.key.push_back(std::make_unique<testing::FakeVectorCoder>(32, 4, 5, true, i));
    layout.value.push_back(std::make_unique<testing::FakeVectorCoder>(32, 8, 8, true, i));
  }
  Feeder feeder(layout);
  feeder.feed(1000, 3);
  const std::size_t coded = (1000 - 4) / 64 * 64, exact = 1000 - coded;
  EXPECT_EQ(feeder.cache.payload_bytes(),
            4 * (layout.key[0]->stream_bytes(coded) + layout.value[0]->stream_bytes(coded)));
  EXPECT_EQ(feeder.cache.window_bytes(), 2 * 4 * exact * 32 * sizeof(float));
  EXPECT_GE(feeder.cache.allocated_bytes(),
            feeder.cache.payload_bytes() + feeder.cache.window_bytes());
}

TEST(CodedCache, SameBytesForAnyNumberOfThreads) {
  Layout layout{{1, 8, 4, 32}, {.recent = 64, .sinks = 4, .value_flush = Flush::sliding}, {}, {}};
  for (int i = 0; i < 4; ++i) {
    layout.key.push_back(std::make_unique<testing::FakeVectorCoder>(32, 4, 5, true, i));
    layout.value.push_back(std::make_unique<testing::FakeVectorCoder>(32, 4, 5, false, i + 7));
  }
  const auto q = normals(8 * 32, 2);
  std::vector<std::vector<float>> outs;
  const int before = omp_get_max_threads();
  for (const int threads : {1, 2, 5}) {
    omp_set_num_threads(threads);
    Feeder feeder(layout);
    feeder.feed(3000, 3);
    feeder.feed(1, 4);
    outs.emplace_back(q.size());
    feeder.cache.attend(0, q.data(), outs.back().data());
  }
  omp_set_num_threads(before);
  for (const auto& out : outs)
    EXPECT_EQ(std::memcmp(out.data(), outs[0].data(), out.size() * 4), 0);
}

TEST(CodedCache, RefusesWhatDoesNotFit) {
  auto cache = make_dense_cache(2, 6, 2, 32);
  const std::vector<float> rows(2 * 32 * 3);
  std::vector<float> out(6 * 32);
  EXPECT_THROW(cache->append(2, rows.data(), rows.data(), 3, 96), Error);
  EXPECT_THROW(cache->append(-1, rows.data(), rows.data(), 3, 96), Error);
  EXPECT_THROW(cache->append(0, rows.data(), rows.data(), 3, 95), Error);
  EXPECT_THROW(cache->append(0, rows.data(), rows.data(), -1, 96), Error);
  EXPECT_THROW(cache->attend(2, out.data(), out.data()), Error);
  EXPECT_THROW(make_dense_cache(2, 5, 2, 32), Error);
  cache->append(1, rows.data(), rows.data(), 3, 96);
  EXPECT_EQ(cache->len(0), 0);
  EXPECT_EQ(cache->len(1), 3);
}

}  // namespace
}  // namespace vi::cache
