#include "core/codec/book_finish.h"

#include <algorithm>
#include <cmath>

#include "core/common/half.h"
#include "core/common/rng.h"
#include "core/quant/assign.h"
#include "core/quant/lloyd_max.h"

namespace vi::codec {
namespace {

using quant::KmeansProblem;
using quant::KmeansResult;

float to_half(double value) {
  return half_to_float(float_to_half(static_cast<float>(std::clamp(value, -65504.0, 65504.0))));
}

// Nearest e5m2 (the upper byte of a half), ties to even, saturating.
float to_e5m2(float value) {
  const std::uint16_t half = float_to_half(std::clamp(value, -57344.0f, 57344.0f));
  const unsigned rounded = (half + 0x7fu + ((half >> 8) & 1u)) & 0xff00u;
  return half_to_float(static_cast<std::uint16_t>(rounded));
}

std::vector<std::uint16_t> codes_of(const KmeansProblem& problem, const std::vector<float>& centroids) {
  const quant::CentroidTable table(centroids.data(), problem.ksub, problem.dsub);
  const std::size_t n = problem.points.size() / problem.dsub;
  std::vector<std::uint16_t> codes(n);
  quant::assign(table, problem.points.data(), n, problem.dsub, codes.data(), 1, nullptr);
  return codes;
}

void recount(const KmeansProblem& problem, KmeansResult& book) {
  const auto codes = codes_of(problem, book.centroids);
  const std::size_t d = problem.dsub;
  double error = 0, total = 0;
  std::fill(book.usage.begin(), book.usage.end(), 0);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    ++book.usage[codes[i]];
    const double weight = problem.weights.empty() ? 1.0 : problem.weights[i];
    total += weight;
    for (std::size_t j = 0; j < d; ++j) {
      const double e = problem.points[i * d + j] - book.centroids[codes[i] * d + j];
      error += weight * e * e;
    }
  }
  book.train_mse = total > 0 ? error / (total * static_cast<double>(d)) : 0;
  book.n_train = static_cast<std::int64_t>(codes.size());
  book.dead = static_cast<int>(std::count(book.usage.begin(), book.usage.end(), 0));
}

// level' = level s1 / s2 + (m1 - m2 s1 / s2): mean and deviation of the points, not of their levels
// (KVQuant's Q-Norm). Levels of no spread stay.
void stretch(const KmeansProblem& problem, KmeansResult& book) {
  const auto codes = codes_of(problem, book.centroids);
  double sum[2] = {}, square[2] = {};
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const double x[2] = {problem.points[i], book.centroids[codes[i]]};
    for (int k = 0; k < 2; ++k) sum[k] += x[k], square[k] += x[k] * x[k];
  }
  const double n = static_cast<double>(codes.size());
  double mean[2], deviation[2];
  for (int k = 0; k < 2; ++k) {
    mean[k] = sum[k] / n;
    deviation[k] = std::sqrt(std::max(0.0, square[k] / n - mean[k] * mean[k]));
  }
  if (deviation[1] <= 0) return;
  const double ratio = deviation[0] / deviation[1];
  for (float& level : book.centroids) level = to_half(level * ratio + mean[0] - mean[1] * ratio);
}

}  // namespace

BookPart normal_part(const CodeSpec& code, const TrainSettings& settings, Progress& progress) {
  BookPart part{1, 1, code.ksub(), code.dsub, {}, {}, {}, {}, 0};
  KmeansResult book;
  std::vector<float> points;
  if (code.dsub == 1 && code.bits <= 8) {
    const quant::LloydMax levels = quant::lloyd_max_normal(code.bits);
    for (const double level : levels.levels) book.centroids.push_back(to_half(level));
    book.usage.assign(code.ksub(), 0);
    book.train_mse = levels.mse;
    if (code.centroids == Centroids::e5m2)
      for (float& level : book.centroids) level = to_e5m2(level);
    progress.advance(1);
  } else {
    const std::int64_t n = std::min<std::int64_t>(settings.max_points, std::int64_t{256} * code.ksub());
    Rng rng(settings.seed);
    points.resize(static_cast<std::size_t>(n) * code.dsub);
    for (float& x : points) x = static_cast<float>(rng.normal());
    std::vector<KmeansProblem> problems{{points, {}, code.dsub, code.ksub(), settings.seed}};
    std::vector<KmeansResult> books = quant::train_many(problems, {settings.iterations, 256, 0, {}}, progress);
    finish_books(code, problems, books);
    book = std::move(books[0]);
  }
  part.centroids = std::move(book.centroids);
  part.usage = std::move(book.usage);
  part.train_mse = {book.train_mse};
  part.n_train = {book.n_train};
  part.dead = book.dead;
  return part;
}

void finish_books(const CodeSpec& code, const std::vector<KmeansProblem>& problems,
                  std::vector<KmeansResult>& books) {
  if (!code.q_norm && code.centroids == Centroids::f16) return;
  for (std::size_t i = 0; i < books.size(); ++i) {
    if (code.q_norm) stretch(problems[i], books[i]);
    if (code.centroids == Centroids::e5m2)
      for (float& c : books[i].centroids) c = to_e5m2(c);
    recount(problems[i], books[i]);
  }
}

std::vector<KmeansResult> train_second(const CodeSpec& code,
                                       const std::vector<KmeansProblem>& problems,
                                       const std::vector<KmeansResult>& first,
                                       const quant::KmeansSettings& settings,
                                       const quant::TrainMany& train) {
  std::vector<std::vector<float>> rest;
  std::vector<KmeansProblem> second;
  for (std::size_t i = 0; i < problems.size(); ++i) {
    const auto codes = codes_of(problems[i], first[i].centroids);
    const std::size_t d = code.dsub;
    rest.emplace_back(problems[i].points.begin(), problems[i].points.end());
    for (std::size_t p = 0; p < codes.size(); ++p)
      for (std::size_t j = 0; j < d; ++j) rest.back()[p * d + j] -= first[i].centroids[codes[p] * d + j];
  }
  for (std::size_t i = 0; i < problems.size(); ++i) {
    std::uint64_t state = problems[i].seed;
    second.push_back(problems[i]);
    second.back().points = rest[i];
    second.back().seed = splitmix64(state);
  }
  SilentProgress silent;
  std::vector<KmeansResult> books = train(second, settings, silent);
  finish_books(code, second, books);
  return books;
}

}  // namespace vi::codec
