#include "core/codec/train.h"

#include <algorithm>
#include <cmath>

#include "core/codec/book_finish.h"
#include "core/common/error.h"
#include "core/common/rng.h"
#include "core/quant/kmeans.h"

namespace vi::codec {
namespace {

constexpr std::int64_t kPointsPerCentroid = 256;             // FAISS's rule, for books of 256 centroids and more
constexpr std::size_t kBatchFloats = std::size_t{64} << 20;  // points held at a time: 256 MiB

struct Counts {
  int groups, books;  // of one part
  int sources;        // (layer, head) pairs a group sees
};

Counts counts(const CodeSpec& code, const TrainShape& shape) {
  const int heads = shape.n_kv_heads;
  return {code.per == BookPer::head ? heads : 1,
          code.scope == BookScope::shared ? 1 : shape.head_dim / code.dsub,
          code.per == BookPer::head    ? 1
          : code.per == BookPer::layer ? heads
                                       : heads * shape.n_layers};
}

std::uint64_t mix(std::uint64_t seed, std::uint64_t value) {
  std::uint64_t state = splitmix64(seed) + value;
  return splitmix64(state);
}

// The points of one codebook, gathered source by source: `wanted` of `left` candidates to come.
struct Gather {
  Rng rng;
  std::int64_t left, wanted;
  std::vector<float> points, weights;

  // Candidates: sub-vectors [n_tokens * M] of rows when book < 0, else sub-space `book` of each.
  // token_weights [n_tokens], [n_tokens, M] or empty.
  void add(const std::vector<float>& rows, const std::vector<float>& token_weights, const TrainShape& shape, int dsub,
           int book) {
    const std::int64_t stride = book < 0 ? dsub : shape.head_dim;
    const float* x = rows.data() + (book < 0 ? 0 : book * dsub);
    const std::int64_t n = static_cast<std::int64_t>(rows.size()) / stride;
    for (std::int64_t i = 0; i < n && wanted > 0; ++i, --left) {
      if (wanted < left && static_cast<std::int64_t>(rng.below(left)) >= wanted) continue;
      --wanted;
      points.insert(points.end(), x + i * stride, x + i * stride + dsub);
      if (token_weights.empty()) continue;
      const std::int64_t m = shape.head_dim / dsub, sub_vector = book < 0 ? i : i * m + book;
      const bool by_token = std::ssize(token_weights) == shape.n_tokens;
      weights.push_back(token_weights[static_cast<std::size_t>(by_token ? sub_vector / m : sub_vector)]);
    }
  }
  // Values outside [-1, 1] are kept apart and need no level; nothing left: a level at 0.
  void drop_outliers() {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < points.size(); ++i) {
      if (std::fabs(points[i]) > 1.0f) continue;
      points[kept] = points[i];
      if (!weights.empty()) weights[kept] = weights[i];
      ++kept;
    }
    points.resize(kept);
    if (!weights.empty()) weights.resize(kept);
    if (kept > 0) return;
    points.assign(1, 0.0f);
    if (!weights.empty()) weights.assign(1, 1.0f);
  }
};

}  // namespace

void TrainSettings::check(const config::Mark& mark) const {
  if (iterations < 1 || iterations > 1000)
    config::config_fail(mark, "iterations must be 1..1000, not {}", iterations);
  if (max_points < 1)
    config::config_fail(mark, "max_points must be at least 1, not {}", max_points);
}

void temper(std::vector<float>& weights) {
  double sum = 0;
  for (const float weight : weights) sum += weight;
  if (!(sum > 0)) {
    std::fill(weights.begin(), weights.end(), 1.0f);
    return;
  }
  const double mean = sum / static_cast<double>(weights.size());
  for (float& weight : weights) weight = static_cast<float>(weight / mean + 0.1);
}

int train_parts(const CodeSpec& code, const TrainShape& shape) {
  if (code.kind != CodeKind::vector) return 0;
  return code.per == BookPer::model ? 1 : shape.n_layers;
}

int part_problems(const CodeSpec& code, const TrainShape& shape) {
  if (code.kind != CodeKind::vector) return 0;
  const Counts c = counts(code, shape);
  return c.groups * c.books;
}

