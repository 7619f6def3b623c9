// compare: results.jsonl files beside the paper's tables.
#include <algorithm>
#include <cstdio>

#include "core/common/error.h"
#include "pipeline/commands.h"
#include "pipeline/paths.h"
#include "pipeline/report/honesty.h"
#include "pipeline/report/paper.h"

namespace vi::pipeline {
namespace fs = std::filesystem;

int honesty_command() {
  std::printf("%s", report::honesty_markdown(report::read_honesty(project_root())).c_str());
  return 0;
}

int compare_command(const std::vector<std::string>& files, const std::string& model) {
  std::vector<Json> results;
  const fs::path own = project_root() / "results" / "results.jsonl";
  std::vector<std::string> all = files;
  if (all.empty() && fs::exists(own)) all.push_back(own.string());
  for (const std::string& file : all) for_each_json_line(file, [&](std::int64_t, const Json& line) { results.push_back(line); });
  const auto paper = report::read_paper(project_root() / "results" / "reference" / "paper");
  std::vector<std::string> models;
  if (!model.empty()) {
    std::vector<std::string> known;
    for (const report::PaperCell& cell : paper)
      if (std::find(known.begin(), known.end(), cell.model) == known.end()) known.push_back(cell.model);
    if (std::find(known.begin(), known.end(), model) == known.end()) {
      std::string list;
      for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
      fail<ConfigError>("compare: the paper has no model '{}'; it has {}", model, list);
    }
    models = {model};
  }
  for (const report::Comparison& comparison : report::compare_with_paper(paper, results, models))
    std::printf("%s\n", comparison.text().c_str());
  std::printf("%s\n", report::comparison_legend().c_str());
  return 0;
}

}  // namespace vi::pipeline
