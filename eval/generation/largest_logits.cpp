#include "eval/generation/largest_logits.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/common/error.h"

namespace vi::eval {

LargestLogits largest_logits(const at::Tensor& logits, std::span<const double> temperatures, int count) {
  const std::int64_t n = logits.size(0);
  VI_CHECK(n == std::ssize(temperatures), "{} temperatures of {} rows", temperatures.size(), n);
  const std::int64_t k = std::min<std::int64_t>(count, logits.size(1));
  const auto [values, ids] = logits.topk(k, 1);
  std::vector<double> scale;
  for (const double t : temperatures) scale.push_back(t > 0 ? 1.0 / t : 1.0);
  const at::Tensor factor = at::from_blob(scale.data(), {n, 1}, at::kDouble).to(logits.device());
  const at::Tensor mass = logits.to(at::kDouble).sub_(values.narrow(1, 0, 1)).mul_(factor).exp_().sum(1).to(at::kCPU);
  const at::Tensor v = values.to(at::kCPU).contiguous(), t = ids.to(at::kCPU).contiguous();
  LargestLogits out;
  out.count = static_cast<std::size_t>(k);
  for (std::int64_t i = 0; i < n * k; ++i)
    out.candidates.emplace_back(v.const_data_ptr<float>()[i], static_cast<std::int32_t>(t.const_data_ptr<std::int64_t>()[i]));
  out.mass.assign(mass.const_data_ptr<double>(), mass.const_data_ptr<double>() + n);
  return out;
}

}  // namespace vi::eval
