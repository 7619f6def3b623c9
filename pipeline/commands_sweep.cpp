// sweep: the grid under `sweep:`; points as processes here or as a Slurm job array, one table and
// one report of them all.
#include <algorithm>
#include <cstdio>
#include <set>
#include <thread>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/interrupt.h"
#include "pipeline/commands.h"
#include "pipeline/paths.h"
#include "pipeline/report/page.h"
#include "pipeline/report/paper.h"
#include "pipeline/results.h"
#include "pipeline/sweep/launch.h"

namespace vi::pipeline {
namespace fs = std::filesystem;
namespace {

// The method and the axes that tell its rows apart: all but `methods`, where the sweep has more than
// one value of them.
std::string label(const SweepPoint& point, const std::string& method,
                  const std::set<std::string>& varying) {
  std::string more;
  for (const auto& [name, value] : point.axes)
    if (varying.contains(name) && name != "methods" && (method != "fp16" || !is_codec_axis(name)))
      more += fmt::format("{}{}={}", more.empty() ? "" : ", ", name, value);
  return more.empty() ? method : fmt::format("{} [{}]", method, more);
}

// All points that are done, as one experiment's content.
report::Content join(const SweepRun& run, std::vector<ResultRow>& rows, Json& tables) {
  std::map<std::string, std::set<std::string>> values;
  for (const SweepPoint& point : run.grid.points)
    for (const auto& [name, value] : point.axes) values[name].insert(value);
  std::set<std::string> varying;
  for (const auto& [name, all] : values)
    if (all.size() > 1) varying.insert(name);
  report::Content content;
  content.experiment = run.grid.experiment;
  for (const SweepPoint& point : run.grid.points) {
    if (!run.done(point)) continue;
    const Json made = parse_json(read_file(run.file(point)), run.file(point).string());
    content.model = made.at("model");
    content.description = made.at("description");
    content.note = made.at("note");
    tables = made.at("tables");
    Json axes = Json::object();
    for (const auto& [name, value] : point.axes) axes[name] = value;
    for (const Json& line : made.at("rows")) {
      Json row = line;
      row["experiment"] = run.grid.experiment;
      row["point"] = axes;
      rows.push_back({row, {}});
      row["method"] = label(point, line.at("method"), varying);
      content.git = line.at("git");
      content.device = line.at("device");
      content.fidelity[row.at("method")] = line.at("fidelity");
      content.results.push_back(std::move(row));
    }
    for (const Json& detail : made.at("details")) {
      const std::string key =
          label(point, detail.at("method"), varying) + "\t" + detail.at("task").get<std::string>();
      content.metrics[key] = detail.at("metrics");
      content.samples[key] = detail.at("samples").get<std::vector<double>>();
    }
  }
  return content;
}

int run_point(const RunArguments& arguments, const SweepRun& run, const std::string& id) {
  for (const SweepPoint& point : run.grid.points) {
    if (point.id != id) continue;
    RunArguments one = arguments;
    one.sets = point.sets;
    one.point_file = run.file(point).string();
    one.methods.clear();  // --method is in the point's own list
    return run_command(one);
  }
  fail<ConfigError>(
      "--point {}: this sweep has no such point (its YAML or its inputs have changed since it was "
      "started)",
      id);
}

}  // namespace

int sweep_command(const RunArguments& arguments, const SweepArguments& sweep) {
  const std::int64_t budget = parse_memory(sweep.memory);
  SweepRun run{arguments, load_grid(arguments), {}};
  const fs::path folder = results_folder(arguments) / "runs" / run.grid.experiment;
  run.folder = fs::absolute(folder / "points");
  fs::create_directories(run.folder);
  if (!sweep.point.empty()) return run_point(arguments, run, sweep.point);

  TerminalProgress progress;
  const std::size_t before = run.missing().size();
  progress.note(
      fmt::format("{}: {} points, {} to run", run.grid.experiment, run.grid.points.size(), before));
  if (before > 0) {
    const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    if (sweep.launcher == "slurm")
      run_slurm(run, sweep.jobs, sweep.memory, sweep.slurm, progress);
    else
      run_local(run, sweep.jobs > 0 ? sweep.jobs : budget > 0 ? cores : 1, budget, progress);
  }
  std::vector<ResultRow> rows;
  Json tables = Json::array();
  report::Content content = join(run, rows, tables);
  if (!rows.empty()) {
    publish_results(results_folder(arguments) / "results.jsonl", run.grid.experiment, rows);
    std::string lines;
    for (const ResultRow& row : rows) lines += row.line.dump() + "\n";
    write_file_atomic(folder / "results.jsonl", lines);
    std::vector<Json> plain;
    for (const ResultRow& row : rows) plain.push_back(row.line);
    const auto paper = report::read_paper(project_root() / "results" / "reference" / "paper");
    if (!tables.empty())
      content.comparisons =
          report::comparison_texts(paper, plain, content.model, tables.get<std::vector<int>>());
    std::string text = report::result_table(content).text();
    for (const std::string& comparison : content.comparisons) text += "\n" + comparison;
    write_file_atomic(folder / "table.txt", text);
    write_file_atomic(folder / "report.html", report::html_page(content));
    std::printf("%s\n%s\n", text.c_str(), (folder / "report.html").c_str());
  }
  const auto failed = run.missing();
  for (const SweepPoint* point : failed)
    std::printf("failed  %s: %s\n", point->text().c_str(), run.failure(*point).c_str());
  if (!failed.empty())
    fail("sweep: {} of {} points failed; the same command runs them again, and only them",
         failed.size(), run.grid.points.size());
  if (before == 0) progress.note("all points were there");
  return 0;
}

}  // namespace vi::pipeline
