// run, stage, status, report, verify: commands that work on an experiment's graph.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "core/common/file.h"
#include "pipeline/commands.h"
#include "pipeline/graph.h"
#include "pipeline/paths.h"
#include "pipeline/session.h"
#include "pipeline/stages/stages.h"
#include "pipeline/tasks.h"

namespace vi::pipeline {
namespace fs = std::filesystem;
namespace {

void check_stage_name(const std::string& name, const char* option) {
  if (name.empty()) return;
  std::vector<std::string> names;
  for (const StageRow& row : kStages) names.emplace_back(row.name);
  if (std::find(names.begin(), names.end(), name) != names.end()) return;
  const std::string near = config::nearest_name(name, names);
  fail<ConfigError>("{} {}: unknown stage{}; stages: dump, calibrate, transform, codebook, evaluate, profile, report",
                    option, name, near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near));
}

// Copies what people read of a report artifact to runs/<experiment>/ and its rows to results.jsonl.
void publish_report(const artifact::Artifact& report, const std::string& experiment, const fs::path& results) {
  std::vector<ResultRow> rows;
  for_each_json_line(report.checked("rows.jsonl"), [&](std::int64_t, const Json& line) { rows.push_back({line, {}}); });
  publish_results(results / "results.jsonl", experiment, rows);
  const fs::path folder = results / "runs" / experiment;
  fs::create_directories(folder);
  for (const char* file : {"report.html", "table.txt"})
    write_file_atomic(folder / file, read_file(report.checked(file)));
}

// What a sweep needs of one of its points; ru_maxrss is the memory that the next points are planned with.
void write_point(const artifact::Artifact& report, const Plan& plan, const fs::path& file) {
  Json point{{"model", plan.model.name}, {"description", plan.experiment.description}, {"note", plan.experiment.report.note},
             {"tables", plan.experiment.report.tables}, {"rows", Json::array()}, {"details", Json::array()}};
  for (const char* part : {"rows", "details"})
    for_each_json_line(report.checked(std::string(part) + ".jsonl"), [&](std::int64_t, const Json& line) { point[part].push_back(line); });
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  point["peak_mib"] = static_cast<double>(usage.ru_maxrss) / 1024;
  write_file_atomic(file, point.dump() + "\n");
}

void print_report(const artifact::Artifact& report, const std::string& experiment, const fs::path& results) {
  const std::string text = read_file(report.checked("table.txt"));
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::printf("\n%s\n", (results / "runs" / experiment / "report.html").c_str());
}

}  // namespace

Device device_of(const RunArguments& arguments) { return arguments.device == "cuda" ? Device::cuda : Device::cpu; }

Plan plan_of(const RunArguments& arguments) {
  const Overrides overrides{arguments.model, arguments.methods, arguments.tasks, arguments.data};
  Plan plan = load_plan(arguments.yaml, arguments.sets, &overrides);
  if (arguments.batch > 0) plan.experiment.generation.batch = arguments.batch;
  if (arguments.limit > 0)
    for (TaskSpec& task : plan.experiment.evaluate) {
      int& most = task.task == "perplexity" ? task.count : task.task == "needle" ? task.samples : task.limit;
      most = most > 0 ? std::min(most, arguments.limit) : arguments.limit;
    }
  return plan;
}

int run_command(const RunArguments& arguments) {
  check_stage_name(arguments.stage, "stage");
  check_stage_name(arguments.force, "--force");
  TerminalProgress progress;
  Session session(plan_of(arguments), device_of(arguments), progress);
  const Graph graph = build_graph(session);
  artifact::Store store(store_folder(arguments));
  Runner runner(session, graph, store, {arguments.force, {}});
  const bool all = arguments.stage.empty();
  int wanted = 0;
  for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
    if (!all && graph.nodes[static_cast<std::size_t>(i)].stage != arguments.stage) continue;
    ++wanted;
    const artifact::Artifact& artifact = runner.make(i);
    if (!all) std::printf("%s\n", artifact.folder().c_str());
  }
  if (wanted == 0) fail<ConfigError>("{}: this experiment has no stage '{}'", arguments.yaml, arguments.stage);
  if (graph.report >= 0 && (all || arguments.stage == "report")) {
    const std::string& name = session.plan().experiment.experiment;
    const artifact::Artifact& report = runner.make(graph.report);
    if (!arguments.point_file.empty()) {
      write_point(report, session.plan(), arguments.point_file);
      return 0;
    }
    publish_report(report, name, results_folder(arguments));
    print_report(report, name, results_folder(arguments));
  }
  if (runner.made() == 0) progress.note("all stages were cached");
  return 0;
}

int status_command(const RunArguments& arguments) {
  TerminalProgress progress;
  Session session(plan_of(arguments), device_of(arguments), progress);
  const Graph graph = build_graph(session);
  artifact::Store store(store_folder(arguments));
  Runner runner(session, graph, store, {});
  for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
    const Node& node = graph.nodes[static_cast<std::size_t>(i)];
    if (const auto found = runner.find(i)) {
      std::printf("hit   %-44s %s\n", node.label.c_str(), found->manifest().stage.folder().c_str());
    } else if (const auto key = runner.key(i)) {
      std::printf("miss  %-44s %s  %s\n", node.label.c_str(), key->folder().c_str(), store.explain_miss(*key).text().c_str());
    } else {
      std::string missing;
      for (const auto& [name, input] : node.inputs)
        if (!runner.find(input)) missing += (missing.empty() ? "" : ", ") + graph.nodes[static_cast<std::size_t>(input)].label;
      std::printf("miss  %-44s waits for: %s\n", node.label.c_str(), missing.c_str());
    }
  }
  return 0;
}

int report_command(const std::vector<std::string>& yamls, const RunArguments& arguments) {
  for (const std::string& yaml : yamls) {
    RunArguments one = arguments;
    one.yaml = yaml;
    TerminalProgress progress;
    Session session(plan_of(one), device_of(one), progress);
    const Graph graph = build_graph(session);
    artifact::Store store(store_folder(one));
    Runner runner(session, graph, store, {});
    if (graph.report < 0) fail<ConfigError>("{}: has no tasks to report", yaml);
    for (const auto& [name, input] : graph.nodes[static_cast<std::size_t>(graph.report)].inputs)
      if (!runner.find(input))
        fail("{}: '{}' has not run yet: vecinfer run {}", yaml, graph.nodes[static_cast<std::size_t>(input)].label, yaml);
    const std::string& name = session.plan().experiment.experiment;
    const artifact::Artifact& report = runner.make(graph.report);
    publish_report(report, name, results_folder(one));
    print_report(report, name, results_folder(one));
  }
  return 0;
}

int verify_command(const std::string& folder) {
  RunArguments arguments;
  arguments.store = folder;
  const fs::path path = store_folder(arguments);
  if (!fs::is_directory(path)) fail<ContractError>("{}: no such store", path.string());
  const artifact::Store store(path);
  int bad = 0, all = 0;
  for (const artifact::VerifyLine& line : store.verify()) {
    ++all;
    if (line.problem.empty()) continue;
    ++bad;
    std::printf("bad   %s: %s\n", line.artifact.c_str(), line.problem.c_str());
  }
  std::printf("%d artifacts, %d damaged\n", all, bad);
  return bad ? 3 : 0;
}

}  // namespace vi::pipeline
