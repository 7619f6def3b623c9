// k-means on the GPU: a batched Lloyd trainer for many equal problems at once (all layers, heads
// and sub-spaces), and the nearest-centroid search that faiss::Clustering can drive through an
// index of core/quant. C++17, no FAISS here: its rules (initial points, empty clusters) are written
// out, so a problem starts and continues as faiss::Clustering would with the same seed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/common/buffer.h"

namespace vi::cuda {

struct KmeansParams {
  const float* points = nullptr;  // device [n_problems, n, dsub], finite
  int n_problems = 0, n = 0, dsub = 0, ksub = 0;
  int iterations = 0;
  const std::int64_t* seeds = nullptr;  // host [n_problems], as faiss::ClusteringParameters::seed
  float* centroids = nullptr;           // device [n_problems, ksub, dsub]
  int* usage = nullptr;       // device [n_problems, ksub] points nearest at the end; or null
  double* inertia = nullptr;  // device [n_problems] sum of squared distances; or null
  void* workspace = nullptr;  // kmeans_workspace_bytes(params)
  cudaStream_t stream = nullptr;
};
std::size_t kmeans_workspace_bytes(const KmeansParams& params);
// dsub 2, 4, 8; ksub 1..65536, at most n. The same bytes on every run, and for a problem alone or
// in any batch. vi::Error otherwise.
void kmeans_train(const KmeansParams& params);

// Indices of the ksub points faiss::Clustering starts from.
std::vector<int> faiss_initial_points(int n, int ksub, std::int64_t seed);
// What FAISS draws while it splits empty clusters: the first `count` numbers.
std::vector<float> faiss_split_draws(int count);

// Nearest centroids of host points, on the GPU, with the very arithmetic of quant::assign: the same
// codes and distances, bit for bit. dsub 1..16, ksub 1..65536.
class Assigner {
 public:
  Assigner(int dsub, int ksub);
  void set(const float* centroids);  // host [ksub, dsub]
  void assign(const float* points, std::size_t n, std::uint16_t* codes, float* distances);

 private:
  int dsub_, ksub_;
  Buffer<float> centroids_, points_, distances_;
  Buffer<std::uint16_t> codes_;
};

}  // namespace vi::cuda
