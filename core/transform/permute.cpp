#include "core/transform/permute.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/common/error.h"

namespace vi::transform {
namespace {

std::vector<double> covariance(const float* rows, std::size_t n, int d) {
  std::vector<double> mean(d, 0.0), sum(static_cast<std::size_t>(d) * d, 0.0), x(d);
  for (std::size_t r = 0; r < n; ++r)
    for (int i = 0; i < d; ++i) mean[i] += rows[r * d + i];
  for (double& m : mean) m /= static_cast<double>(n);
  for (std::size_t r = 0; r < n; ++r) {
    for (int i = 0; i < d; ++i) x[i] = rows[r * d + i] - mean[i];
    for (int i = 0; i < d; ++i)
      for (int j = 0; j <= i; ++j) sum[static_cast<std::size_t>(i) * d + j] += x[i] * x[j];
  }
  for (int i = 0; i < d; ++i)
    for (int j = 0; j <= i; ++j) {
      double& value = sum[static_cast<std::size_t>(i) * d + j];
      value /= static_cast<double>(n);
      sum[static_cast<std::size_t>(j) * d + i] = value;
    }
  return sum;
}

// log det(S_G + e I) / |G| by Cholesky.
double log_volume(const std::vector<double>& s, int d, const std::vector<int>& group, double floor) {
  const std::size_t n = group.size();
  std::vector<double> l(n * n, 0.0);
  double log_det = 0;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j <= i; ++j) {
      double value = s[static_cast<std::size_t>(group[i]) * d + group[j]] + (i == j ? floor : 0.0);
      for (std::size_t k = 0; k < j; ++k) value -= l[i * n + k] * l[j * n + k];
      if (i == j) {
        value = std::max(value, 1e-3 * floor);
        log_det += std::log(value);
        l[i * n + i] = std::sqrt(value);
      } else {
        l[i * n + j] = value / l[j * n + j];
      }
    }
  return log_det / static_cast<double>(n);
}

std::vector<int> by_covariance(int group, const float* rows, std::size_t n, int d) {
  if (d % 2 != 0 || d % group != 0 || group < 2 || !std::has_single_bit(static_cast<unsigned>(group)))
    fail("permute covariance: groups of {} channels do not fit pairs of head_dim {}", group, d);
  const std::vector<double> s = covariance(rows, n, d);
  double trace = 0;
  for (int i = 0; i < d; ++i) trace += s[static_cast<std::size_t>(i) * d + i];
  const double floor = std::max(1e-6 * trace / d, 1e-12);
  std::vector<std::vector<int>> groups;
  for (int i = 0; i < d / 2; ++i) groups.push_back({i, i + d / 2});
  for (int size = 2; size < group; size *= 2) {
    struct Pair {
      double gain;
      std::size_t a, b;
    };
    std::vector<double> alone;
    for (const auto& g : groups) alone.push_back(log_volume(s, d, g, floor));
    std::vector<Pair> pairs;  // what merging saves against two groups of their own
    for (std::size_t a = 0; a < groups.size(); ++a)
      for (std::size_t b = a + 1; b < groups.size(); ++b) {
        std::vector<int> both = groups[a];
        both.insert(both.end(), groups[b].begin(), groups[b].end());
        pairs.push_back({log_volume(s, d, both, floor) - 0.5 * (alone[a] + alone[b]), a, b});
      }
    std::stable_sort(pairs.begin(), pairs.end(),
                     [](const Pair& x, const Pair& y) { return x.gain < y.gain; });
    std::vector<char> used(groups.size(), 0);
    std::vector<std::vector<int>> merged;
    for (const Pair& pair : pairs) {
      if (used[pair.a] || used[pair.b]) continue;
      used[pair.a] = used[pair.b] = 1;
      merged.push_back(groups[pair.a]);
      merged.back().insert(merged.back().end(), groups[pair.b].begin(), groups[pair.b].end());
    }
    if (2 * merged.size() != groups.size())
      fail("permute covariance: {} groups of {} channels cannot be paired", groups.size(), size);
    groups = std::move(merged);
  }
  std::vector<int> order;
  for (const auto& g : groups) order.insert(order.end(), g.begin(), g.end());
  return order;
}

std::vector<int> by_volume(int group, const float* rows, std::size_t n, int d) {
  if (d % group != 0) fail("permute volume: group {} does not divide head_dim {}", group, d);
  const std::vector<double> s = covariance(rows, n, d);
  std::vector<int> sorted(d), order(d);
  std::iota(sorted.begin(), sorted.end(), 0);
  std::stable_sort(sorted.begin(), sorted.end(), [&](int a, int b) {
    return s[static_cast<std::size_t>(a) * d + a] > s[static_cast<std::size_t>(b) * d + b];
  });
  const int groups = d / group;
  for (int j = 0; j < d; ++j) order[j % groups * group + j / groups] = sorted[j];
  return order;
}

}  // namespace

std::vector<int> channel_order(ChannelOrder order, int group, const float* rows, std::size_t n_rows,
                               int d) {
  switch (order) {
    case ChannelOrder::volume:
      return by_volume(group, rows, n_rows, d);
    case ChannelOrder::covariance:
      return by_covariance(group, rows, n_rows, d);
    case ChannelOrder::bit_reversal:
      break;
  }
  if (!std::has_single_bit(static_cast<unsigned>(d)))
    fail("permute bit_reversal needs a head_dim that is a power of two, not {}", d);
  std::vector<int> result(d);
  for (int j = 0; j < d; ++j)
    for (int bit = 1, other = d / 2; bit < d; bit *= 2, other /= 2)
      if (j & bit) result[j] |= other;
  return result;
}

}  // namespace vi::transform
