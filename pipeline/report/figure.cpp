#include "pipeline/report/figure.h"

#include <algorithm>

#include "core/common/error.h"

namespace vi::report {
namespace {

// A row with parts_ms is one row a part, and its total.
std::vector<Json> by_part(const std::vector<Json>& lines) {
  std::vector<Json> out;
  for (const Json& line : lines) {
    out.push_back(line);
    if (!line.contains("parts_ms")) continue;
    out.back()["part"] = "total";
    for (const auto& [part, ms] : line.at("parts_ms").items()) {
      Json one = line;
      one["part"] = part;
      one["ms"] = ms;
      out.push_back(std::move(one));
    }
  }
  return out;
}

bool has_all(const Json& line, const Json& wanted) {
  if (wanted.is_object())
    for (const auto& [key, value] : wanted.items())
      if (!line.contains(key) || line.at(key) != value) return false;
  return true;
}

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

std::string cell(const Json& line) {
  const auto number = [](double x) { return x < 10 ? fmt::format("{:.3g}", x) : fmt::format("{:.1f}", x); };
  std::string text = line.contains("ms") ? number(line.at("ms").get<double>()) : "";
  if (line.contains("speedup")) text += fmt::format("{}{:.1f}x", text.empty() ? "" : " ", line.at("speedup").get<double>());
  return text.empty() ? "-" : text;
}

}  // namespace

Table figure_table(const FigureSpec& spec, const std::vector<Json>& paper, const std::vector<Json>& reference, const std::vector<Json>& now) {
  Table table;
  table.header = spec.rows;
  const std::size_t keys = spec.rows.size();
  const auto key_of = [&](const Json& line) {
    std::vector<std::string> key;
    for (const std::string& field : spec.rows)
      if (line.contains(field)) key.push_back(text_of(line.at(field)));
    return key;
  };
  const auto add = [&](const std::vector<Json>& lines, const Json& wanted, const std::string& suffix, bool new_rows) {
    for (const Json& line : lines) {
      if (!line.contains(spec.name) || !has_all(line, wanted) || (!line.contains("ms") && !line.contains("speedup"))) continue;
      const auto key = key_of(line);
      if (key.size() != keys) continue;
      auto row = std::find_if(table.rows.begin(), table.rows.end(), [&](const auto& r) { return std::equal(key.begin(), key.end(), r.begin()); });
      if (row == table.rows.end()) {
        if (!new_rows) continue;
        row = table.rows.insert(table.rows.end(), key);
      }
      const std::string name = text_of(line.at(spec.name)) + suffix;
      auto column = static_cast<std::size_t>(std::find(table.header.begin() + static_cast<std::ptrdiff_t>(keys), table.header.end(), name) - table.header.begin());
      if (column == table.header.size()) table.header.push_back(name);
      row->resize(std::max(row->size(), column + 1), "-");
      (*row)[column] = cell(line);
    }
  };
  const auto own = [](std::vector<Json> lines) {  // rows with a source are other people's, drawn from `paper` here
    std::erase_if(lines, [](const Json& line) { return line.contains("source"); });
    return by_part(lines);
  };
  add(paper, config::to_json(spec.where), "", true);
  add(own(reference), config::to_json(spec.match), ", ours, committed", false);
  add(own(now), config::to_json(spec.match), ", ours, now", false);
  for (auto& row : table.rows) row.resize(table.header.size(), "-");
  return table;
}

}  // namespace vi::report
