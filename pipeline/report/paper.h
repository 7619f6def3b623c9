// Our results beside a paper's tables (results/reference/paper/*.jsonl): each cell is reproduced,
// within tolerance, differs or was not run.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/common/json.h"
#include "pipeline/report/table.h"

namespace vi::report {

struct PaperCell {
  int table = 0;
  std::string model, method, label, task;  // the names of experiments/ and eval/tasks; label: the paper's words
  double score = 0;                        // percent, as printed (one decimal)
};

enum class Agreement { reproduced, within, differs, not_run };

// reproduced: equal as printed, to 0.05 points. within: to 1 point or two standard errors of ours,
// whichever is more. Both in percent; stderr absent where n < 2.
Agreement agreement(double ours, std::optional<double> stderr_of_ours, double paper);

// Every *.jsonl of the folder; ContractError with file:line:field. Empty if there is no folder.
std::vector<PaperCell> read_paper(const std::filesystem::path& folder);

struct Comparison {
  int table = 0;
  std::string model, beside;
  Table cells;  // one row a method, one column a task
  int count[4] = {0, 0, 0, 0};
  std::string text() const;  // title, counts, the table
};

// `results`: lines of results.jsonl. One comparison a (table, model); only models named in
// `models`, unless it is empty. With `beside`, a model that is not the paper's, each cell shows that
// model's score in brackets and stays "not run".
std::vector<Comparison> compare_with_paper(const std::vector<PaperCell>& paper, const std::vector<Json>& results,
                                           const std::vector<std::string>& models = {}, const std::string& beside = {});

// The comparisons for one experiment, as texts: tables of which it ran a method and task. With `asked` only these tables,
// and for a model that is not the paper's beside the paper's first; without, one line that says so.
std::vector<std::string> comparison_texts(const std::vector<PaperCell>& paper, const std::vector<Json>& results, const std::string& model,
                                          const std::vector<int>& asked);

// What the signs and the tolerance are, one line.
std::string comparison_legend();

}  // namespace vi::report
