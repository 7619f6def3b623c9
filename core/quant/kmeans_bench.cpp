#include "core/quant/kmeans_bench.h"

#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>
#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "core/common/hash.h"
#include "core/common/rng.h"
#include "core/quant/assign.h"
#include "core/quant/kmeans.h"

namespace vi::quant {
namespace {

struct Clock {
  std::chrono::steady_clock::time_point wall = std::chrono::steady_clock::now();
  double cpu = cpu_seconds();
  static double cpu_seconds() {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + 1e-6 * usage.ru_utime.tv_usec;
  }
  double wall_s() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - wall).count();
  }
  double cpu_s() const { return cpu_seconds() - cpu; }
};

// Normal points, as after a Hadamard transform.
std::vector<float> normal_points(std::uint64_t seed, std::size_t count) {
  Rng rng(seed);
  std::vector<float> points(count);
  for (float& x : points) x = static_cast<float>(rng.normal());
  return points;
}

struct Case {
  const char* name;
  int problems, points;
};
constexpr int kDsub = 4, kKsub = 256;

Json run_case(const Case& c, const KmeansBenchSettings& settings, Progress& progress) {
  const int problems = settings.problems > 0 ? std::min(settings.problems, c.problems) : c.problems;
  const KmeansSettings kmeans_settings{settings.iterations, 256, settings.threads};
  // Points are made before the clock starts; a few sets serve all problems, whose seeds differ.
  std::vector<std::vector<float>> sets;
  for (int i = 0; i < std::min(problems, 16); ++i)
    sets.push_back(normal_points(settings.seed * 1000 + i, std::size_t{kDsub} * c.points));
  std::vector<KmeansProblem> list(problems);
  for (int i = 0; i < problems; ++i)
    list[i] = {sets[i % sets.size()], {}, kDsub, kKsub, settings.seed + i};
  progress.begin(c.name, problems);
  const Clock clock;
  const std::vector<KmeansResult> results = train_many(list, kmeans_settings, progress);
  const double wall = clock.wall_s(), cpu = clock.cpu_s();
  progress.end();
  double mse = 0;
  Sha256 hash;  // the same on every machine, SIMD level and number of threads
  for (const KmeansResult& result : results) {
    mse += result.train_mse / problems;
    hash.update(result.centroids.data(), result.centroids.size() * sizeof(float));
  }

  Json json = {{"case", c.name},
               {"problems", problems},
               {"points", c.points},
               {"dsub", kDsub},
               {"ksub", kKsub},
               {"iterations", settings.iterations},
               {"wall_s", wall},
               {"cpu_s", cpu},
               {"train_mse", mse},
               {"s_per_problem", wall / problems},
               {"centroids_sha256", hash.hex()}};
  const int baseline = std::min(settings.baseline_problems, problems);
  if (baseline > 0) {
    const Clock flat;
    for (int i = 0; i < baseline; ++i) {
      faiss::ClusteringParameters parameters;
      parameters.niter = settings.iterations;
      parameters.min_points_per_centroid = 1;
      faiss::Clustering clustering(kDsub, kKsub, parameters);
      faiss::IndexFlatL2 index(kDsub);
      clustering.train(c.points, list[i].points.data(), index);
    }
    const double each = flat.wall_s() / baseline;
    json["faiss_flat_s_per_problem"] = each;
    json["speedup"] = each / (wall / problems);
  }
  return json;
}

Json run_assign(int dsub, int ksub, Simd level) {
  const std::size_t n = level == Simd::scalar ? 1024 : 16384;
  const std::vector<float> points = normal_points(1, n * dsub);
  const std::vector<float> centroids = normal_points(2, std::size_t(ksub) * dsub);
  const CentroidTable table(centroids.data(), ksub, dsub);
  std::vector<std::uint16_t> codes(n);
  double best = 1e30;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const Clock clock;
    assign(table, points.data(), n, dsub, codes.data(), 1, nullptr, level);
    best = std::min(best, clock.wall_s());
  }
  return {{"dsub", dsub},
          {"ksub", ksub},
          {"simd", std::string(simd_name(level))},
          {"points_per_s", n / best},
          {"ns_per_distance", 1e9 * best / (double(n) * ksub)}};
}

}  // namespace

Json kmeans_bench(const KmeansBenchSettings& settings, Progress& progress) {
  Json json = {{"simd", std::string(simd_name(best_simd()))},
               {"threads", settings.threads > 0 ? settings.threads : omp_get_max_threads()}};
  Json& cases = json["cases"] = Json::array();
  cases.push_back(run_case({"shared", 180, 65536}, settings, progress));
  cases.push_back(run_case({"subspace", 2880, 16384}, settings, progress));
  Json& assigns = json["assign"] = Json::array();
  for (const auto& [dsub, ksub] :
       {std::pair{2, 256}, {4, 256}, {8, 256}, {4, 4096}, {8, 4096}, {16, 256}})
    for (const auto& [name, level] : enum_names(Simd{}))
      if (level <= best_simd()) assigns.push_back(run_assign(dsub, ksub, level));
  return json;
}

}  // namespace vi::quant
