// The fused attention against the f64 oracle: every class of code, group size and length, each SIMD
// level this machine has, both sides coded to different lengths, and any number of threads.
#include "core/attention/vq_decode.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cstring>

#include "core/common/error.h"
#include "tests/core/attention/fixture.h"

namespace vi::attention {
namespace {

using testing::Case;
using testing::error;
using testing::Layer;
using testing::SideCase;

// At most twice the error of the f32 twin; with few terms both are luck, so the floor is what f32
// sums of head_dim products lose.
void expect_close(const Case& c, const std::string& what) {
  const Layer layer(c);
  const auto oracle = layer.reference();
  const double floor = 2e-6 * std::max(1.0, c.spread);
  const double allowed = std::max(2 * error(layer.naive(), oracle), floor);
  for (int level = 0; level <= static_cast<int>(best_simd()); ++level) {
    const double e = error(layer.fused(static_cast<Simd>(level)), oracle);
    EXPECT_LE(e, allowed) << what << " at " << simd_name(static_cast<Simd>(level));
  }
}

std::string name(const SideCase& s) {
  return fmt::format("d{}b{}{}{}", s.dsub, s.bits, s.shared ? " shared" : "",
                     s.affine ? " affine" : "");
}

TEST(VqDecode, EveryWidthOfCode) {
  for (int bits = 1; bits <= 16; ++bits)
    for (const bool shared : {false, true})
      for (const std::size_t n : {37u, 400u}) {  // below and above 2^bits for the small ones
        const SideCase key{.dsub = 4, .bits = bits, .shared = shared, .n_coded = n};
        const SideCase value{.dsub = 4, .bits = 17 - bits, .shared = shared, .n_coded = n};
        expect_close({{4, 1, 16}, 0, n + 3, key, value, static_cast<std::uint64_t>(bits)},
                     name(key) + " " + name(value));
      }
}

TEST(VqDecode, EveryWidthThroughTables) {  // long enough for a table also at 12 bits
  for (const int bits : {9, 10, 12})
    expect_close({{4, 1, 16},
                  0,
                  5000,
                  {.dsub = 8, .bits = bits, .shared = true, .n_coded = 4990},
                  {.dsub = 8, .bits = bits, .shared = true, .n_coded = 4990}},
                 fmt::format("d8b{}", bits));
}

TEST(VqDecode, EverySubVector) {
  for (const int dsub : {1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32})
    for (const bool affine : {false, true})
      for (const int books : {1, 3, 4, 9}) {
        const SideCase side{.dsub = dsub, .bits = 5, .affine = affine, .n_coded = 61};
        expect_close({{3, 1, dsub * books}, 1, 70, side, side, static_cast<std::uint64_t>(books)},
                     name(side) + fmt::format(" x {}", books));
      }
}

TEST(VqDecode, EveryGroupSize) {
  for (int group = 1; group <= 17; ++group) {
    const SideCase key{.dsub = 4, .bits = 8, .affine = true, .n_coded = 300};
    const SideCase value{.dsub = 2, .bits = 4, .shared = true, .affine = true, .n_coded = 300};
    expect_close({{2 * group, 2, 32}, 4, 333, key, value}, fmt::format("group {}", group));
  }
}

TEST(VqDecode, AwkwardLengths) {
  for (const std::size_t n : {0u, 1u, 15u, 16u, 17u, 31u, 32u, 33u, 63u, 64u, 65u, 127u, 1009u,
                              1023u, 1024u, 1025u, 2047u, 2049u, 3001u})
    for (const std::size_t exact : {0u, 1u, 33u}) {
      const SideCase side{.dsub = 4, .bits = 6, .affine = true, .n_coded = n};
      for (const std::size_t sinks : {0u, 5u})
        expect_close({{4, 1, 32}, sinks, sinks + n + exact, side, side, n + exact},
                     fmt::format("{} + {} + {}", sinks, n, exact));
    }
}

TEST(VqDecode, SidesCodedToDifferentLengths) {
  const std::size_t lengths[] = {0, 1, 32, 100, 1024, 1100, 2200};
  for (const std::size_t k : lengths)
    for (const std::size_t v : lengths) {
      const SideCase key{.dsub = 4, .bits = 8, .affine = true, .n_coded = k};
      const SideCase value{.dsub = 8, .bits = 8, .affine = true, .n_coded = v};
      expect_close({{8, 2, 32}, 2, 2210, key, value, k + v},
                   fmt::format("{} keys {} values", k, v));
    }
}

TEST(VqDecode, CodersWithoutAVectorView) {
  const SideCase groups{.dsub = -32, .n_coded = 1152};
  const SideCase sliding{.dsub = -1, .n_coded = 1161};
  const SideCase vectors{.dsub = 4, .bits = 8, .affine = true, .n_coded = 1100};
  const SideCase exact{};
  for (const SideCase& key : {groups, vectors, exact})
    for (const SideCase& value : {sliding, vectors, exact})
      expect_close({{6, 2, 64}, 4, 1300, key, value}, fmt::format("{} {}", key.dsub, value.dsub));
}

TEST(VqDecode, SharpSoftmax) {
  const SideCase side{.dsub = 4, .bits = 8, .affine = true, .n_coded = 3000};
  for (const double spread : {0.0, 1e-3, 8.0, 60.0})
    expect_close({{4, 1, 64}, 1, 3100, side, side, 3, spread}, fmt::format("spread {}", spread));
}

// Codes that tie everywhere: all scores equal, so the output is the plain mean of the values.
TEST(VqDecode, TiesGiveTheMean) {
  Case c{{4, 1, 32},
         0,
         500,
         {.dsub = 4, .bits = 1, .n_coded = 500},
         {.dsub = 4, .bits = 8, .n_coded = 500}};
  Layer layer(c);
  std::fill(layer.q.begin(), layer.q.end(), 0.0f);
  const auto values = side_rows(layer.heads[0].value, 0, 500, 32);
  const auto out = layer.fused();
  for (int i = 0; i < 32; ++i) {
    double mean = 0;
    for (int t = 0; t < 500; ++t) mean += values[t * 32 + i] / 500;
    EXPECT_NEAR(out[i], mean, 1e-6);
  }
}

TEST(VqDecode, SameBytesForAnyNumberOfThreads) {
  const SideCase key{.dsub = 4, .bits = 8, .affine = true, .n_coded = 9000};
  const SideCase value{.dsub = 4, .bits = 8, .shared = true, .affine = true, .n_coded = 8900};
  const Layer layer({{12, 3, 64}, 4, 9100, key, value});
  const int before = omp_get_max_threads();
  std::vector<std::vector<float>> outs;
  for (const int threads : {1, 2, 3, 8}) {
    omp_set_num_threads(threads);
    outs.push_back(layer.fused());
  }
  omp_set_num_threads(before);
  for (const auto& out : outs)
    EXPECT_EQ(std::memcmp(out.data(), outs[0].data(), out.size() * sizeof(float)), 0);
}

TEST(VqDecode, NanInOneHeadStaysThere) {
  const SideCase side{.dsub = 4, .bits = 8, .n_coded = 100};
  Layer layer({{4, 2, 32}, 0, 110, side, side});
  layer.q[5] = NAN;
  const auto out = layer.fused();
  for (int i = 0; i < 32; ++i) EXPECT_TRUE(std::isnan(out[i]));
  for (int i = 32; i < 128; ++i) EXPECT_TRUE(std::isfinite(out[i]));
}

// A coder that fails while the threads are at work: one exception, no hang, no lost process.
class Failing final : public quant::HeadCoder {
 public:
  int seal_tokens() const override { return 1; }
  int head_dim() const override { return 32; }
  std::size_t stream_bytes(std::size_t n) const override { return n; }
  double payload_bits() const override { return 8; }
  double metadata_bits() const override { return 0; }
  void encode(const float*, std::size_t, std::size_t, std::uint8_t*) const override {}
  void decode(const std::uint8_t*, std::size_t, std::size_t, float*) const override {
    fail("no decode");
  }
};

TEST(VqDecode, AFailureInAThreadIsThrown) {
  Layer layer({{4, 2, 32}, 0, 6000, {}, {}});
  const Failing coder;
  const std::uint8_t byte = 0;
  layer.heads[1].key.coder = &coder;
  layer.heads[1].key.stream = &byte;
  layer.heads[1].key.n_coded = 5000;
  EXPECT_THROW(layer.fused(), Error);
}

}  // namespace
}  // namespace vi::attention
