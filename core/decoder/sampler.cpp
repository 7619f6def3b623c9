#include "core/decoder/sampler.h"

#include <algorithm>
#include <cmath>

#include "core/common/error.h"

namespace vi::model {
namespace {

bool before(const Candidate& a, const Candidate& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

}  // namespace

Sampler::Sampler(const SamplerSettings& settings) : settings_(settings), rng_(settings.seed) {
  VI_CHECK(settings.temperature >= 0.0 && std::isfinite(settings.temperature), "temperature {}",
           settings.temperature);
  VI_CHECK(settings.top_p > 0.0 && settings.top_p <= 1.0, "top_p {}", settings.top_p);
}

std::int32_t Sampler::next(std::span<const float> logits, std::span<const std::int32_t> banned) {
  const auto is_banned = [&](std::size_t id) {
    return std::find(banned.begin(), banned.end(), static_cast<std::int32_t>(id)) != banned.end();
  };
  std::size_t best = logits.size();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) fail("logit of token {} is not a number", i);
    if (std::isfinite(logits[i]) && (best == logits.size() || logits[i] > logits[best]) && !is_banned(i)) best = i;
  }
  if (best == logits.size()) fail("no token to choose from {} logits", logits.size());
  if (settings_.temperature == 0.0) return static_cast<std::int32_t>(best);

  constexpr double kLeast = -36.7;  // log of 2^-53: what is rarer than that beside the best token is never drawn
  const double top = logits[best];
  const float least = static_cast<float>(top + kLeast * settings_.temperature);
  order_.clear();
  double total = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] >= least) || !std::isfinite(logits[i]) || is_banned(i)) continue;
    order_.emplace_back(logits[i], static_cast<std::int32_t>(i));
    total += std::exp((logits[i] - top) / settings_.temperature);
  }
  // Sorted as far as needed: the nucleus is short as a rule, and without one the drawn token is likely.
  const double drawn = rng_.uniform();
  const bool nucleus = settings_.top_p < 1.0;
  std::size_t sorted = 0;
  double mass = 0.0;
  mass_.clear();
  while (mass_.size() < order_.size() && (nucleus ? mass < settings_.top_p * total : mass <= drawn * total)) {
    if (mass_.size() == sorted) {
      sorted = std::min(order_.size(), std::max<std::size_t>(64, 4 * sorted));
      std::partial_sort(order_.begin() + static_cast<std::ptrdiff_t>(mass_.size()), order_.begin() + static_cast<std::ptrdiff_t>(sorted),
                        order_.end(), before);
    }
    mass += std::exp((order_[mass_.size()].first - top) / settings_.temperature);
    mass_.push_back(mass);
  }
  return pick(drawn, total);
}

std::int32_t Sampler::pick(double drawn, double total) const {
  const auto at = std::upper_bound(mass_.begin(), mass_.end(), drawn * (settings_.top_p < 1.0 ? mass_.back() : total));
  return order_[static_cast<std::size_t>(std::min(at, mass_.end() - 1) - mass_.begin())].second;
}

std::optional<std::int32_t> Sampler::next(std::span<const Candidate> largest, double mass) {
  order_.assign(largest.begin(), largest.end());
  for (const Candidate& c : order_)
    if (!std::isfinite(c.first)) return std::nullopt;
  std::sort(order_.begin(), order_.end(), before);
  const float last = order_.back().first, top = order_.front().first;
  if (last == top) return std::nullopt;
  if (settings_.temperature == 0.0) return order_.front().second;
  Rng rng = rng_;
  const double drawn = rng.uniform();
  const bool nucleus = settings_.top_p < 1.0;
  double sum = 0.0;
  mass_.clear();
  while (nucleus ? sum < settings_.top_p * mass : sum <= drawn * mass) {
    const float logit = order_[mass_.size()].first;
    if (logit == last) return std::nullopt;
    sum += std::exp((static_cast<double>(logit) - top) / settings_.temperature);
    mass_.push_back(sum);
  }
  rng_ = rng;
  return pick(drawn, mass);
}

}  // namespace vi::model