BookPart train_part(const CodeSpec& code, Side side, const TrainShape& shape,
                    const TrainSettings& settings, const RowSource& source, int part,
                    Progress& progress, const WeightSource& weight_source,
                    const quant::TrainMany& train) {
  VI_CHECK(code.kind == CodeKind::vector && part >= 0 && part < train_parts(code, shape), "part {}",
           part);
  VI_CHECK(shape.head_dim % code.dsub == 0, "dsub {} does not divide head_dim {}", code.dsub,
           shape.head_dim);
  if (code.points == Points::normal) return normal_part(code, settings, progress);
  VI_CHECK(shape.n_tokens > 0, "no tokens to train on");
  const Counts c = counts(code, shape);
  const std::int64_t per_source =
      shape.n_tokens * (code.scope == BookScope::shared ? shape.head_dim / code.dsub : 1);
  const std::int64_t candidates = per_source * c.sources;
  const std::int64_t per_centroid = std::max(kPointsPerCentroid, kSmallBookPoints / code.ksub());
  const std::int64_t n_points = std::min({candidates, settings.max_points, per_centroid * code.ksub()});
  const quant::KmeansSettings kmeans{settings.iterations, static_cast<int>(per_centroid), 0};

  BookPart result{c.groups, c.books, code.ksub(), code.dsub, {}, {}, {}, {}, 0};
  const std::size_t group_floats = static_cast<std::size_t>(n_points) * code.dsub * c.books;
  const int batch =
      static_cast<int>(std::clamp<std::size_t>(kBatchFloats / group_floats, 1, c.groups));
  std::vector<float> rows, token_weights;
  for (int first = 0; first < c.groups; first += batch) {
    const int end = std::min(c.groups, first + batch);
    std::vector<Gather> gathers;
    std::vector<std::uint64_t> seeds;
    for (int group = first; group < end; ++group)
      for (int book = 0; book < c.books; ++book) {
        std::uint64_t seed = mix(settings.seed, static_cast<std::uint64_t>(side));
        for (const int value : {part, group, book}) seed = mix(seed, value);
        seeds.push_back(mix(seed, 1));
        gathers.push_back({Rng(seed), candidates, n_points, {}, {}});
        gathers.back().points.reserve(n_points * code.dsub);
      }
    for (int group = first; group < end; ++group)
      for (int s = 0; s < c.sources; ++s) {
        const int layer = code.per == BookPer::model ? s / shape.n_kv_heads : part;
        const int head = code.per == BookPer::head ? group : s % shape.n_kv_heads;
        source(layer, head, rows);
        VI_CHECK(rows.size() == static_cast<std::size_t>(shape.n_tokens) * shape.head_dim,
                 "layer {} head {}: {} values for {} tokens", layer, head, rows.size(),
                 shape.n_tokens);
        if (weight_source) {
          weight_source(layer, head, token_weights);
          VI_CHECK(std::ssize(token_weights) == shape.n_tokens || std::ssize(token_weights) == shape.n_tokens * (shape.head_dim / code.dsub),
                   "{} weights for {} tokens", token_weights.size(), shape.n_tokens);
        }
        for (int book = 0; book < c.books; ++book)
          gathers[(group - first) * c.books + book].add(
              rows, token_weights, shape, code.dsub, code.scope == BookScope::shared ? -1 : book);
      }
    if (code.inliers)
      for (Gather& gather : gathers) gather.drop_outliers();
    std::vector<quant::KmeansProblem> problems;
    for (std::size_t i = 0; i < gathers.size(); ++i)
      problems.push_back({gathers[i].points, gathers[i].weights, code.dsub, code.ksub(), seeds[i]});
    std::vector<quant::KmeansResult> books = train(problems, kmeans, progress);
    finish_books(code, problems, books);
    std::vector<quant::KmeansResult> second;
    if (code.stages > 1) second = train_second(code, problems, books, kmeans, train);
    const auto add = [&](const quant::KmeansResult& book) {
      result.centroids.insert(result.centroids.end(), book.centroids.begin(), book.centroids.end());
      result.usage.insert(result.usage.end(), book.usage.begin(), book.usage.end());
      result.train_mse.push_back(book.train_mse);
      result.n_train.push_back(book.n_train);
      result.dead += book.dead;
    };
    for (std::size_t i = 0; i < books.size(); ++i) {
      add(books[i]);
      if (code.stages > 1) add(second[i]);
    }
  }
  return result;
}

CodebookSide join_parts(const std::vector<BookPart>& parts) {
  CodebookSide side;
  if (parts.empty()) return side;
  const BookPart& like = parts.front();
  side.n_layers = static_cast<int>(parts.size());
  side.n_groups = like.n_groups;
  side.n_books = like.n_books;
  side.ksub = like.ksub;
  side.dsub = like.dsub;
  side.n_stages = like.n_stages();
  for (const BookPart& part : parts) {
    VI_CHECK(part.centroids.size() == like.centroids.size() && part.n_groups == like.n_groups &&
                 part.n_books == like.n_books && part.ksub == like.ksub && part.dsub == like.dsub,
             "parts of different shapes");
    side.centroids.insert(side.centroids.end(), part.centroids.begin(), part.centroids.end());
  }
  return side;
}

ErrorSums& ErrorSums::operator+=(const ErrorSums& other) {
  error += other.error;
  energy += other.energy;
  return *this;
}

ErrorSums reconstruction_error(const HeadCoder& coder, const float* rows, std::size_t n, const float* keys) {
  const std::size_t d = coder.head_dim();
  std::vector<float> out(n * d);
  coder.reconstruct_at(rows, n, {0, keys}, out.data());
  ErrorSums sums;
  for (std::size_t i = 0; i < n * d; ++i) {
    const double x = rows[i], difference = x - out[i];
    sums.error += difference * difference;
    sums.energy += x * x;
  }
  return sums;
}

}  // namespace vi::codec
