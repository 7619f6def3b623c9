// Gradients of keys and values against finite differences of the log-loss.
#include "eval/calibration/kv_gradients.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/random_model.h"

namespace vi::eval {
namespace {

// Exact attention in f64 with `step` added to one key or value.
class Nudge final : public model::AttentionHook {
 public:
  Nudge(int layer, bool key, std::int64_t head, std::int64_t token, std::int64_t channel, double step)
      : layer_(layer), key_(key), head_(head), token_(token), channel_(channel), step_(step) {}
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t) override {
    at::Tensor kd = k.to(at::kDouble).clone(), vd = v.to(at::kDouble).clone();
    if (layer == layer_) (key_ ? kd : vd)[head_][token_][channel_] += step_;
    const std::int64_t n = q.size(1), group = q.size(0) / k.size(0), d = q.size(2);
    const at::Tensor kk = kd.repeat_interleave(group, 0), vv = vd.repeat_interleave(group, 0);
    const at::Tensor token = at::arange(n);
    at::Tensor s = at::bmm(q.to(at::kDouble), kk.transpose(1, 2)) / std::sqrt(static_cast<double>(d));
    s.masked_fill_(token.unsqueeze(0) > token.unsqueeze(1), -std::numeric_limits<double>::infinity());
    return at::bmm(at::softmax(s, -1), vv).transpose(0, 1).reshape({n, q.size(0) * d}).to(at::kFloat);
  }

 private:
  int layer_;
  bool key_;
  std::int64_t head_, token_, channel_;
  double step_;
};

TEST(KvGradients, AreFiniteDifferences) {
  const model::ModelConfig config = vi::testing::random_config();
  const model::Decoder decoder(config, vi::testing::RandomWeights(config), {.dtype = at::kFloat, .device = at::kCPU, .plain = true});
  const std::vector<std::int32_t> ids{3, 17, 42, 5, 5, 60, 1, 0, 33, 21, 9, 48};
  const KvGradients got = kv_gradients(decoder, ids);
  ASSERT_EQ(got.key.size(), static_cast<std::size_t>(config.n_layers));
  const auto loss = [&](Nudge hook) {
    const at::Tensor logits = decoder.logits(decoder.forward(ids, 0, hook)).to(at::kDouble);
    const at::Tensor p = at::log_softmax(logits, -1);
    double sum = 0;
    for (std::size_t t = 0; t + 1 < ids.size(); ++t) sum -= p[static_cast<std::int64_t>(t)][ids[t + 1]].item<double>();
    return sum;
  };
  constexpr double step = 2e-2;  // the model is f32: smaller steps drown
  double largest = 0;
  for (const bool key : {true, false})
    for (int layer = 0; layer < config.n_layers; ++layer)
      for (const std::int64_t token : {0, 4, 10})
        for (const std::int64_t channel : {1, 9}) {
          const std::int64_t head = (token + channel) % config.n_kv_heads;
          const double want = (loss({layer, key, head, token, channel, step}) - loss({layer, key, head, token, channel, -step})) / (2 * step);
          const double is = (key ? got.key : got.value)[static_cast<std::size_t>(layer)][head][token][channel].item<double>();
          EXPECT_NEAR(is, want, 2e-3 + 0.02 * std::abs(want)) << key << " " << layer << " " << token << " " << channel;
          largest = std::max(largest, std::abs(is));
        }
  EXPECT_GT(largest, 0.05);
  // The last token's key and value reach no prediction that counts.
  for (const at::Tensor& g : {got.key[1], got.value[1]}) EXPECT_EQ(g.select(1, std::ssize(ids) - 1).abs().max().item<float>(), 0.0F);
}

}  // namespace
}  // namespace vi::eval
