// figure: a figure of the paper with timings, beside the committed measurements and, where there is a GPU, new ones.
#include <cstdio>

#include "core/common/error.h"
#include "eval/gpu_backend.h"
#include "pipeline/commands.h"
#include "pipeline/paths.h"
#include "pipeline/report/figure.h"
#include "pipeline/terminal.h"

namespace vi::pipeline {
namespace {

std::vector<Json> read_lines(const std::string& file, std::string* title) {
  std::vector<Json> lines;
  if (file.empty()) return lines;
  for_each_json_line(project_root() / file, [&](std::int64_t, const Json& line) {
    if (!line.contains("paper")) return lines.push_back(line);
    if (title) *title = fmt::format("{}; {}", line.at("what").get<std::string>(), line.at("source").get<std::string>());
  });
  return lines;
}

}  // namespace

int figure_command(const std::string& yaml, const std::string& cases) {
  report::FigureSpec spec;
  config::read(config::load_yaml(yaml, {project_root() / "experiments", project_root()}), spec);
  if (spec.paper.empty() || spec.rows.empty()) fail<ConfigError>("{}: a figure needs 'paper' and 'rows'", yaml);
  TerminalProgress progress;
  std::string title;
  const std::vector<Json> paper = read_lines(spec.paper, &title), reference = read_lines(spec.reference, nullptr);
  std::vector<Json> now;
  std::string why = spec.bench.empty() ? "nothing to measure" : "";
  if (!spec.bench.empty()) try {
      now = eval::gpu_backend().bench(spec.bench, cases, progress, [](const Json&) {});
    } catch (const CudaError& error) {
      why = error.what();
    }
  const report::Table table = report::figure_table(spec, paper, reference, now);
  std::printf("Figure %d of the paper: %s\n(%s)\n%s", spec.figure, spec.description.c_str(), title.c_str(), table.text().c_str());
  if (!spec.reference.empty()) std::printf("committed: %s\n", spec.reference.c_str());
  if (!why.empty()) std::printf("not run here: %s\n", why.c_str());
  return 0;
}

}  // namespace vi::pipeline
