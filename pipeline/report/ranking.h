// Methods ranked over tasks, with bootstrap intervals and, from five tasks on, Nemenyi's critical difference
// (Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/common/json.h"

namespace vi::report {

struct Ranking {
  struct Row {
    std::string method;
    double rank = 0, low = 0, high = 0;  // mean over tasks, 1 is best; the middle 95 % of the resamples
  };
  std::vector<Row> rows;                 // best first; empty: nothing to rank
  int tasks = 0, left_out = 0;           // tasks ranked; tasks that not every method answered alike
  double friedman = 0;                   // chi-square of k - 1 degrees of freedom
  std::optional<double> critical;        // mean ranks that differ by less are not told apart at 5 %
};

// `results`: lines of results.jsonl; `samples`: "method\ttask" -> score of each window (log-loss, lower is better) or
// answer (higher is better). Windows and answers are drawn with replacement, the same ones for every method.
Ranking rank_methods(const std::vector<Json>& results, const std::map<std::string, std::vector<double>>& samples);

// A dot and an interval a method, the critical difference as a bar. SVG markup.
std::string ranking_svg(const Ranking& ranking);

}  // namespace vi::report
