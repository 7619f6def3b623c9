// Codebook training on the GPU, as core/quant/kmeans.h knows it: cuda/kmeans behind its types.
#pragma once

#include <span>
#include <vector>

#include "core/common/progress.h"
#include "core/quant/kmeans.h"

namespace vi::cuda {

// Nearest centroids for faiss::Clustering by cuda/kmeans's Assigner: bit for bit quant::assign's.
quant::SearchFactory gpu_search();

// All problems of one shape at once (kmeans_train). Samples, seeds and rounding are quant::kmeans's. Error
// where problems differ in shape or are weighted; problems with few different points are not trained.
std::vector<quant::KmeansResult> train_batched(std::span<const quant::KmeansProblem> problems,
                                               const quant::KmeansSettings& settings, Progress& progress);

}  // namespace vi::cuda
