#include "core/quant/kmeans.h"

#include <faiss/Clustering.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <string>
#include <unordered_set>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/interrupt.h"
#include "core/common/rng.h"
#include "core/quant/assign.h"
#include "core/quant/levels.h"

namespace vi::quant {
namespace {

using faiss::Index;

constexpr std::int64_t kChunk = 1024;  // points assigned at a time
constexpr double kWorthThreads =
    1e8;  // fused multiply-adds of an iteration; below, a barrier costs more

// What faiss::Clustering asks for distances: the centroids, searched by assign().
class AssignIndex final : public Index {
 public:
  AssignIndex(int dsub, int ksub, std::unique_ptr<CentroidSearch> search)
      : Index(dsub, faiss::METRIC_L2), ksub_(ksub), search_(std::move(search)) {}

  void add(idx_t n, const float* x) override {
    VI_CHECK(n == ksub_ && ntotal == 0, "{} centroids added to {} of {}", n, ntotal, ksub_);
    const std::size_t size = static_cast<std::size_t>(n) * d;
    fresh_ = last_.size() != size || std::memcmp(last_.data(), x, size * sizeof(float)) != 0;
    if (fresh_) {
      last_.assign(x, x + size);
      if (search_)
        search_->set(x);
      else if (table_.ksub() == 0)
        table_ = CentroidTable(x, ksub_, d);
      else
        table_.set(x);
    }
    ntotal = n;
  }
  void reset() override { ntotal = 0; }

  void search(idx_t n, const float* x, idx_t k, float* distances, idx_t* labels,
              const faiss::SearchParameters*) const override {
    VI_CHECK(k == 1 && ntotal == ksub_, "search of {} neighbours among {}", k, ntotal);
    if (interrupt_requested()) throw Interrupted();
    // Converged: the same centroids as in the last search give the same answer.
    if (fresh_ || static_cast<idx_t>(codes_.size()) != n) {
      codes_.resize(n);
      distances_.resize(n);
      if (search_) search_->assign(x, static_cast<std::size_t>(n), codes_.data(), distances_.data());
#pragma omp parallel for schedule(static) if (!search_)
      for (idx_t at = search_ ? n : 0; at < n; at += kChunk)
        quant::assign(table_, x + at * d, std::min<idx_t>(kChunk, n - at), d, codes_.data() + at, 1,
                      distances_.data() + at);
      fresh_ = false;
    }
    std::copy_n(codes_.data(), n, labels);
    std::copy_n(distances_.data(), n, distances);
  }

