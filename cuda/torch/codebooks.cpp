#include "cuda/torch/codebooks.h"

#include <algorithm>
#include <cstddef>

#include "core/common/error.h"
#include "core/common/interrupt.h"
#include "cuda/common/buffer.h"
#include "cuda/common/check.h"
#include "cuda/kmeans/kmeans.h"

namespace vi::cuda {
namespace {

constexpr std::size_t kBatchBytes = std::size_t{4} << 30;  // of points on the GPU at a time

class GpuSearch final : public quant::CentroidSearch {
 public:
  GpuSearch(int dsub, int ksub) : assigner_(dsub, ksub) {}
  void set(const float* centroids) override { assigner_.set(centroids); }
  void assign(const float* points, std::size_t n, std::uint16_t* codes, float* distances) override {
    assigner_.assign(points, n, codes, distances);
  }

 private:
  Assigner assigner_;
};

}  // namespace

quant::SearchFactory gpu_search() {
  return [](int dsub, int ksub) { return std::make_unique<GpuSearch>(dsub, ksub); };
}

std::vector<quant::KmeansResult> train_batched(std::span<const quant::KmeansProblem> problems,
                                               const quant::KmeansSettings& settings, Progress& progress) {
  std::vector<quant::KmeansResult> results(problems.size());
  std::vector<quant::KmeansSample> samples;
  std::vector<std::size_t> train;  // which of them
  for (std::size_t i = 0; i < problems.size(); ++i) {
    const quant::KmeansProblem& p = problems[i];
    if (!p.weights.empty()) fail("codebook: trainer batched takes no weights; use trainer: faiss");
    samples.push_back(quant::kmeans_sample(p, settings));
    if (samples[i].few.empty()) train.push_back(i);
    if (!train.empty() && (p.dsub != problems[train[0]].dsub || p.ksub != problems[train[0]].ksub || samples[i].n != samples[train[0]].n))
      fail("codebook: trainer batched takes problems of one shape; use trainer: faiss");
  }
  std::vector<std::vector<float>> centroids(problems.size());
  for (std::size_t i = 0; i < problems.size(); ++i) centroids[i] = samples[i].few;
  if (!train.empty()) {
    KmeansParams p;
    const quant::KmeansSample& like = samples[train[0]];
    p.dsub = problems[train[0]].dsub, p.ksub = problems[train[0]].ksub;
    p.n = static_cast<int>(like.n), p.iterations = settings.iterations;
    const std::size_t size = like.points.size(), book = static_cast<std::size_t>(p.ksub) * static_cast<std::size_t>(p.dsub);
    const std::size_t at_once = std::clamp<std::size_t>(kBatchBytes / (size * sizeof(float)), 1, std::min<std::size_t>(train.size(), 65535));
    Buffer<float> points(size * at_once), out(book * at_once);
    p.n_problems = static_cast<int>(at_once);
    Buffer<unsigned char> workspace(kmeans_workspace_bytes(p));
    for (std::size_t first = 0; first < train.size(); first += at_once) {
      check_interrupt();
      const std::size_t count = std::min(at_once, train.size() - first);
      std::vector<std::int64_t> seeds;
      for (std::size_t i = 0; i < count; ++i) {
        const quant::KmeansSample& sample = samples[train[first + i]];
        seeds.push_back(sample.clustering_seed);
        VI_CUDA(cudaMemcpy(points.data() + i * size, sample.points.data(), size * sizeof(float), cudaMemcpyHostToDevice));
      }
      p.points = points.data(), p.centroids = out.data(), p.workspace = workspace.data();
      p.n_problems = static_cast<int>(count), p.seeds = seeds.data();
      kmeans_train(p);
      std::vector<float> host(book * count);
      VI_CUDA(cudaMemcpy(host.data(), out.data(), host.size() * sizeof(float), cudaMemcpyDeviceToHost));
      for (std::size_t i = 0; i < count; ++i)
        centroids[train[first + i]].assign(host.begin() + static_cast<std::ptrdiff_t>(i * book),
                                           host.begin() + static_cast<std::ptrdiff_t>((i + 1) * book));
    }
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (std::size_t i = 0; i < problems.size(); ++i)
    results[i] = quant::kmeans_result(problems[i], samples[i], std::move(centroids[i]));
  for (std::size_t i = 0; i < problems.size(); ++i) progress.advance();
  return results;
}

}  // namespace vi::cuda
