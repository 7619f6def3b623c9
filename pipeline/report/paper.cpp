#include "pipeline/report/paper.h"

#include <algorithm>
#include <cmath>

#include "core/common/error.h"

namespace vi::report {
namespace fs = std::filesystem;
namespace {

constexpr double kPrinted = 0.05 + 1e-9, kTolerance = 1.0, kStandardErrors = 2.0;

// The line of a result that answers a cell: the last one, should there be several.
const Json* find_result(const std::vector<Json>& results, const PaperCell& cell, const std::string& model) {
  const Json* found = nullptr;
  for (const Json& line : results)
    if (line.value("model", "") == model && line.value("method", "") == cell.method && line.value("task", "") == cell.task &&
        line.contains("score") && line.at("score").is_number())
      found = &line;
  return found;
}

template <class T>
std::size_t place_of(std::vector<T>& list, const T& value) {
  const auto found = std::find(list.begin(), list.end(), value);
  if (found != list.end()) return static_cast<std::size_t>(found - list.begin());
  list.push_back(value);
  return list.size() - 1;
}

}  // namespace

Agreement agreement(double ours, std::optional<double> stderr_of_ours, double paper) {
  const double difference = std::abs(ours - paper);
  if (difference <= kPrinted) return Agreement::reproduced;
  return difference <= std::max(kTolerance, kStandardErrors * stderr_of_ours.value_or(0.0)) ? Agreement::within : Agreement::differs;
}

std::vector<PaperCell> read_paper(const fs::path& folder) {
  std::vector<PaperCell> cells;
  std::error_code code;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder, code))
    if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files)
    for_each_json_line(file, [&](std::int64_t number, const Json& line) {
      if (line.contains("paper")) return;  // the first line says what the file is
      const std::string place = fmt::format("{}:{}", file.string(), number);
      PaperCell cell;
      read_field(line, place, "table", cell.table);
      read_field(line, place, "model", cell.model);
      read_field(line, place, "method", cell.method);
      read_field(line, place, "label", cell.label);
      read_field(line, place, "task", cell.task);
      read_field(line, place, "score", cell.score);
      cells.push_back(std::move(cell));
    });
  return cells;
}

std::vector<Comparison> compare_with_paper(const std::vector<PaperCell>& paper, const std::vector<Json>& results,
                                           const std::vector<std::string>& models, const std::string& beside) {
  std::vector<Comparison> comparisons;
  for (const PaperCell& cell : paper) {
    if (!models.empty() && std::find(models.begin(), models.end(), cell.model) == models.end()) continue;
    auto found = std::find_if(comparisons.begin(), comparisons.end(),
                              [&](const Comparison& c) { return c.table == cell.table && c.model == cell.model; });
    if (found == comparisons.end()) {
      comparisons.emplace_back();
      found = std::prev(comparisons.end());
      found->table = cell.table, found->model = cell.model, found->beside = beside;
      found->cells.header = {"method", "paper's"};
    }
    Table& table = found->cells;
    const std::string task = cell.task.substr(cell.task.find('/') + 1);
    const std::size_t column = place_of(table.header, task);
    auto row = std::find_if(table.rows.begin(), table.rows.end(), [&](const auto& r) { return r[0] == cell.method; });
    if (row == table.rows.end()) row = table.rows.insert(table.rows.end(), {cell.method, cell.label});
    row->resize(std::max(row->size(), column + 1));
    const Json* ours = find_result(results, cell, beside.empty() ? cell.model : beside);
    Agreement mark = Agreement::not_run;
    std::string text = fmt::format("{:.1f} .", cell.score);
    if (ours && !beside.empty()) {
      text = fmt::format("{:.1f} ({:.1f})", cell.score, 100 * ours->at("score").get<double>());
    } else if (ours) {
      const double score = 100 * ours->at("score").get<double>();
      const auto error = ours->find("stderr");
      mark = agreement(score, error != ours->end() && error->is_number() ? std::optional(100 * error->get<double>()) : std::nullopt,
                       cell.score);
      const char* sign = mark == Agreement::reproduced ? "=" : mark == Agreement::within ? "~" : "!";
      text = fmt::format("{:.1f} {} {:.1f}", cell.score, sign, score);
    }
    ++found->count[static_cast<int>(mark)];
    (*row)[column] = text;
  }
  for (Comparison& comparison : comparisons)
    for (auto& row : comparison.cells.rows) row.resize(comparison.cells.header.size());
  return comparisons;
}

std::vector<std::string> comparison_texts(const std::vector<PaperCell>& paper, const std::vector<Json>& results, const std::string& model,
                                          const std::vector<int>& asked) {
  const auto has = [](const auto& list, const auto& value) { return std::find(list.begin(), list.end(), value) != list.end(); };
  std::vector<int> tables;
  std::vector<std::string> models, texts;  // models of these tables, in the paper's order
  for (const PaperCell& cell : paper)
    for (const Json& line : results) {
      if (line.at("task") != cell.task || line.at("method") != cell.method || (!asked.empty() && !has(asked, cell.table))) continue;
      if (!has(tables, cell.table)) tables.push_back(cell.table);
      if (!has(models, cell.model)) models.push_back(cell.model);
    }
  if (tables.empty()) return texts;
  const bool theirs = has(models, model);
  if (!theirs && asked.empty()) {
    std::string list;
    for (const int table : tables) list += fmt::format("{}{}", list.empty() ? "" : ", ", table);
    return {fmt::format("Paper's Table {}: no row of model {}, nothing to compare with.\n", list, model)};
  }
  for (const Comparison& comparison : compare_with_paper(paper, results, {theirs ? model : models.front()}, theirs ? "" : model))
    if (has(tables, comparison.table)) texts.push_back(comparison.text());
  texts.push_back(comparison_legend() + "\n");
  return texts;
}

std::string Comparison::text() const {
  const std::string other = beside.empty() ? "" : fmt::format("; in brackets {}, another model, without a verdict", beside);
  return fmt::format("Table {} of the paper, {}: {} reproduced, {} within tolerance, {} differ, {} not run{}\n{}", table, model, count[0],
                     count[1], count[2], count[3], other, cells.text());
}

std::string comparison_legend() {
  return fmt::format(
      "paper = ours: reproduced (equal as printed); paper ~ ours: within tolerance ({:.1f} point, or {:.0f} standard errors of ours "
      "where that is more); paper ! ours: differs; paper . : not run. Per cent.",
      kTolerance, kStandardErrors);
}

}  // namespace vi::report
