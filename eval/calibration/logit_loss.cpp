#include "eval/calibration/logit_loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

namespace vi::eval {

double loss_of_logits(const model::Decoder& decoder, const at::Tensor& hidden, std::int64_t n,
                      const std::function<at::Tensor(const at::Tensor&, std::int64_t)>& loss) {
  constexpr std::int64_t kRows = 512;
  const bool learn = at::GradMode::is_enabled();
  const at::Tensor leaf = hidden.detach().set_requires_grad(learn);
  double sum = 0;
  for (std::int64_t first = 0; first < n; first += kRows) {
    const at::Tensor part = loss(decoder.logits(leaf.narrow(0, first, std::min(kRows, n - first))), first);
    if (learn) part.backward();
    sum += part.item<double>();
  }
  if (learn) hidden.backward(leaf.grad());
  return sum;
}

double divergence(const model::Decoder& decoder, const at::Tensor& exact, const at::Tensor& hidden) {
  const std::int64_t n = hidden.size(0);
  return loss_of_logits(decoder, hidden, n, [&](const at::Tensor& logits, std::int64_t first) {
    const at::Tensor wanted = at::log_softmax(decoder.logits(exact.narrow(0, first, logits.size(0))), -1).detach();
    return (wanted.exp() * (wanted - at::log_softmax(logits, -1))).sum() / static_cast<double>(n);
  });
}

}  // namespace vi::eval
