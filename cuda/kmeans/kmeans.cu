// Launchers of the batched trainer and of the nearest-centroid search.
#include "cuda/common/check.h"
#include "cuda/kmeans/kmeans.cuh"
#include "cuda/kmeans/kmeans.h"

namespace vi::cuda {
namespace {

constexpr int kDraws = 262139;  // prime, so that a second round meets other clusters

struct Plan {  // of the workspace, in bytes
  std::size_t initial, centroids, shift, largest, sums, counts, sizes, parts, draws, total;
  int runs;
};
Plan plan_of(const KmeansParams& p) {
  Plan plan{};
  std::size_t at = 0;
  const auto take = [&](std::size_t bytes) {
    const std::size_t here = at;
    at += (bytes + 255) / 256 * 256;
    return here;
  };
  const std::size_t problems = p.n_problems, clusters = problems * p.ksub;
  plan.runs = (p.n + kmeans::kRun - 1) / kmeans::kRun;
  plan.initial = take(clusters * sizeof(int));
  plan.centroids = take(clusters * p.dsub * sizeof(float));
  plan.shift = take(problems * p.dsub * sizeof(float));
  plan.largest = take(problems * sizeof(float));
  plan.sums = take(clusters * p.dsub * sizeof(long long));
  plan.counts = take(clusters * sizeof(unsigned));
  plan.sizes = take(clusters * sizeof(float));
  plan.parts = take(problems * plan.runs * sizeof(double));
  plan.draws = take(kDraws * sizeof(float));
  plan.total = at;
  return plan;
}

void check(const KmeansParams& p) {
  if (p.dsub != 2 && p.dsub != 4 && p.dsub != 8)
    throw_call("kmeans_train: dsub " + std::to_string(p.dsub) + ", expected 2, 4 or 8");
  if (p.n_problems < 1 || p.n_problems > 65535 || p.ksub < 1 || p.ksub > 65536 || p.n < p.ksub ||
      p.iterations < 1)
    throw_call("kmeans_train: " + std::to_string(p.n_problems) + " problems of " +
               std::to_string(p.n) + " points to " + std::to_string(p.ksub) + " in " +
               std::to_string(p.iterations) +
               " iterations; expected 1..65535 problems, at least as many points as centroids, "
               "65536 centroids at most");
}

template <int kDsub>
void train(const KmeansParams& p, const Plan& plan) {
  auto* base = static_cast<unsigned char*>(p.workspace);
  kmeans::Args a{};
  a.points = p.points;
  a.n = p.n;
  a.ksub = p.ksub;
  a.centroids = reinterpret_cast<float*>(base + plan.centroids);
  a.shift = reinterpret_cast<float*>(base + plan.shift);
  a.largest = reinterpret_cast<float*>(base + plan.largest);
  a.sums = reinterpret_cast<long long*>(base + plan.sums);
  a.counts = reinterpret_cast<unsigned*>(base + plan.counts);
  a.parts = reinterpret_cast<double*>(base + plan.parts);
  auto* sizes = reinterpret_cast<float*>(base + plan.sizes);
  const auto* draws = reinterpret_cast<const float*>(base + plan.draws);
  const std::size_t bytes = kmeans::assign_bytes<kDsub>(p.ksub);
  VI_CUDA(cudaFuncSetAttribute(kmeans::assign<kDsub>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(bytes)));
  kmeans::begin<kDsub><<<p.n_problems, kmeans::kThreads, 0, p.stream>>>(
      a, reinterpret_cast<const int*>(base + plan.initial));
  VI_CUDA(cudaGetLastError());
  const dim3 grid(plan.runs, p.n_problems);
  for (int i = 0; i < p.iterations; ++i) {
    kmeans::assign<kDsub><<<grid, kmeans::kThreads, bytes, p.stream>>>(a, false);
    VI_CUDA(cudaGetLastError());
    kmeans::update<kDsub><<<p.n_problems, kmeans::kThreads, 0, p.stream>>>(a, draws, kDraws, sizes);
    VI_CUDA(cudaGetLastError());
  }
  if (p.usage || p.inertia) {
    kmeans::assign<kDsub><<<grid, kmeans::kThreads, bytes, p.stream>>>(a, true);
    VI_CUDA(cudaGetLastError());
  }
  kmeans::finish<kDsub><<<p.n_problems, kmeans::kThreads, 0, p.stream>>>(a, p.centroids, p.usage,
                                                                         p.inertia, plan.runs);
  VI_CUDA(cudaGetLastError());
}

}  // namespace

std::size_t kmeans_workspace_bytes(const KmeansParams& p) {
  check(p);
  return plan_of(p).total;
}

void kmeans_train(const KmeansParams& p) {
  check(p);
  if (!p.points || !p.seeds || !p.centroids || !p.workspace)
    throw_call("kmeans_train: points, seeds, centroids or workspace missing");
  const Plan plan = plan_of(p);
  std::vector<int> initial;
  initial.reserve(static_cast<std::size_t>(p.n_problems) * p.ksub);
  for (int i = 0; i < p.n_problems; ++i) {
    const std::vector<int> one = faiss_initial_points(p.n, p.ksub, p.seeds[i]);
    initial.insert(initial.end(), one.begin(), one.end());
  }
  static const std::vector<float> draws = faiss_split_draws(kDraws);
  auto* base = static_cast<unsigned char*>(p.workspace);
  VI_CUDA(cudaMemcpyAsync(base + plan.initial, initial.data(), initial.size() * sizeof(int),
                          cudaMemcpyHostToDevice, p.stream));
  VI_CUDA(cudaMemcpyAsync(base + plan.draws, draws.data(), draws.size() * sizeof(float),
                          cudaMemcpyHostToDevice, p.stream));
  if (p.dsub == 2)
    train<2>(p, plan);
  else if (p.dsub == 4)
    train<4>(p, plan);
  else
    train<8>(p, plan);
}

Assigner::Assigner(int dsub, int ksub) : dsub_(dsub), ksub_(ksub) {
  if (dsub < 1 || dsub > 16 || ksub < 1 || ksub > 65536)
    throw_call("Assigner: dsub " + std::to_string(dsub) + ", ksub " + std::to_string(ksub) +
               "; expected 1..16 and 1..65536");
  centroids_ = Buffer<float>(static_cast<std::size_t>(dsub) * ksub);
}

void Assigner::set(const float* centroids) {
  VI_CUDA(cudaMemcpy(centroids_.data(), centroids, centroids_.bytes(), cudaMemcpyHostToDevice));
}

void Assigner::assign(const float* points, std::size_t n, std::uint16_t* codes, float* distances) {
  if (n == 0) return;
  if (codes_.size() < n) {
    points_ = Buffer<float>(n * dsub_);
    codes_ = Buffer<std::uint16_t>(n);
    distances_ = Buffer<float>(n);
  }
  VI_CUDA(cudaMemcpy(points_.data(), points, n * dsub_ * sizeof(float), cudaMemcpyHostToDevice));
  kmeans::nearest<<<static_cast<unsigned>((n + kmeans::kThreads - 1) / kmeans::kThreads),
                    kmeans::kThreads>>>(points_.data(), static_cast<std::int64_t>(n),
                                        centroids_.data(), ksub_, dsub_, codes_.data(),
                                        distances_.data());
  VI_CUDA(cudaGetLastError());
  VI_CUDA(cudaMemcpy(codes, codes_.data(), n * sizeof(std::uint16_t), cudaMemcpyDeviceToHost));
  if (distances)
    VI_CUDA(cudaMemcpy(distances, distances_.data(), n * sizeof(float), cudaMemcpyDeviceToHost));
}

}  // namespace vi::cuda
