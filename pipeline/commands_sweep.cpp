// sweep: the grid under `sweep:`; points as processes here or as a Slurm job array, one table and
// one report of them all.
#include <algorithm>
#include <cmath>
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

std::set<std::string> varying_axes(const SweepGrid& grid) {
  std::map<std::string, std::set<std::string>> values;
  for (const SweepPoint& point : grid.points)
    for (const auto& [name, value] : point.axes) values[name].insert(value);
  std::set<std::string> varying;
  for (const auto& [name, all] : values)
    if (all.size() > 1) varying.insert(name);
  return varying;
}

bool is_seed(const std::string& axis) { return axis == "seeds" || axis.ends_with("seed"); }

struct Joined {
  std::vector<Json> rows;  // lines of results.jsonl, with `point`
  report::Content content;
  std::vector<int> tables;
  report::Table seeds;     // mean and deviation over seeds, where there are several
};

// All points that are done, as one experiment's content.
Joined join(const SweepRun& run) {
  const std::set<std::string> varying = varying_axes(run.grid);
  std::set<std::string> seedless = varying;
  std::erase_if(seedless, is_seed);
  Joined joined;
  report::Content& content = joined.content;
  content.experiment = run.grid.experiment;
  std::vector<std::string> methods, tasks;
  std::map<std::pair<std::string, std::string>, std::vector<double>> over_seeds;
  for (const SweepPoint& point : run.grid.points) {
    if (!run.done(point)) continue;
    const Json made = parse_json(read_file(run.file(point)), run.file(point).string());
    content.model = made.at("model");
    content.description = made.at("description");
    content.note = made.at("note");
    joined.tables = made.at("tables").get<std::vector<int>>();
    Json axes = Json::object();
    for (const auto& [name, value] : point.axes) axes[name] = value;
    for (const Json& line : made.at("rows")) {
      Json row = line;
      row["experiment"] = run.grid.experiment;
      row["point"] = axes;
      joined.rows.push_back(row);
      const std::string method = label(point, line.at("method"), seedless), task = line.at("task");
      if (std::find(methods.begin(), methods.end(), method) == methods.end()) methods.push_back(method);
      if (std::find(tasks.begin(), tasks.end(), task) == tasks.end()) tasks.push_back(task);
      over_seeds[{method, task}].push_back(line.at("score").get<double>() * (line.at("metric") == "perplexity" ? 1 : 100));
      row["method"] = label(point, line.at("method"), varying);
      content.git = line.at("git");
      content.device = line.at("device");
      content.fidelity[row.at("method")] = line.at("fidelity");
      content.results.push_back(std::move(row));
    }
    for (const Json& detail : made.at("details")) {
      const std::string key = label(point, detail.at("method"), varying) + "\t" + detail.at("task").get<std::string>();
      content.metrics[key] = detail.at("metrics");
      content.samples[key] = detail.at("samples").get<std::vector<double>>();
    }
  }
  if (seedless.size() == varying.size()) return joined;
  joined.seeds.header = {"over seeds, mean ± deviation"};
  joined.seeds.header.insert(joined.seeds.header.end(), tasks.begin(), tasks.end());
  for (const std::string& method : methods) {
    std::vector<std::string> row{method};
    for (const std::string& task : tasks) {
      const auto& scores = over_seeds[{method, task}];
      double mean = 0, square = 0;
      for (const double score : scores) mean += score / static_cast<double>(scores.size());
      for (const double score : scores) square += (score - mean) * (score - mean);
      row.push_back(scores.empty() ? "-" : fmt::format("{:.2f} ± {:.2f} ({})", mean, scores.size() < 2 ? 0.0 : std::sqrt(square / static_cast<double>(scores.size() - 1)), scores.size()));
    }
    joined.seeds.rows.push_back(std::move(row));
  }
  return joined;
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
  Joined joined = join(run);
  if (!joined.rows.empty()) {
    std::vector<ResultRow> rows;
    std::string lines;
    for (const Json& row : joined.rows) {
      rows.push_back({row, {}});
      lines += row.dump() + "\n";
    }
    publish_results(results_folder(arguments) / "results.jsonl", run.grid.experiment, rows);
    write_file_atomic(folder / "results.jsonl", lines);
    report::Content& content = joined.content;
    const auto paper = report::read_paper(project_root() / "results" / "reference" / "paper");
    if (!joined.tables.empty()) content.comparisons = report::comparison_texts(paper, joined.rows, content.model, joined.tables);
    if (!joined.seeds.rows.empty()) content.comparisons.push_back(joined.seeds.text());
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
