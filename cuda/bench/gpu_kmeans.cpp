// k-means, all problems at once against one after another: our own trainer a problem a call, and faiss::Clustering's way (a
// search on the GPU for each iteration, means on the host). One problem of each case is trained by the f64 oracle too.
#include <chrono>
#include <cmath>

#include "core/common/error.h"
#include "core/common/interrupt.h"
#include "core/common/rng.h"
#include "cuda/bench/gpu_bench_impl.h"
#include "cuda/common/buffer.h"
#include "cuda/decode_attention/cases.h"
#include "cuda/kmeans/kmeans.h"
#include "cuda/kmeans/oracle.h"

namespace vi::cuda {
namespace {

struct Case {
  int problems, n, dsub, ksub, iterations;
  bool sequential;
};

// With all host work.
template <class F>
double seconds(F f) {
  VI_CUDA(cudaDeviceSynchronize());
  const auto begin = std::chrono::steady_clock::now();
  f();
  VI_CUDA(cudaDeviceSynchronize());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// One k-means of faiss::Clustering's form; the first ksub points are the first centroids.
double seconds_with_host_means(const std::vector<float>& points, const Case& c) {
  Assigner assigner(c.dsub, c.ksub);
  const auto n = static_cast<std::size_t>(c.n), dsub = static_cast<std::size_t>(c.dsub), ksub = static_cast<std::size_t>(c.ksub);
  std::vector<std::uint16_t> codes(n);
  std::vector<float> centroids(points.begin(), points.begin() + static_cast<std::ptrdiff_t>(ksub * dsub)), distances(n);
  return seconds([&] {
    for (int i = 0; i < c.iterations; ++i) {
      assigner.set(centroids.data());
      assigner.assign(points.data(), c.n, codes.data(), distances.data());
      std::vector<float> sums(centroids.size()), size(ksub);
      for (std::size_t k = 0; k < n; ++k) {
        size[codes[k]] += 1;
        for (std::size_t d = 0; d < dsub; ++d) sums[codes[k] * dsub + d] += points[k * dsub + d];
      }
      for (std::size_t k = 0; k < ksub; ++k)
        for (std::size_t d = 0; d < dsub && size[k] > 0; ++d) centroids[k * dsub + d] = sums[k * dsub + d] / size[k];
    }
  });
}

Json measure(const Case& c) {
  const auto problems = static_cast<std::size_t>(c.problems), size = static_cast<std::size_t>(c.n) * static_cast<std::size_t>(c.dsub);
  Rng rng(5);
  std::vector<float> drawn((1u << 20) - 36);
  for (float& v : drawn) v = static_cast<float>(rng.normal());
  Buffer<float> points(problems * size), centroids(problems * static_cast<std::size_t>(c.ksub) * static_cast<std::size_t>(c.dsub));
  spread_on_device(points.data(), points.bytes(), drawn.data(), drawn.size() * sizeof(float));
  std::vector<std::int64_t> seeds(problems);
  for (std::size_t i = 0; i < problems; ++i) seeds[i] = 100 + static_cast<std::int64_t>(i);
  Buffer<double> inertia(problems);
  KmeansParams p;
  p.points = points.data();
  p.n_problems = c.problems;
  p.n = c.n;
  p.dsub = c.dsub;
  p.ksub = c.ksub;
  p.iterations = c.iterations;
  p.seeds = seeds.data();
  p.centroids = centroids.data();
  p.inertia = inertia.data();
  Buffer<std::uint8_t> workspace(kmeans_workspace_bytes(p));
  p.workspace = workspace.data();
  kmeans_train(p);
  double best = 1e30;
  for (int i = 0; i < 3; ++i) best = std::min(best, seconds([&] { kmeans_train(p); }));

  const std::size_t last = problems - 1;
  std::vector<float> own(size);
  VI_CUDA(cudaMemcpy(own.data(), points.data() + last * size, size * sizeof(float), cudaMemcpyDeviceToHost));
  const double off = inertia.download()[last] / oracle_kmeans(own.data(), c.n, c.dsub, c.ksub, c.iterations, seeds[last]).inertia - 1;
  if (!(std::abs(off) <= 0.005)) fail("bench kmeans: the inertia is {:.3f} % off the oracle's: not reported", 100 * off);
  Json row = {{"method", fmt::format("{} x {} x {} -> {}", c.problems, c.n, c.dsub, c.ksub)},
              {"problems", c.problems},
              {"points", c.n},
              {"dsub", c.dsub},
              {"ksub", c.ksub},
              {"iterations", c.iterations},
              {"ms", 1e3 * best},
              {"distances_per_s", static_cast<double>(c.problems) * c.n * c.ksub * c.iterations / best},
              {"inertia_against_oracle", off}};
  if (!c.sequential) return row;
  // Extrapolated from a few problems; from one with means on the host.
  const int few = std::min(c.problems, 16);
  KmeansParams single = p;
  single.n_problems = 1;
  const double one = seconds([&] {
                       for (int i = 0; i < few; ++i) {
                         single.points = points.data() + static_cast<std::size_t>(i) * size;
                         single.seeds = &seeds[static_cast<std::size_t>(i)];
                         kmeans_train(single);
                         VI_CUDA(cudaDeviceSynchronize());
                       }
                     }) /
                     few;
  row["own_sequential_ms"] = 1e3 * one * c.problems;
  row["gpu_search_host_means_sequential_ms"] = 1e3 * seconds_with_host_means(own, c) * c.problems;
  row["sequential_problems_measured"] = few;
  return row;
}

}  // namespace

void bench_kmeans(BenchRows& rows, Progress& progress) {
  const std::string& set = rows.settings().set;
  if (set != "all" && set != "quick") fail<ConfigError>("bench kmeans: expected --cases all or quick, got {}", set);
  const std::vector<Case> all = {{2048, 65536, 4, 256, 30, true}, {2048, 16384, 4, 256, 30, false}, {64, 65536, 2, 256, 30, false},
                                 {64, 65536, 8, 256, 30, false},  {64, 65536, 4, 4096, 4, false},   {4, 65536, 8, 16384, 1, false}};
  for (const Case& c : set == "all" ? all : std::vector<Case>{{64, 16384, 4, 256, 30, true}}) {
    check_interrupt();
    progress.note(fmt::format("k-means, {} problems of {} x {} -> {}", c.problems, c.n, c.dsub, c.ksub));
    rows.add(measure(c));
  }
}

}  // namespace vi::cuda