 private:
  int ksub_;
  std::unique_ptr<CentroidSearch> search_;
  CentroidTable table_;
  std::vector<float> last_;
  mutable bool fresh_ = true;
  mutable std::vector<std::uint16_t> codes_;
  mutable std::vector<float> distances_;
};

// What an iteration costs, in fused multiply-adds.
double work(const KmeansProblem& problem, const KmeansSettings& settings) {
  const double most = double(problem.ksub) * settings.max_points_per_centroid * problem.dsub;
  return std::min(static_cast<double>(problem.points.size()), most) * problem.ksub;
}

// The number of threads of the parallel regions that this thread opens, FAISS's among them.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ~ThreadScope() { omp_set_num_threads(before_); }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

void check(const KmeansProblem& problem, const KmeansSettings& settings) {
  VI_CHECK(problem.dsub >= 1 && problem.ksub >= 1 && problem.ksub <= 65536, "dsub {}, ksub {}",
           problem.dsub, problem.ksub);
  VI_CHECK(settings.iterations >= 1 && settings.max_points_per_centroid >= 1,
           "{} iterations, {} points a centroid", settings.iterations,
           settings.max_points_per_centroid);
  const std::size_t dsub = problem.dsub, n = problem.points.size() / dsub;
  VI_CHECK(problem.points.size() == n * dsub, "{} values are not whole points of {}",
           problem.points.size(), dsub);
  if (n == 0) fail("k-means: no points to train on");
  for (std::size_t i = 0; i < n * dsub; ++i)
    if (!(std::fabs(problem.points[i]) <= 1e18f))  // its square must be finite too
      fail("k-means: point {} dimension {} is not finite or too large ({})", i / dsub, i % dsub,
           problem.points[i]);
  if (problem.weights.empty()) return;
  VI_CHECK(problem.weights.size() == n, "{} weights for {} points", problem.weights.size(), n);
  for (std::size_t i = 0; i < n; ++i)
    if (!(problem.weights[i] >= 0.0f) || !std::isfinite(problem.weights[i]))
      fail("k-means: weight {} is {}; expected a finite number from 0", i, problem.weights[i]);
}

// FAISS's rule, drawn by us: at most ksub * max_points_per_centroid points, without replacement, in
// their order. Weights are scaled to mean 1: FAISS splits an empty cluster off one whose weight
// exceeds 1 and would search for ever if there were none.
KmeansSample draw(const KmeansProblem& problem, const KmeansSettings& settings, Rng& rng) {
  const std::int64_t dsub = problem.dsub;
  const std::int64_t n = static_cast<std::int64_t>(problem.points.size()) / dsub;
  const std::int64_t most = std::int64_t{problem.ksub} * settings.max_points_per_centroid;
  KmeansSample sample;
  sample.points = problem.points;
  sample.n = n;
  sample.weights.assign(problem.weights.begin(), problem.weights.end());
  if (n > most) {
    sample.storage.reserve(most * dsub);
    sample.weights.clear();
    std::int64_t wanted = most;
    for (std::int64_t i = 0; i < n && wanted > 0; ++i) {
      if (static_cast<std::int64_t>(rng.below(n - i)) >= wanted) continue;
      --wanted;
      const float* point = problem.points.data() + i * dsub;
      sample.storage.insert(sample.storage.end(), point, point + dsub);
      if (!problem.weights.empty()) sample.weights.push_back(problem.weights[i]);
    }
    sample.points = sample.storage;
    sample.n = most;
  }
  if (!sample.weights.empty()) {
    double sum = 0;
    for (const float weight : sample.weights) sum += weight;
    if (!(sum > 0)) fail("k-means: all weights are zero");
    for (float& weight : sample.weights)
      weight = static_cast<float>(weight * (static_cast<double>(sample.n) / sum));
  }
  return sample;
}

// The different points in order of appearance, if there are at most `limit`; otherwise empty. Stops
// at the first point too many, so that ordinary data costs next to nothing.
std::vector<float> few_different(std::span<const float> points, int dsub, int limit) {
  std::unordered_set<std::string> seen;
  std::vector<float> result, point(dsub);
  for (std::size_t i = 0; i < points.size(); i += dsub) {
    for (int j = 0; j < dsub; ++j) point[j] = points[i + j] + 0.0f;  // -0 is 0
    if (!seen.emplace(reinterpret_cast<const char*>(point.data()), dsub * sizeof(float)).second)
      continue;
    if (static_cast<int>(seen.size()) > limit) return {};
    result.insert(result.end(), point.begin(), point.end());
  }
  return result;
}

}  // namespace

KmeansSample kmeans_sample(const KmeansProblem& problem, const KmeansSettings& settings) {
  check(problem, settings);
  Rng rng(problem.seed);
  KmeansSample sample = draw(problem, settings, rng);
  const std::size_t size = static_cast<std::size_t>(problem.ksub) * problem.dsub;
  sample.few = few_different(sample.points, problem.dsub, problem.ksub);
  const std::size_t different = sample.few.size();
  if (different > 0)
    for (std::size_t i = 0; sample.few.size() < size; ++i) sample.few.push_back(sample.few[i % different]);
  else
    sample.clustering_seed = static_cast<std::int64_t>(rng.next() & 0x3fffffff);
  return sample;
}

KmeansResult kmeans_result(const KmeansProblem& problem, const KmeansSample& sample, std::vector<float> centroids) {
  KmeansResult result;
  result.n_train = sample.n;
  result.centroids = std::move(centroids);
  for (float& value : result.centroids)
    value = half_to_float(float_to_half(std::clamp(value, -65504.0f, 65504.0f)));
  result.usage.assign(problem.ksub, 0);
  const CentroidTable table(result.centroids.data(), problem.ksub, problem.dsub);
  std::vector<std::uint16_t> codes(kChunk);
  std::vector<float> distances(kChunk);
  double error = 0, weight_sum = 0;
  for (std::int64_t at = 0; at < sample.n; at += kChunk) {
    const std::int64_t count = std::min(kChunk, sample.n - at);
    assign(table, sample.points.data() + at * problem.dsub, count, problem.dsub, codes.data(), 1,
           distances.data());
    for (std::int64_t i = 0; i < count; ++i) {
      const double weight = sample.weights.empty() ? 1.0 : sample.weights[at + i];
      ++result.usage[codes[i]];
      error += weight * distances[i];
      weight_sum += weight;
    }
  }
  result.train_mse = error / (weight_sum * problem.dsub);
  result.dead = static_cast<int>(std::count(result.usage.begin(), result.usage.end(), 0));
  return result;
}

KmeansResult kmeans(const KmeansProblem& problem, const KmeansSettings& settings) {
  const int threads = settings.threads > 0 ? settings.threads : omp_get_max_threads();
  const ThreadScope scope(omp_in_parallel() || work(problem, settings) < kWorthThreads ? 1
                                                                                       : threads);
  const KmeansSample sample = kmeans_sample(problem, settings);
  if (!sample.few.empty()) return kmeans_result(problem, sample, sample.few);
  if (problem.dsub == 1 && problem.ksub <= kMostLevels)
    return kmeans_result(problem, sample, optimal_levels(sample.points, sample.weights, problem.ksub));
  faiss::ClusteringParameters parameters;
  parameters.niter = settings.iterations;
  parameters.seed = static_cast<int>(sample.clustering_seed);
  parameters.min_points_per_centroid = 1;  // or it prints a warning
  parameters.max_points_per_centroid = settings.max_points_per_centroid;
  faiss::Clustering clustering(problem.dsub, problem.ksub, parameters);
  AssignIndex index(problem.dsub, problem.ksub,
                    settings.search ? settings.search(problem.dsub, problem.ksub) : nullptr);
  clustering.train(sample.n, sample.points.data(), index,
                   sample.weights.empty() ? nullptr : sample.weights.data());
  return kmeans_result(problem, sample, clustering.centroids);
}

std::vector<KmeansResult> train_many(std::span<const KmeansProblem> problems,
                                     const KmeansSettings& settings, Progress& progress) {
  const int n = static_cast<int>(problems.size());
  std::vector<KmeansResult> results(n);
  std::vector<std::exception_ptr> errors(n);
  std::atomic<bool> stop = false;
  const int threads = settings.threads > 0 ? settings.threads : omp_get_max_threads();
  const auto one = [&](int i) {
    if (stop) return;
    try {
      if (interrupt_requested()) throw Interrupted();
      results[i] = kmeans(problems[i], settings);
#pragma omp critical(vi_kmeans_progress)
      progress.advance();
    } catch (...) {  // must not leave the parallel region
      errors[i] = std::current_exception();
      stop = true;
    }
  };
  // Side by side as long as every thread has one; large ones left over take all threads each.
  int side_by_side = n;
  for (const KmeansProblem& problem : problems)
    if (work(problem, settings) >= kWorthThreads) side_by_side = n - n % threads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int i = 0; i < side_by_side; ++i) one(i);
  for (int i = side_by_side; i < n; ++i) one(i);
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
  return results;
}

}  // namespace vi::quant
