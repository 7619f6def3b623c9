// The k-means oracle of cuda/kmeans is faiss::Clustering: the same start, the same rule for empty
// clusters, the same inertia. No GPU: kmeans_test.cpp then holds the GPU to the oracle.
#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/common/rng.h"
#include "cuda/kmeans/oracle.h"

namespace vi::cuda {
namespace {

TEST(KmeansOracle, IsFaiss) {
  struct Case {
    int dsub, ksub, n, iterations, distinct;
  };
  for (const Case& c :
       {Case{4, 256, 9001, 10, 0}, Case{2, 256, 8192, 10, 0}, Case{8, 64, 3001, 10, 0},
        Case{4, 33, 131, 9, 0}, Case{4, 64, 2000, 6, 40}}) {
    Rng rng(c.ksub + c.n);
    std::vector<float> points(static_cast<std::size_t>(c.n) * c.dsub);
    for (std::size_t i = 0; i < points.size(); ++i)
      points[i] = c.distinct > 0 && i >= static_cast<std::size_t>(c.distinct) * c.dsub
                      ? points[i % (static_cast<std::size_t>(c.distinct) * c.dsub)]
                      : static_cast<float>(rng.normal());
    faiss::ClusteringParameters parameters;
    parameters.niter = c.iterations;
    parameters.seed = 4321;
    parameters.min_points_per_centroid = 1;
    parameters.max_points_per_centroid = 1 << 20;
    faiss::Clustering clustering(c.dsub, c.ksub, parameters);
    faiss::IndexFlatL2 index(c.dsub);
    clustering.train(c.n, points.data(), index);
    double inertia = 0;
    for (int i = 0; i < c.n; ++i) {
      float d = 0;
      oracle_nearest(&points[static_cast<std::size_t>(i) * c.dsub], clustering.centroids.data(),
                     c.ksub, c.dsub, &d);
      inertia += d;
    }
    const OracleKmeans own =
        oracle_kmeans(points.data(), c.n, c.dsub, c.ksub, c.iterations, parameters.seed);
    std::printf("%d x %d -> %d: oracle %.6g, FAISS %.6g (%+.4f %%)\n", c.n, c.dsub, c.ksub,
                own.inertia, inertia, 100 * (own.inertia / inertia - 1));
    EXPECT_LE(std::abs(own.inertia - inertia), 0.005 * inertia + 1e-3) << c.n;
  }
}

}  // namespace
}  // namespace vi::cuda
