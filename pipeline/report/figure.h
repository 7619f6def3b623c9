// A figure of the paper whose numbers are timings, as a table: the paper's rows, the committed measurements, and those
// made now. experiments/paper/fig5.yaml to fig9.yaml say where they are.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/common/json.h"
#include "core/config/options.h"
#include "pipeline/report/table.h"

namespace vi::report {

struct FigureSpec {
  int figure = 0;
  std::string description, bench, paper, reference, name = "method";
  std::vector<std::string> rows;
  config::Node where, match;
  template <class V>
  void visit(V& v) {
    v("figure", figure, "its number");
    v("description", description, "one line");
    v("bench", bench, "what `vecinfer bench --device cuda` measures for it; empty: nothing");
    v("paper", paper, "the paper's rows, a JSONL file under the project");
    v("reference", reference, "committed measurements, likewise");
    v("name", name, "the field that names a column");
    v("rows", rows, "the fields that name a row");
    v("where", where, "values that the paper's rows must have");
    v("match", match, "values that measured rows must have");
  }
};

// Rows are the paper's. ms, or times of SDPA where the paper prints only that; "-" where there is none.
Table figure_table(const FigureSpec& spec, const std::vector<Json>& paper, const std::vector<Json>& reference, const std::vector<Json>& now);

}  // namespace vi::report
