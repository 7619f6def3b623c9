#include "cuda/kmeans/oracle.h"

#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "cuda/kmeans/kmeans.h"

namespace vi::cuda {

// faiss::rand_perm, the first ksub places only: what was swapped is kept in a small table (open
// addressing) instead of an array of n.
std::vector<int> faiss_initial_points(int n, int ksub, std::int64_t seed) {
  std::mt19937 rng(static_cast<unsigned>(seed + 1));
  std::size_t size = 64;
  while (size < 4 * static_cast<std::size_t>(ksub)) size *= 2;
  std::vector<std::pair<int, int>> moved(size, {-1, 0});
  const auto place = [&](int i) -> std::pair<int, int>& {
    std::size_t k = (static_cast<unsigned>(i) * 2654435761u) & (size - 1);
    while (moved[k].first != -1 && moved[k].first != i) k = (k + 1) & (size - 1);
    return moved[k];
  };
  const auto at = [&](int i) {
    const auto& found = place(i);
    return found.first == i ? found.second : i;
  };
  std::vector<int> first(ksub);
  for (int i = 0; i < ksub; ++i) {
    if (i + 1 == n) {
      first[i] = at(i);
      break;
    }
    const int j = i + static_cast<int>(rng() % static_cast<unsigned>(n - i));
    const int mine = at(i);
    first[i] = at(j);
    place(j) = {j, mine};
  }
  return first;
}

std::vector<float> faiss_split_draws(int count) {
  std::mt19937 rng(1234);
  std::vector<float> draws(count);
  for (float& v : draws) v = static_cast<float>(rng()) / static_cast<float>(std::mt19937::max());
  return draws;
}

int oracle_nearest(const float* x, const float* centroids, int ksub, int dsub, float* distance) {
  float best = std::numeric_limits<float>::infinity();
  int code = 0;
  for (int c = 0; c < ksub; ++c) {
    float v = 0;
    for (int d = 0; d < dsub; ++d) {
      const float e = centroids[static_cast<std::size_t>(c) * dsub + d] - x[d];
      v = std::fma(e, e, v);
    }
    if (v < best) {
      best = v;
      code = c;
    }
  }
  if (distance) *distance = best;
  return code;
}

OracleKmeans oracle_kmeans(const float* points, int n, int dsub, int ksub, int iterations,
                           std::int64_t seed) {
  OracleKmeans r;
  for (int i : faiss_initial_points(n, ksub, seed))
    for (int d = 0; d < dsub; ++d)
      r.centroids.push_back(points[static_cast<std::size_t>(i) * dsub + d]);
  const auto at = [&](int c, int d) -> float& {
    return r.centroids[static_cast<std::size_t>(c) * dsub + d];
  };
  for (int iteration = 0; iteration <= iterations; ++iteration) {
    std::vector<double> sums(static_cast<std::size_t>(ksub) * dsub);
    std::vector<float> size(ksub);
    r.inertia = 0;
    for (int i = 0; i < n; ++i) {
      float distance = 0;
      const float* x = points + static_cast<std::size_t>(i) * dsub;
      const int c = oracle_nearest(x, r.centroids.data(), ksub, dsub, &distance);
      r.inertia += distance;
      size[c] += 1;
      for (int d = 0; d < dsub; ++d) sums[static_cast<std::size_t>(c) * dsub + d] += x[d];
    }
    r.usage.assign(size.begin(), size.end());
    if (iteration == iterations) break;
    for (int c = 0; c < ksub; ++c)
      for (int d = 0; d < dsub && size[c] > 0; ++d)
        at(c, d) = static_cast<float>(sums[static_cast<std::size_t>(c) * dsub + d] / size[c]);
    std::mt19937 rng(1234);
    for (int c = 0; c < ksub && n > ksub; ++c) {  // faiss/Clustering.cpp, split_clusters
      if (size[c] != 0) continue;
      int from = 0;
      for (;; from = (from + 1) % ksub) {
        const float p = (size[from] - 1.f) / static_cast<float>(n - ksub);
        if (static_cast<float>(rng()) / static_cast<float>(std::mt19937::max()) < p) break;
      }
      for (int d = 0; d < dsub; ++d) {
        const float v = at(from, d);
        at(c, d) = v * (d % 2 == 0 ? 1 + 1 / 1024.f : 1 - 1 / 1024.f);
        at(from, d) = v * (d % 2 == 0 ? 1 - 1 / 1024.f : 1 + 1 / 1024.f);
      }
      size[c] = size[from] / 2;
      size[from] -= size[c];
    }
  }
  return r;
}

}  // namespace vi::cuda
