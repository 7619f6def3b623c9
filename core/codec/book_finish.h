// What training does beside k-means on samples: universal codebooks, second stages, and what is done to
// centroids before they are stored.
#pragma once

#include <vector>

#include "core/codec/train.h"
#include "core/quant/kmeans.h"

namespace vi::codec {

// The one codebook of `points: normal`: Lloyd-Max levels of N(0, 1) for dsub 1, else k-means on seeded
// N(0, 1) points (NSNQuant). n_train is 0 for the levels, which come from no sample.
BookPart normal_part(const CodeSpec& code, const TrainSettings& settings, Progress& progress);

// q_norm and the rounding of `centroids`, in place; usage, train_mse and dead are counted anew.
void finish_books(const CodeSpec& code, const std::vector<quant::KmeansProblem>& problems,
                  std::vector<quant::KmeansResult>& books);

// The codebooks of the second stage: trained on what the first leaves of the same points.
std::vector<quant::KmeansResult> train_second(const CodeSpec& code,
                                              const std::vector<quant::KmeansProblem>& problems,
                                              const std::vector<quant::KmeansResult>& first,
                                              const quant::KmeansSettings& settings,
                                              const quant::TrainMany& train);

}  // namespace vi::codec
