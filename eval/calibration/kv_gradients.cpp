#include "eval/calibration/kv_gradients.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/common/error.h"
#include "core/model/model_config.h"
#include "eval/calibration/logit_loss.h"

namespace vi::eval {
namespace {

// Exact causal attention; keys and values pass through leaves that are zero and collect their gradients.
class GradientAttention final : public model::AttentionHook {
 public:
  at::Tensor attend(int, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t) override {
    const std::int64_t n = q.size(1), group = q.size(0) / k.size(0);
    for (auto* list : {&key, &value}) list->push_back(at::zeros_like(k).set_requires_grad(true));
    const auto heads = [&](const at::Tensor& x) { return x.repeat_interleave(group, 0).unsqueeze(0); };
    const at::Tensor o = at::scaled_dot_product_attention(q.unsqueeze(0), heads(k + key.back()), heads(v + value.back()), {}, 0.0, true);
    return o.squeeze(0).transpose(0, 1).reshape({n, q.size(0) * q.size(2)});
  }
  std::vector<at::Tensor> key, value;
};

}  // namespace

KvGradients kv_gradients(const model::Decoder& decoder, std::span<const std::int32_t> ids) {
  VI_CHECK(decoder.options().dtype == at::kFloat && ids.size() >= 2, "gradients need f32 and two tokens");
  const at::AutoGradMode mode(true);
  GradientAttention hook;
  const at::Tensor hidden = decoder.forward(ids, 0, hook);
  const std::int64_t n = std::ssize(ids) - 1;
  at::Tensor wanted = at::empty({n}, at::kLong);
  std::copy(ids.begin() + 1, ids.end(), wanted.data_ptr<std::int64_t>());
  wanted = wanted.to(hidden.device());
  loss_of_logits(decoder, hidden, n, [&](const at::Tensor& logits, std::int64_t first) {
    return at::nll_loss(at::log_softmax(logits, -1), wanted.narrow(0, first, logits.size(0)), {}, at::Reduction::Sum);
  });
  KvGradients out;
  for (std::size_t l = 0; l < hook.key.size(); ++l) {
    out.key.push_back(hook.key[l].grad());
    out.value.push_back(hook.value[l].grad());
  }
  return out;
}

}  // namespace vi::eval
