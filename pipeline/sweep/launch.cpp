#include "pipeline/sweep/launch.h"

#include <cmath>
#include <sstream>

#include "core/common/error.h"
#include "core/common/file.h"

namespace vi::pipeline {
namespace fs = std::filesystem;

bool SweepRun::done(const SweepPoint& point) const {
  std::error_code code;
  return fs::is_regular_file(file(point), code);
}

std::vector<const SweepPoint*> SweepRun::missing() const {
  std::vector<const SweepPoint*> points;
  for (const SweepPoint& point : grid.points)
    if (!done(point)) points.push_back(&point);
  return points;
}

std::vector<std::string> SweepRun::command(const std::string& id) const {
  std::error_code code;
  std::vector<std::string> words{fs::read_symlink("/proc/self/exe", code).string(), "sweep",
                                 fs::absolute(arguments.yaml).string()};
  for (const std::string& set : arguments.sets) words.insert(words.end(), {"--set", set});
  for (const auto& [option, value] : {std::pair{"--model", arguments.model},
                                      {"--method", arguments.methods},
                                      {"--task", arguments.tasks},
                                      {"--data", arguments.data},
                                      {"--device", arguments.device}})
    if (!value.empty()) words.insert(words.end(), {option, value});
  if (!arguments.store.empty())
    words.insert(words.end(), {"--store", fs::absolute(arguments.store).string()});
  if (arguments.batch > 0) words.insert(words.end(), {"--batch", std::to_string(arguments.batch)});
  if (arguments.limit > 0) words.insert(words.end(), {"--limit", std::to_string(arguments.limit)});
  words.insert(words.end(), {"--point", id});
  return words;
}

std::string SweepRun::failure(const SweepPoint& point) const {
  std::error_code code;
  if (!fs::is_regular_file(log(point), code)) return "it left no message";
  std::istringstream text(read_file(log(point)));
  std::string last, complaint;
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("vecinfer: ")) complaint = line.substr(10);
    if (!line.empty()) last = line;
  }
  return !complaint.empty() ? complaint
         : !last.empty()    ? "it ended after: " + last
                            : "it left no message";
}

std::int64_t parse_memory(const std::string& text) {
  if (text.empty()) return 0;
  std::size_t used = 0;
  double number = 0;
  try {
    number = std::stod(text, &used);
  } catch (const std::exception&) {
  }
  const std::string unit = text.substr(std::min(used, text.size()));
  const double factor = unit.empty()  ? 1
                        : unit == "K" ? 1024.0
                        : unit == "M" ? 1048576.0
                        : unit == "G" ? 1073741824.0
                        : unit == "T" ? 1099511627776.0
                                      : 0;
  if (used == 0 || factor == 0 || !(number > 0) || number * factor > 1e18)
    fail<ConfigError>("--memory {}: expected a size such as 16G or 800M", text);
  return static_cast<std::int64_t>(number * factor);
}

}  // namespace vi::pipeline
