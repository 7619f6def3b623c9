// Attention, reconstruction and the reconstructing cache that run on a device, here on the CPU against the
// CPU's own. Codes may differ where two distances tie within f32 rounding: random data has none.
#include "eval/modes/device_modes.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/common/error.h"
#include "core/decoder/decoder.h"
#include "eval/gpu_backend.h"
#include "eval/modes/modes.h"
#include "eval/generation/step_model.h"
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

at::Tensor random_tensor(std::int64_t heads, std::int64_t n, std::uint64_t seed) {
  const auto values = normals(static_cast<std::size_t>(heads * n * kDim), seed);
  at::Tensor t = at::empty({heads, n, kDim}, at::TensorOptions().dtype(at::kFloat));
  std::copy(values.begin(), values.end(), t.data_ptr<float>());
  return t;
}

double largest(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

TEST(DeviceCodec, ReconstructsAsTheCoders) {
  for (const auto& codec : {random_vector_codec(kLayers, kHeads, kDim, {}), integer_codec(kLayers, kHeads, kDim, {})}) {
    const DeviceCodec tables(codec, at::kCPU);
    for (const std::int64_t n : {1, 31, 200})
      for (const std::int64_t from : {std::int64_t{0}, std::int64_t{5}, n})
        for (const bool key : {true, false}) {
          const at::Tensor rows = random_tensor(kHeads, n, 7);
          at::Tensor want = rows.clone();
          for (int h = 0; h < kHeads; ++h)
            if (from < n) {
              float* at = want.data_ptr<float>() + (h * n + from) * kDim;
              (key ? codec->key(1, h) : codec->value(1, h))->reconstruct(at, static_cast<std::size_t>(n - from), at);
            }
          EXPECT_LT(largest(tables.reconstruct(1, key, rows, from), want), 1e-5) << n << " from " << from;
        }
    at::Tensor bad = random_tensor(kHeads, 4, 1);
    bad[0][1][2] = NAN;
    EXPECT_THROW(tables.reconstruct(0, true, bad, 0), Error);
    EXPECT_THROW(tables.reconstruct(kLayers, true, random_tensor(kHeads, 4, 1), 0), Error);
  }
}

TEST(DeviceCodec, MapsKeepScores) {
  const auto codec = random_vector_codec(kLayers, kHeads, kDim, {});
  const DeviceCodec tables(codec, at::kCPU);
  const at::Tensor q = random_tensor(kHeads, 9, 1), k = random_tensor(kHeads, 9, 2);
  const at::Tensor mapped_q = at::bmm(q, tables.query()[1]);
  const at::Tensor mapped_k = at::bmm(k, tables.key().a[1]) + tables.key().b[1].unsqueeze(1);
  EXPECT_LT(largest(at::bmm(mapped_q, mapped_k.transpose(1, 2)), at::bmm(q, k.transpose(1, 2))), 1e-4);
  const at::Tensor back = at::bmm(mapped_k, tables.key().inverse_a[1]) + tables.key().inverse_b[1].unsqueeze(1);
  EXPECT_LT(largest(back, k), 1e-5);
}

TEST(DeviceModes, AreTheCpusModes) {
  for (const auto& codec : {random_vector_codec(kLayers, kHeads, kDim, {}), integer_codec(kLayers, kHeads, kDim, {})}) {
    const DeviceCodec tables(codec, at::kCPU);
    for (const std::int64_t n : {1, 40, 300}) {
      const at::Tensor q = random_tensor(kQueryHeads, n, 1), k = random_tensor(kHeads, n, 2),
                       v = random_tensor(kHeads, n, 3);
      ExactAttention exact;
      EXPECT_LT(largest(causal_attention(q, k, v), exact.attend(0, q, k, v, 0)), 1e-5);
      const auto ends = [&](std::int64_t behind) {
        std::vector<std::int64_t> out;
        for (std::int64_t i = 0; i < n; ++i) out.push_back(i + 1 - behind);
        return out;
      };
      AllAttention all(codec);
      EXPECT_LT(largest(mixed_attention(1, q, k, v, &tables, 0, ends(0), ends(0)), all.attend(1, q, k, v, 0)), 1e-5);
      for (const int recent : {0, 8, 64})
        for (const int sinks : {0, 4}) {
          WindowAttention window(codec, recent, sinks);
          EXPECT_LT(largest(mixed_attention(1, q, k, v, &tables, sinks, ends(recent), ends(recent)),
                            window.attend(1, q, k, v, 0)),
                    1e-5)
              << n << " recent " << recent << " sinks " << sinks;
        }
    }
  }
}

TEST(ReconstructingModel, IsTheCodedCache) {
  const model::ModelConfig c = vi::testing::random_config();
  const vi::testing::RandomWeights weights(c);
  const model::Decoder decoder(c, weights);
  WindowSpec block, mixed;
  block.recent = 16, block.sinks = 3;
  mixed = block, mixed.value_flush = Flush::sliding;
  const auto ids = vi::testing::random_ids(70, c.vocab, 9);
  for (const WindowSpec& window : {block, mixed})
    for (const auto& codec : {random_vector_codec(c.n_layers, c.n_kv_heads, c.head_dim, window),
                              integer_codec(c.n_layers, c.n_kv_heads, c.head_dim, window),
                              std::shared_ptr<const codec::Codec>()}) {
      const auto want = make_step_model(decoder, codec, 128), got = make_reconstructing_model(decoder, codec);
      for (int round = 0; round < 2; ++round) {
        want->reset(), got->reset();
        EXPECT_LT(largest(got->prefill(std::span(ids).first(21)), want->prefill(std::span(ids).first(21))), 1e-4);
        for (std::size_t i = 21; i < ids.size(); ++i)
          ASSERT_LT(largest(got->step(ids[i]), want->step(ids[i])), 1e-4) << "token " << i;
      }
    }
}

TEST(GpuBackend, MissingLibraryIsOneLine) {
  // The tests' folder holds no libvi_gpu.so.
  try {
    gpu_backend();
    FAIL() << "expected a CudaError";
  } catch (const CudaError& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("--device cuda: "), std::string::npos) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
  }
}

}  // namespace
}  // namespace vi::eval
