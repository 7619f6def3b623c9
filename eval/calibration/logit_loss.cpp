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

}  // namespace vi::eval
