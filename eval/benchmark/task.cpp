#include "eval/benchmark/task.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "core/common/error.h"
#include "eval/scorers/registry.h"
#include "eval/text/unicode.h"

namespace vi::eval {
namespace fs = std::filesystem;
namespace {

// What a template may name: the fields that every valid record of the format has.
std::vector<std::string> prompt_fields(RecordFormat format) {
  switch (format) {
    case RecordFormat::longbench:
      return {"context", "input"};
    case RecordFormat::gsm8k:
      return {"question"};
    case RecordFormat::math500:
    case RecordFormat::aime:
    case RecordFormat::amc:
      return {"problem"};
  }
  return {};
}

struct Piece {
  bool field = false;
  std::string text;
};

// Python's str.format without conversions: {name}, {{ and }}. Error with the byte.
std::vector<Piece> parse_template(std::string_view source) {
  std::vector<Piece> pieces;
  std::string literal;
  for (std::size_t i = 0; i < source.size(); ++i) {
    const char c = source[i];
    if (c != '{' && c != '}') {
      literal += c;
    } else if (i + 1 < source.size() && source[i + 1] == c) {
      literal += c;
      ++i;
    } else if (c == '}') {
      fail("single '}}' at byte {}; write '}}}}' for a brace", i);
    } else {
      const std::size_t close = source.find('}', i);
      if (close == std::string_view::npos) fail("'{{' at byte {} is never closed", i);
      if (!literal.empty()) pieces.push_back({false, std::exchange(literal, {})});
      pieces.push_back({true, std::string(source.substr(i + 1, close - i - 1))});
      i = close;
    }
  }
  if (!literal.empty()) pieces.push_back({false, literal});
  return pieces;
}

std::string join(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

bool has_tasks_key(const fs::path& path) {
  return config::parse_yaml_file(path).find("tasks") != nullptr;
}

}  // namespace

void Task::check(const config::Mark& mark) const {
  using config::config_fail;
  if (version < 1) config_fail(mark, "version: expected 1 or more, found {}", version);
  if (file.empty()) config_fail(mark, "file: expected the name of a JSONL file");
  if (max_new_tokens < 1)
    config_fail(mark, "max_new_tokens: expected 1 or more, found {}", max_new_tokens);
  if (language != "en" && language != "zh" && language != "code")
    config_fail(mark, "language: expected en, zh or code, found '{}'", language);
  if (stop.min_new_tokens < 0 || stop.min_new_tokens > max_new_tokens)
    config_fail(mark, "stop.min_new_tokens: expected 0..{}, found {}", max_new_tokens,
                stop.min_new_tokens);
  if (!(sampling.temperature >= 0.0))
    config_fail(mark, "sampling.temperature: expected 0 or more, found {}", sampling.temperature);
  if (!(sampling.top_p > 0.0 && sampling.top_p <= 1.0))
    config_fail(mark, "sampling.top_p: expected a number in (0, 1], found {}", sampling.top_p);
  if (sampling.samples < 1)
    config_fail(mark, "sampling.samples: expected 1 or more, found {}", sampling.samples);
  try {
    find_metric(metric);
  } catch (const ConfigError& error) {
    config_fail(mark, "metric: {}", error.what());
  }
  const std::vector<std::string> known = prompt_fields(format);
  try {
    bool any = false;
    for (const Piece& piece : parse_template(prompt)) {
      if (!piece.field) continue;
      any = true;
      if (std::find(known.begin(), known.end(), piece.text) == known.end())
        fail("unknown field '{{{}}}'; records of this format have {}", piece.text, join(known));
    }
    if (!any) fail("expected at least one of the fields {}", join(known));
  } catch (const Error& error) {
    config_fail(mark, "prompt: {}", error.what());
  }
}

void TaskGroup::check(const config::Mark& mark) const {
  if (version < 1) config::config_fail(mark, "version: expected 1 or more, found {}", version);
  if (tasks.empty()) config::config_fail(mark, "tasks: expected at least one task name");
  for (std::size_t i = 0; i < tasks.size(); ++i)
    if (std::find(tasks.begin(), tasks.begin() + static_cast<std::ptrdiff_t>(i), tasks[i]) !=
        tasks.begin() + static_cast<std::ptrdiff_t>(i))
      config::config_fail(mark, "tasks: '{}' is listed twice", tasks[i]);
}

TaskLibrary::TaskLibrary(fs::path root) : root_(std::move(root)) {
  std::error_code code;
  fs::recursive_directory_iterator files(root_, code);
  if (code)
    fail<ConfigError>("{}: the folder of tasks cannot be read: {}", root_.string(), code.message());
  for (const fs::directory_entry& entry : files) {
    if (!entry.is_regular_file() || entry.path().extension() != ".yaml") continue;
    const std::string name = fs::relative(entry.path(), root_).replace_extension().generic_string();
    (has_tasks_key(entry.path()) ? groups_ : tasks_).push_back(name);
  }
  std::sort(tasks_.begin(), tasks_.end());
  std::sort(groups_.begin(), groups_.end());
}

std::vector<std::string> TaskLibrary::task_names() const { return tasks_; }
std::vector<std::string> TaskLibrary::group_names() const { return groups_; }

bool TaskLibrary::is_group(std::string_view name) const {
  return std::binary_search(groups_.begin(), groups_.end(), name, std::less<>());
}

fs::path TaskLibrary::find(std::string_view name, bool group) const {
  const std::vector<std::string>& names = group ? groups_ : tasks_;
  if (std::find(names.begin(), names.end(), name) != names.end())
    return root_ / (std::string(name) + ".yaml");
  std::vector<std::string> all = tasks_;
  all.insert(all.end(), groups_.begin(), groups_.end());
  std::string near = config::nearest_name(name, all);
  for (const std::string& candidate : all)  // "qasper" for "longbench/qasper"
    if (candidate.ends_with("/" + std::string(name))) near = candidate;
  fail<ConfigError>("unknown task '{}'{}; `vecinfer list tasks` prints all of {}", name,
                    near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near), root_.string());
}

Task TaskLibrary::task(std::string_view name) const {
  Task task;
  config::read(config::load_yaml(find(name, false), {root_}), task);
  task.name = name;
  return task;
}

TaskGroup TaskLibrary::group(std::string_view name) const {
  TaskGroup group;
  const config::Node node = config::load_yaml(find(name, true), {root_});
  config::read(node, group);
  group.name = name;
  for (std::size_t i = 0; i < group.tasks.size(); ++i) {
    const std::string& member = group.tasks[i];
    if (std::binary_search(tasks_.begin(), tasks_.end(), member)) continue;
    const std::string near = config::nearest_name(member, tasks_);
    config::config_fail(node.find("tasks")->items.at(i).mark, "unknown task '{}'{}", member,
                        near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near));
  }
  return group;
}

std::vector<Task> TaskLibrary::expand(std::string_view name) const {
  if (!is_group(name)) return {task(name)};
  std::vector<Task> tasks;
  for (const std::string& member : group(name).tasks) tasks.push_back(task(member));
  return tasks;
}

std::string render_prompt(const Task& task, const Document& document) {
  std::string prompt;
  for (const Piece& piece : parse_template(task.prompt)) {
    if (!piece.field) {
      prompt += piece.text;
      continue;
    }
    const auto value = document.record.find(piece.text);
    if (value == document.record.end() || !value->is_string())
      fail<ContractError>("{}: record {}: {}: expected a text for the prompt", task.name,
                          document.index, piece.text);
    prompt += value->get_ref<const std::string&>();
  }
  return prompt;
}

std::string post_process(const Task& task, std::string_view prediction) {
  return std::string(task.post_process == PostProcess::first_line ? text::first_line(prediction)
                                                                  : prediction);
}

double score_prediction(const Task& task, std::string_view prediction,
                        const std::vector<std::string>& answers, const Json& record) {
  return find_metric(task.metric).score(post_process(task, prediction), answers, record);
}

}  // namespace vi::eval
