#include "core/decoder/sampler.h"

#include <algorithm>
#include <cmath>

#include "core/common/error.h"

namespace vi::model {

Sampler::Sampler(const SamplerSettings& settings) : settings_(settings), rng_(settings.seed) {
  VI_CHECK(settings.temperature >= 0.0 && std::isfinite(settings.temperature), "temperature {}",
           settings.temperature);
  VI_CHECK(settings.top_p > 0.0 && settings.top_p <= 1.0, "top_p {}", settings.top_p);
}

std::int32_t Sampler::next(std::span<const float> logits, std::span<const std::int32_t> banned) {
  order_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    if (std::isnan(logits[i])) fail("logit of token {} is not a number", id);
    if (std::isfinite(logits[i]) && std::find(banned.begin(), banned.end(), id) == banned.end())
      order_.emplace_back(logits[i], id);
  }
  if (order_.empty()) fail("no token to choose from {} logits", logits.size());
  const auto before = [](const auto& a, const auto& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  };
  if (settings_.temperature == 0.0)
    return std::min_element(order_.begin(), order_.end(), before)->second;

  std::sort(order_.begin(), order_.end(), before);
  mass_.resize(order_.size());
  double total = 0.0;
  for (std::size_t i = 0; i < order_.size(); ++i) {
    const double gap = static_cast<double>(order_[i].first) - static_cast<double>(order_[0].first);
    total += std::exp(gap / settings_.temperature);
    mass_[i] = total;
  }
  std::size_t kept = order_.size();
  if (settings_.top_p < 1.0)
    kept =
        static_cast<std::size_t>(
            std::lower_bound(mass_.begin(), mass_.end(), settings_.top_p * total) - mass_.begin()) +
        1;
  kept = std::min(kept, order_.size());
  const double point = rng_.uniform() * mass_[kept - 1];
  const auto at =
      std::upper_bound(mass_.begin(), mass_.begin() + static_cast<std::ptrdiff_t>(kept), point);
  return order_[std::min(static_cast<std::size_t>(at - mass_.begin()), kept - 1)].second;
}

}  // namespace vi::model
