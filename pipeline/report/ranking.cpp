#include "pipeline/report/ranking.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/common/error.h"
#include "core/common/rng.h"
#include "pipeline/report/table.h"

namespace vi::report {
namespace {

constexpr int kResamples = 1000;
constexpr std::size_t kTasksForNemenyi = 5;

// Studentised range at 5 % over sqrt(2), for 2 to 20 methods.
constexpr double kNemenyi[] = {1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164, 3.219,
                               3.268, 3.313, 3.354, 3.391, 3.426, 3.458, 3.489, 3.517, 3.544};

// One task: [method][sample], larger is better.
using Scores = std::vector<std::vector<double>>;

// Ranks of `score` from 1 (largest); equal ones share the mean of theirs. Added to `sum`.
void add_ranks(const std::vector<double>& score, std::vector<double>& sum) {
  std::vector<std::size_t> order(score.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return score[a] > score[b]; });
  for (std::size_t i = 0; i < order.size();) {
    std::size_t j = i;
    while (j < order.size() && score[order[j]] == score[order[i]]) ++j;
    for (std::size_t k = i; k < j; ++k) sum[order[k]] += (static_cast<double>(i + j) + 1) / 2;
    i = j;
  }
}

}  // namespace

Ranking rank_methods(const std::vector<Json>& results, const std::map<std::string, std::vector<double>>& samples) {
  std::vector<std::string> methods, tasks;
  std::map<std::string, bool> loss;
  for (const Json& line : results) {
    const std::string method = line.at("method"), task = line.at("task");
    if (line.at("metric") == "mean") continue;
    if (std::find(methods.begin(), methods.end(), method) == methods.end()) methods.push_back(method);
    if (std::find(tasks.begin(), tasks.end(), task) == tasks.end()) tasks.push_back(task);
    loss[task] = line.at("metric") == "perplexity";
  }
  Ranking ranking;
  if (methods.size() < 2) return ranking;
  std::vector<Scores> all;
  for (const std::string& task : tasks) {
    Scores scores;
    for (const std::string& method : methods) {
      const auto found = samples.find(method + "\t" + task);
      if (found == samples.end() || found->second.empty() || (!scores.empty() && found->second.size() != scores[0].size())) break;
      scores.push_back(found->second);
      if (loss[task])
        for (double& score : scores.back()) score = -score;
    }
    if (scores.size() == methods.size())
      all.push_back(std::move(scores));
    else
      ++ranking.left_out;
  }
  if (all.empty()) return ranking;
  ranking.tasks = static_cast<int>(all.size());
  const std::size_t k = methods.size();
  const auto n_tasks = static_cast<double>(all.size());
  Rng rng(1);
  const auto mean_ranks = [&](bool resample) {
    std::vector<double> sum(k, 0.0);
    for (const Scores& scores : all) {
      const std::size_t n = scores[0].size();
      std::vector<double> mean(k, 0.0);
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t drawn = resample ? static_cast<std::size_t>(rng.below(n)) : i;
        for (std::size_t m = 0; m < k; ++m) mean[m] += scores[m][drawn];
      }
      add_ranks(mean, sum);
    }
    for (double& rank : sum) rank /= n_tasks;
    return sum;
  };
  const std::vector<double> ranks = mean_ranks(false);
  std::vector<std::vector<double>> drawn(k);
  for (int b = 0; b < kResamples; ++b) {
    const std::vector<double> one = mean_ranks(true);
    for (std::size_t m = 0; m < k; ++m) drawn[m].push_back(one[m]);
  }
  double squares = 0;
  for (std::size_t m = 0; m < k; ++m) {
    std::sort(drawn[m].begin(), drawn[m].end());
    ranking.rows.push_back({methods[m], ranks[m], drawn[m][kResamples / 40], drawn[m][kResamples - 1 - kResamples / 40]});
    squares += ranks[m] * ranks[m];
  }
  std::stable_sort(ranking.rows.begin(), ranking.rows.end(), [](const auto& a, const auto& b) { return a.rank < b.rank; });
  const auto kk = static_cast<double>(k);
  ranking.friedman = 12 * n_tasks / (kk * (kk + 1)) * (squares - kk * (kk + 1) * (kk + 1) / 4);
  if (all.size() >= kTasksForNemenyi && k - 2 < std::size(kNemenyi)) ranking.critical = kNemenyi[k - 2] * std::sqrt(kk * (kk + 1) / (6 * n_tasks));
  return ranking;
}

std::string ranking_svg(const Ranking& ranking) {
  const int left = 260, width = 760, row = 22, top = 40;
  const auto n = static_cast<int>(ranking.rows.size());
  const double most = std::max(2, n);
  const auto x = [&](double rank) { return left + (width - left - 30) * (rank - 1) / (most - 1); };
  std::string svg = fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" font-family=\"sans-serif\" font-size=\"13\">", width,
                                top + row * n + 34);
  for (int rank = 1; rank <= n; rank += std::max(1, n / 15))
    svg += fmt::format("<line x1=\"{0:.1f}\" y1=\"{1}\" x2=\"{0:.1f}\" y2=\"{2}\" stroke=\"#ddd\"/><text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>", x(rank), top - 8,
                       top + row * n, top + row * n + 16, rank);
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">mean rank (1 is best)</text>", left - 8, top + row * n + 16);
  if (ranking.critical) {
    const double end = std::min(most, 1 + *ranking.critical);
    svg += fmt::format("<line x1=\"{:.1f}\" y1=\"16\" x2=\"{:.1f}\" y2=\"16\" stroke=\"#d55e00\" stroke-width=\"3\"/><text x=\"{}\" y=\"20\" text-anchor=\"end\">critical difference {:.2f}</text>",
                       x(1), x(end), left - 8, *ranking.critical);
  }
  for (int i = 0; i < n; ++i) {
    const Ranking::Row& one = ranking.rows[static_cast<std::size_t>(i)];
    const int y = top + row * i + 6;
    const bool level = ranking.critical && one.rank - ranking.rows[0].rank < *ranking.critical;
    svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><line x1=\"{:.1f}\" y1=\"{}\" x2=\"{:.1f}\" y2=\"{}\" stroke=\"#0072b2\" stroke-width=\"2\"/>", left - 8, y + 4,
                       html_escape(one.method), x(one.low), y, x(one.high), y);
    svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{}\" r=\"5\" fill=\"{}\"><title>{} {:.2f} ({:.2f} to {:.2f})</title></circle>", x(one.rank), y, level ? "#d55e00" : "#0072b2",
                       html_escape(one.method), one.rank, one.low, one.high);
  }
  return svg + "</svg>";
}

}  // namespace vi::report
