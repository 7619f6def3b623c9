// Codebooks of one side of a codec from transformed samples (VecInfer section 4.1). What a codebook
// sees: scope shared = sub-vectors of all sub-spaces, subspace = of one; per head | layer | model =
// of that head, of all KV heads of the layer, of all layers. Sampling is seeded, uniform, without
// replacement, independent of threads and of the order of calls.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/codec/codec.h"
#include "core/common/progress.h"
#include "core/quant/kmeans.h"

namespace vi::codec {

enum class Side { key, value };
constexpr auto enum_names(Side) {
  using P = std::pair<std::string_view, Side>;
  return std::array{P{"key", Side::key}, P{"value", Side::value}};
}

// Who trains: faiss::Clustering (on a GPU it searches there; the bytes are the same), or on a GPU our own
// trainer of all problems at once (other bytes, the same inertia within 0.5 %).
enum class Trainer { faiss, batched };
constexpr auto enum_names(Trainer) {
  using P = std::pair<std::string_view, Trainer>;
  return std::array{P{"faiss", Trainer::faiss}, P{"batched", Trainer::batched}};
}

// Books of few centroids (the levels of KVQuant, d2b4) see this many points, where 256 a centroid would be a thousand: their
// sources train on all they have, and weights of heavy tails need them.
inline constexpr std::int64_t kSmallBookPoints = 65536;

struct TrainSettings {
  int iterations = 30;
  std::int64_t max_points = 65536;  // per codebook; never more than 256 a centroid (FAISS's rule) or kSmallBookPoints
  std::uint64_t seed = 1;
  Trainer trainer = Trainer::faiss;
  template <class V>
  void visit(V& v) {
    v("iterations", iterations, "k-means iterations");
    v("max_points", max_points,
      "sub-vectors a codebook is trained on, at most; also at most 256 a centroid, or 65536 where that is more");
    v("seed", seed, "sampling and initial centroids");
    v("trainer", trainer, "faiss | batched (GPU only)");
  }
  void check(const config::Mark& mark) const;
};

struct TrainShape {
  int n_layers = 0, n_kv_heads = 0, head_dim = 0;
  std::int64_t n_tokens = 0;  // of every (layer, head)
};

// Fills `rows` with the transformed samples [n_tokens, head_dim] of (layer, head); one caller.
using RowSource = std::function<void(int layer, int head, std::vector<float>& rows)>;

// Fills `weights` with what each token of (layer, head) counts for [n_tokens], or each of its sub-vectors
// [n_tokens, head_dim / dsub]; none: all alike.
using WeightSource = std::function<void(int layer, int head, std::vector<float>& weights)>;

// Adds a tenth of the mean to each, so that tokens no query of the calibration looked at still count; all
// zero (a text shorter than the window): all 1.
void temper(std::vector<float>& weights);

// The codebooks of one layer, or of the model when all layers share.
struct BookPart {
  int n_groups = 0, n_books = 0, ksub = 0, dsub = 0;
  std::vector<float> centroids;       // [n_groups, n_books, n_stages, ksub, dsub], exact in f16
  std::vector<std::int64_t> usage;    // [n_groups, n_books, n_stages, ksub] training points of each
  std::vector<double> train_mse;      // [n_groups, n_books, n_stages] per element, transformed space
  std::vector<std::int64_t> n_train;  // [n_groups, n_books, n_stages]
  int dead = 0;                       // centroids without a point, of all books
  int n_stages() const {
    return static_cast<int>(centroids.size() / (static_cast<std::size_t>(n_groups) * n_books * ksub * dsub));
  }
};

// How many parts a side has: n_layers, or 1 for `per: model`; 0 for a side without codebooks.
int train_parts(const CodeSpec& code, const TrainShape& shape);
// Number of k-means problems of one part, for progress.
int part_problems(const CodeSpec& code, const TrainShape& shape);
// One part; the same bytes whichever were made before. Progress advances by one a codebook.
BookPart train_part(const CodeSpec& code, Side side, const TrainShape& shape,
                    const TrainSettings& settings, const RowSource& rows, int part,
                    Progress& progress, const WeightSource& weights = {},
                    const quant::TrainMany& train = quant::train_many);
// All parts in order -> what Codec takes.
CodebookSide join_parts(const std::vector<BookPart>& parts);

// Reconstruction error, to be added over heads and layers; in the space the model uses.
struct ErrorSums {
  double error = 0, energy = 0;  // sum of (x - x^)^2, of x^2
  double relative() const { return energy > 0 ? error / energy : 0; }
  ErrorSums& operator+=(const ErrorSums& other);
};
// keys [n, head_dim]: of the same tokens, for coders of values that want them.
ErrorSums reconstruction_error(const HeadCoder& coder, const float* rows, std::size_t n, const float* keys = nullptr);

}  // namespace vi::codec
