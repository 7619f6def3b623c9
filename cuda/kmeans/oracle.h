// k-means by the definitions, on the CPU with f64 sums: the trainer's oracle. The same rules as
// faiss::Clustering, to which tests/cuda/kmeans_faiss_test.cpp holds it.
#pragma once

#include <cstdint>
#include <vector>

namespace vi::cuda {

struct OracleKmeans {
  std::vector<float> centroids;
  std::vector<int> usage;
  double inertia = 0;  // of the centroids as returned
};
OracleKmeans oracle_kmeans(const float* points, int n, int dsub, int ksub, int iterations,
                           std::int64_t seed);

// The nearest centroid in quant::assign's arithmetic.
int oracle_nearest(const float* x, const float* centroids, int ksub, int dsub, float* distance);

}  // namespace vi::cuda
