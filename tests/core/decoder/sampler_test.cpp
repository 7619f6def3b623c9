// Sampling: greedy ties, seeds, temperature, nucleus, banned ids, bad numbers.
#include "core/decoder/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "core/common/error.h"
#include "core/common/rng.h"

namespace vi::model {
namespace {

TEST(Sampler, GreedyTakesTheLowestIdOfTheLargestLogit) {
  Sampler sampler({});
  EXPECT_EQ(sampler.next(std::vector<float>{0.5f, 2.0f, 2.0f, -1.0f}), 1);
  EXPECT_EQ(sampler.next(std::vector<float>{0.5f, 2.0f, 2.0f, -1.0f}, std::vector<std::int32_t>{1}),
            2);
  EXPECT_EQ(sampler.next(std::vector<float>{-3.0f}), 0);
}

TEST(Sampler, SameSeedSameTokens) {
  std::vector<float> logits(100);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i));
  Sampler a({0.7, 0.9, 5}), b({0.7, 0.9, 5}), c({0.7, 0.9, 6});
  bool differs = false;
  for (int i = 0; i < 50; ++i) {
    const auto token = a.next(logits);
    EXPECT_EQ(token, b.next(logits));
    differs |= token != c.next(logits);
  }
  EXPECT_TRUE(differs);
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  const std::vector<float> logits{std::log(1.0f), std::log(2.0f), std::log(4.0f), std::log(3.0f)};
  for (const double temperature : {1.0, 0.5}) {
    Sampler sampler({temperature, 1.0, 1});
    std::vector<double> count(4), want{1, 2, 4, 3};
    const int n = 40000;
    for (int i = 0; i < n; ++i) count[static_cast<std::size_t>(sampler.next(logits))] += 1.0 / n;
    double total = 0.0;
    for (double& w : want) total += w = std::pow(w, 1.0 / temperature);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(count[i], want[i] / total, 0.01);
  }
}

TEST(Sampler, NucleusIsTheSmallestSetOfEnoughMass) {
  const std::vector<float> logits{std::log(0.1f), std::log(0.5f), std::log(0.25f), std::log(0.15f)};
  const auto seen = [&](double top_p) {
    Sampler sampler({1.0, top_p, 3});
    std::vector<bool> out(4);
    for (int i = 0; i < 2000; ++i) out[static_cast<std::size_t>(sampler.next(logits))] = true;
    return out;
  };
  EXPECT_EQ(seen(0.4), (std::vector<bool>{false, true, false, false}));
  EXPECT_EQ(seen(0.7), (std::vector<bool>{false, true, true, false}));
  EXPECT_EQ(seen(0.85), (std::vector<bool>{false, true, true, true}));
  EXPECT_EQ(seen(1.0), (std::vector<bool>{true, true, true, true}));
}

// The sampler by a full sort and a full sum, with the same random numbers.
std::int32_t sorted_draw(const std::vector<float>& logits, const SamplerSettings& settings, Rng& rng) {
  std::vector<std::pair<float, std::int32_t>> order;
  for (std::size_t i = 0; i < logits.size(); ++i) order.emplace_back(-logits[i], static_cast<std::int32_t>(i));
  std::sort(order.begin(), order.end());
  std::vector<double> mass;
  double total = 0.0;
  for (const auto& [logit, id] : order)
    mass.push_back(total += std::exp((static_cast<double>(order[0].first) - logit) / settings.temperature));
  std::size_t kept = 0;
  while (kept + 1 < mass.size() && mass[kept] < settings.top_p * total) ++kept;
  const double point = rng.uniform() * mass[kept];
  std::size_t at = 0;
  while (at < kept && mass[at] <= point) ++at;
  return order[at].second;
}

TEST(Sampler, IsTheFullSort) {
  for (const auto& [temperature, top_p, spread] :
       {std::tuple{0.6, 0.95, 3.0}, {1.0, 0.5, 1.0}, {2.0, 0.999, 0.3}, {0.05, 0.95, 4.0}, {1.0, 1.0, 1.0}}) {
    const SamplerSettings settings{temperature, top_p, 11};
    Sampler sampler(settings);
    Rng rng(settings.seed), numbers(7);
    std::vector<float> logits(5000);
    for (int draw = 0; draw < 60; ++draw) {
      for (float& logit : logits) logit = static_cast<float>(spread * std::log(numbers.uniform() + 1e-9));
      logits[17] = logits[4000];  // a tie
      EXPECT_EQ(sampler.next(logits), sorted_draw(logits, settings, rng)) << temperature << ' ' << top_p << ' ' << draw;
    }
  }
}

// What the largest logits and the mass of all decide is what all logits decide; where they do not, no number is drawn.
TEST(Sampler, LargestLogitsDecideAsAll) {
  int decided = 0, open = 0;
  for (const auto& [temperature, top_p, count] :
       {std::tuple{0.6, 0.95, 64}, {1.0, 0.5, 200}, {0.0, 1.0, 2}, {1.0, 1.0, 500}, {0.6, 0.95, 8}, {1.5, 0.99, 2}}) {
    Sampler all({temperature, top_p, 11}), few({temperature, top_p, 11});
    Rng numbers(7);
    std::vector<float> logits(1000);
    for (int draw = 0; draw < 60; ++draw) {
      for (float& logit : logits) logit = static_cast<float>(3 * std::log(numbers.uniform() + 1e-9));
      logits[17] = logits[400];
      std::vector<Candidate> order;
      for (std::size_t i = 0; i < logits.size(); ++i) order.emplace_back(logits[i], static_cast<std::int32_t>(i));
      std::sort(order.begin(), order.end(), [](auto a, auto b) { return a.first > b.first; });
      double mass = 0;
      for (const float logit : logits) mass += temperature > 0 ? std::exp((static_cast<double>(logit) - order[0].first) / temperature) : 1;
      order.resize(static_cast<std::size_t>(count));
      std::reverse(order.begin(), order.end());
      const auto id = few.next(order, mass);
      ++(id ? decided : open);
      EXPECT_EQ(id ? *id : few.next(logits), all.next(logits)) << temperature << ' ' << top_p << ' ' << draw;
    }
  }
  EXPECT_GT(decided, 150);
  EXPECT_GT(open, 50);
  Sampler tied({1.0, 0.9, 1});
  EXPECT_FALSE(tied.next(std::vector<Candidate>{{1.0f, 4}, {1.0f, 9}}, 3.0));
  EXPECT_FALSE(tied.next(std::vector<Candidate>{{std::numeric_limits<float>::quiet_NaN(), 4}, {1.0f, 9}}, 3.0));
}

TEST(Sampler, BadNumbers) {
  EXPECT_THROW(Sampler({-1.0, 1.0, 0}), Error);
  EXPECT_THROW(Sampler({1.0, 0.0, 0}), Error);
  EXPECT_THROW(Sampler({1.0, 1.1, 0}), Error);
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              low = -std::numeric_limits<float>::infinity();
  Sampler sampler({1.0, 0.5, 0});
  EXPECT_THROW(sampler.next(std::vector<float>{1.0f, nan}), Error);
  EXPECT_THROW(sampler.next(std::vector<float>{low, low}), Error);
  EXPECT_EQ(sampler.next(std::vector<float>{low, 0.0f}), 1);
  EXPECT_THROW(sampler.next(std::vector<float>{0.0f}, std::vector<std::int32_t>{0}), Error);
}

}  // namespace
}  // namespace vi::model
