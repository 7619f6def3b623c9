// The evaluation modes against an f64 twin that goes token by token, on tiny shapes.
#include "eval/modes/modes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/codec/window.h"
#include "core/common/error.h"
#include "core/decoder/decoder.h"
#include "tests/support/random_codec.h"
#include "tests/support/random_model.h"

namespace vi::eval {
namespace {

using codec::Flush;
using codec::WindowSpec;
using vi::testing::integer_codec;
using vi::testing::normals;
using vi::testing::random_vector_codec;

constexpr int kLayers = 2, kQueryHeads = 4, kHeads = 2, kDim = 16;

using CodecPtr = std::shared_ptr<const codec::Codec>;
using End = std::function<std::int64_t(bool key, std::int64_t row)>;  // tokens before it are coded

at::Tensor random_tensor(std::int64_t heads, std::int64_t n, std::uint64_t seed) {
  const auto values = normals(static_cast<std::size_t>(heads * n * kDim), seed);
  at::Tensor t = at::empty({heads, n, kDim}, at::TensorOptions().dtype(at::kFloat));
  std::copy(values.begin(), values.end(), t.data_ptr<float>());
  return t;
}

struct Prompt {
  explicit Prompt(std::int64_t n_)
      : n(n_),
        q(random_tensor(kQueryHeads, n, 1)),
        k(random_tensor(kHeads, n, 2)),
        v(random_tensor(kHeads, n, 3)) {}
  std::int64_t n;
  at::Tensor q, k, v;
};

// Row i of the whole prompt, token j reconstructed where sinks <= j < end(i), in double.
std::vector<double> twin(const Prompt& p, const codec::Codec* codec, int layer, std::int64_t sinks,
                         const End& end) {
  const int group = kQueryHeads / kHeads;
  std::vector<double> out(static_cast<std::size_t>(p.n * kQueryHeads * kDim));
  for (int h = 0; h < kHeads; ++h) {
    const float* exact[2] = {p.k.const_data_ptr<float>() + h * p.n * kDim,
                             p.v.const_data_ptr<float>() + h * p.n * kDim};
    std::vector<float> coded[2];
    for (const int side : {0, 1}) {
      coded[side].assign(exact[side], exact[side] + p.n * kDim);
      const codec::HeadCoder* coder = !codec      ? nullptr
                                      : side == 0 ? codec->key(layer, h)
                                                  : codec->value(layer, h);
      if (coder && sinks < p.n)
        coder->reconstruct(exact[side] + sinks * kDim, static_cast<std::size_t>(p.n - sinks),
                           coded[side].data() + sinks * kDim);
    }
    for (int g = 0; g < group; ++g)
      for (std::int64_t i = 0; i < p.n; ++i) {
        const auto row = [&](int side, std::int64_t j) {
          const bool is_coded = end && j >= sinks && j < end(side == 0, i);
          return (is_coded ? coded[side].data() : exact[side]) + j * kDim;
        };
        const float* q = p.q.const_data_ptr<float>() + ((h * group + g) * p.n + i) * kDim;
        std::vector<double> score(static_cast<std::size_t>(i + 1));
        double top = -1e300, sum = 0.0;
        for (std::int64_t j = 0; j <= i; ++j) {
          for (int c = 0; c < kDim; ++c) score[j] += static_cast<double>(q[c]) * row(0, j)[c];
          top = std::max(top, score[j] /= std::sqrt(static_cast<double>(kDim)));
        }
        for (double& s : score) sum += s = std::exp(s - top);
        for (std::int64_t j = 0; j <= i; ++j)
          for (int c = 0; c < kDim; ++c)
            out[(i * kQueryHeads + h * group + g) * kDim + c] += score[j] / sum * row(1, j)[c];
      }
  }
  return out;
}

void expect_near(const at::Tensor& got, const std::vector<double>& want, double tolerance,
                 const char* what) {
  ASSERT_EQ(got.numel(), std::ssize(want));
  const float* x = got.const_data_ptr<float>();
  for (std::size_t i = 0; i < want.size(); ++i)
    ASSERT_NEAR(x[i], want[i], tolerance) << what << " at " << i;
}

bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() &&
         std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
}

std::vector<std::pair<const char*, CodecPtr>> codecs(WindowSpec window) {
  return {{"vector", random_vector_codec(kLayers, kHeads, kDim, window)},
          {"integer", integer_codec(kLayers, kHeads, kDim, window)}};
}

TEST(Modes, ExactAndDump) {
  for (const std::int64_t n : {1, 2, 17, 33, 100}) {
    const Prompt p(n);
    const auto want = twin(p, nullptr, 0, 0, {});
    ExactAttention exact;
    expect_near(exact.attend(0, p.q, p.k, p.v, 0), want, 5e-6, "exact");
    int seen = -1;
    DumpAttention dump(
        [&](int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
          seen = layer;
          EXPECT_TRUE(same_bytes(q, p.q) && same_bytes(k, p.k) && same_bytes(v, p.v));
        });
    expect_near(dump.attend(3, p.q, p.k, p.v, 0), want, 5e-6, "dump");
    EXPECT_EQ(seen, 3);
    EXPECT_THROW(exact.attend(0, p.q, p.k, p.v, 1), Error);
  }
}

TEST(Modes, AllSeesNothingExact) {
  for (const std::int64_t n : {1, 5, 33, 300})
    for (const auto& [name, codec] : codecs({})) {
      const Prompt p(n);
      AllAttention hook(codec);
      expect_near(hook.attend(1, p.q, p.k, p.v, 0),
                  twin(p, codec.get(), 1, 0, [](bool, std::int64_t i) { return i + 1; }), 1e-5,
                  name);
    }
}

TEST(Modes, WindowSlidesAndKeepsTheFirst) {
  for (const std::int64_t n : {1, 9, 40, 130})
    for (const int recent : {0, 1, 8, 64, 500})
      for (const int sinks : {0, 4, 20})
        for (const auto& [name, codec] : codecs({})) {
          const Prompt p(n);
          WindowAttention hook(codec, recent, sinks);
          expect_near(
              hook.attend(0, p.q, p.k, p.v, 0),
              twin(p, codec.get(), 0, sinks, [&](bool, std::int64_t i) { return i + 1 - recent; }),
              1e-5, name);
        }
}

TEST(Modes, WindowTakesTheCodecsOwn) {
  WindowSpec window;
  window.recent = 16, window.sinks = 2;
  for (const auto& [name, codec] : codecs(window)) {
    const Prompt p(70);
    WindowAttention own(codec), given(codec, 16, 2);
    EXPECT_TRUE(same_bytes(own.attend(0, p.q, p.k, p.v, 0), given.attend(0, p.q, p.k, p.v, 0)))
        << name;
  }
}

std::vector<WindowSpec> windows() {
  WindowSpec block, sliding, mixed;
  block.recent = 16;
  sliding = block, sliding.sinks = 3, sliding.key_flush = sliding.value_flush = Flush::sliding;
  mixed = block, mixed.value_flush = Flush::sliding;
  return {block, sliding, mixed};
}

TEST(Modes, PrefillThenDecode) {
  for (const WindowSpec& window : windows())
    for (const auto& [name, codec] : codecs(window)) {
      const Prompt p(90);
      const std::int64_t start = 37;
      const auto part = [](const at::Tensor& x, std::int64_t from, std::int64_t n) {
        return x.narrow(1, from, n);
      };
      const auto cache = cache::make_coded_cache(codec, kQueryHeads);
      PrefillAttention prefill(*cache);
      const at::Tensor before =
          prefill.attend(0, part(p.q, 0, start), part(p.k, 0, start), part(p.v, 0, start), 0);
      Prompt short_prompt(start);
      short_prompt.q = part(p.q, 0, start).contiguous();
      short_prompt.k = part(p.k, 0, start).contiguous();
      short_prompt.v = part(p.v, 0, start).contiguous();
      expect_near(before, twin(short_prompt, nullptr, 0, 0, {}), 5e-6, "prefill");
      EXPECT_EQ(cache->len(0), start);
      EXPECT_EQ(cache->len(1), 0);

      const auto want = twin(p, codec.get(), 0, window.sinks, [&](bool key, std::int64_t i) {
        const auto* coder = key ? codec->key(0, 0) : codec->value(0, 0);
        return window.sinks + codec::coded_tokens(window, key, i + 1, coder->seal_tokens());
      });
      DecodeAttention decode(*cache);
      std::vector<at::Tensor> rows;
      for (std::int64_t t = start; t < p.n; ++t)
        rows.push_back(decode.attend(0, part(p.q, t, 1), part(p.k, t, 1), part(p.v, t, 1), t));
      const at::Tensor steps = at::cat(rows, 0);
      expect_near(steps, {want.begin() + start * kQueryHeads * kDim, want.end()}, 2e-5, name);

      // All tokens in one call: the same bytes.
      cache->reset();
      prefill.attend(0, part(p.q, 0, start), part(p.k, 0, start), part(p.v, 0, start), 0);
      const std::int64_t rest = p.n - start;
      EXPECT_TRUE(same_bytes(decode.attend(0, part(p.q, start, rest), part(p.k, start, rest),
                                           part(p.v, start, rest), start),
                             steps));
      EXPECT_THROW(decode.attend(0, part(p.q, 0, 1), part(p.k, 0, 1), part(p.v, 0, 1), 0), Error);
      EXPECT_THROW(prefill.attend(0, p.q, p.k, p.v, 0), Error);
    }
}

TEST(Modes, ChunkedPrefillReadsCodesBack) {
  for (const WindowSpec& window : windows())
    for (const auto& [name, codec] : codecs(window))
      for (const int chunk : {1, 24, 64, 1000}) {
        const Prompt p(100);
        const auto cache = cache::make_coded_cache(codec, kQueryHeads);
        ChunkedPrefillAttention hook(codec, *cache, chunk);
        const auto want = twin(p, codec.get(), 1, window.sinks, [&](bool key, std::int64_t i) {
          const auto* coder = key ? codec->key(1, 0) : codec->value(1, 0);
          return window.sinks +
                 codec::coded_tokens(window, key, i / chunk * chunk, coder->seal_tokens());
        });
        expect_near(hook.attend(1, p.q, p.k, p.v, 0), want, 1e-5, name);
        EXPECT_EQ(cache->len(1), 100);
      }
}

TEST(Modes, Bf16ModelsGetBf16Back) {
  const auto codec = random_vector_codec(kLayers, kHeads, kDim, {});
  const Prompt p(50);
  const auto half = [](const at::Tensor& x) { return x.to(at::kBFloat16); };
  const auto cache = cache::make_coded_cache(codec, kQueryHeads);
  ExactAttention exact;
  AllAttention all(codec);
  DecodeAttention decode(*cache);
  for (model::AttentionHook* hook :
       {static_cast<model::AttentionHook*>(&exact), static_cast<model::AttentionHook*>(&all),
        static_cast<model::AttentionHook*>(&decode)}) {
    const at::Tensor o = hook->attend(0, half(p.q), half(p.k), half(p.v), 0);
    EXPECT_EQ(o.scalar_type(), at::kBFloat16);
    EXPECT_EQ(o.size(0), 50);
  }
}

}  // namespace
}  // namespace vi::eval
