#include "pipeline/tasks.h"

#include <algorithm>
#include <filesystem>

#include "eval/benchmark/task.h"
#include "pipeline/paths.h"

namespace vi::pipeline {
namespace fs = std::filesystem;
using config::config_fail;
using config::Mark;
using config::Node;

namespace {

Mark option_mark(const char* option) { return {std::make_shared<const std::string>(option), 1, 1}; }

Node scalar(const std::string& text, const char* option) {
  Node node;
  node.kind = Node::Kind::scalar;
  node.scalar = text;
  node.mark = option_mark(option);
  return node;
}

std::vector<std::string> words(const std::string& list, std::string_view between = ", ") {
  std::vector<std::string> result;
  for (std::size_t at = 0; at < list.size();) {
    const std::size_t end = std::min(list.find_first_of(between, at), list.size());
    if (end > at) result.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return result;
}

void put(Node& map, const std::string& key, Node value) {
  if (Node* found = map.find(key))
    *found = std::move(value);
  else
    map.fields.emplace_back(key, std::move(value));
}

std::string text_of(const Node& map, std::string_view key) {
  const Node* node = map.kind == Node::Kind::map ? map.find(key) : nullptr;
  return node ? node->scalar : "";
}

void choose_methods(Node& root, const std::string& list) {
  Node chosen;
  chosen.kind = Node::Kind::sequence;
  chosen.mark = option_mark("--method");
  const Node* old = root.find("methods");
  const auto row = [&](const std::string& name) -> const Node* {
    const Node* same = nullptr;
    if (old)
      for (const Node& entry : old->items) {
        const std::string as = text_of(entry, "as");
        if ((entry.kind == Node::Kind::scalar ? entry.scalar : as.empty() ? text_of(entry, "method") : as) == name) same = &entry;
      }
    return same;
  };
  for (const std::string& part : words(list, ",")) {
    // A row's name may hold spaces; presets' do not.
    const std::vector<std::string> names = row(part) ? std::vector{part} : words(part);
    for (const std::string& name : names) {
      const Node* same = row(name);
      chosen.items.push_back(same ? *same : scalar(name, "--method"));
    }
  }
  put(root, "methods", std::move(chosen));
}

void choose_tasks(Node& root, const std::string& list) {
  const Node* old = root.find("evaluate");
  const Node* benchmark = nullptr;  // whose settings new entries take
  if (old)
    for (const Node& entry : old->items)
      if (!benchmark && text_of(entry, "task").find('/') != std::string::npos) benchmark = &entry;
  Node chosen;
  chosen.kind = Node::Kind::sequence;
  chosen.mark = option_mark("--task");
  for (const std::string& name : words(list)) {
    const Node* same = nullptr;
    if (old)
      for (const Node& entry : old->items)
        if (text_of(entry, "task") == name || text_of(entry, "name") == name) same = &entry;
    if (same) {
      chosen.items.push_back(*same);
      continue;
    }
    if (!benchmark && name.find('/') == std::string::npos)
      config_fail(option_mark("--task"), "this experiment has no task '{}'", name);
    Node entry;
    if (benchmark) entry = *benchmark;
    entry.kind = Node::Kind::map;
    std::erase_if(entry.fields, [](const auto& field) { return field.first == "name"; });
    const std::string suite = benchmark ? text_of(*benchmark, "task").substr(0, text_of(*benchmark, "task").find('/')) : "";
    put(entry, "task", scalar(name.find('/') == std::string::npos ? suite + "/" + name : name, "--task"));
    chosen.items.push_back(std::move(entry));
  }
  put(root, "evaluate", std::move(chosen));
}

void choose_data(Node& root, const std::string& folder) {
  if (!fs::is_directory(folder)) config_fail(option_mark("--data"), "'{}' is not a folder", folder);
  // Texts that lie in the folder, by their folder's name and their own, or by their own.
  const auto choose_files = [&](Node& owner) {
    Node* files = owner.find("files");
    if (!files) return;
    for (Node& file : files->items) {
      const fs::path name = fs::path(file.scalar).filename(), parent = fs::path(file.scalar).parent_path().filename();
      for (const fs::path& place : {fs::path(folder) / parent / name, fs::path(folder) / name})
        if (fs::exists(place)) {
          file = scalar(place.string(), "--data");
          break;
        }
    }
  };
  if (Node* calibration = root.find("calibration")) choose_files(*calibration);
  Node* tasks = root.find("evaluate");
  if (!tasks) return;
  for (Node& entry : tasks->items) {
    if (entry.kind != Node::Kind::map) continue;
    if (text_of(entry, "task").find('/') != std::string::npos) put(entry, "dir", scalar(folder, "--data"));
    choose_files(entry);
  }
}

}  // namespace

void apply_overrides(Node& root, const Overrides& overrides) {
  if (!overrides.model.empty()) put(root, "model", scalar(overrides.model, "--model"));
  if (!overrides.methods.empty()) choose_methods(root, overrides.methods);
  if (!overrides.tasks.empty()) choose_tasks(root, overrides.tasks);
  if (!overrides.data.empty()) choose_data(root, overrides.data);
}

void expand_groups(std::vector<TaskSpec>& tasks, std::vector<const Node*>& nodes, std::vector<TaskGroupRow>& groups) {
  if (std::none_of(tasks.begin(), tasks.end(), [](const TaskSpec& task) { return task.task.find('/') != std::string::npos; })) return;
  const eval::TaskLibrary library(project_root() / "eval" / "tasks");
  std::vector<TaskSpec> all;
  std::vector<const Node*> where;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const TaskSpec& task = tasks[i];
    if (task.task.find('/') == std::string::npos || !library.is_group(task.task)) {
      all.push_back(task);
      where.push_back(nodes[i]);
      continue;
    }
    TaskGroupRow group{task.name.empty() ? task.task : task.name, library.group(task.task).version, {}};
    for (const std::string& member : library.group(task.task).tasks) {
      TaskSpec one = task;
      one.task = member;
      one.name = task.name.empty() ? "" : task.name + ":" + member.substr(member.find('/') + 1);
      group.members.push_back(one.name.empty() ? member : one.name);
      all.push_back(std::move(one));
      where.push_back(nodes[i]);
    }
    groups.push_back(std::move(group));
  }
  tasks = std::move(all);
  nodes = std::move(where);
}

void add_means(const std::vector<std::string>& means, const Mark& mark, const std::vector<TaskSpec>& tasks, std::vector<TaskGroupRow>& groups) {
  if (means.empty()) return;
  const eval::TaskLibrary library(project_root() / "eval" / "tasks");
  for (const std::string& mean : means) {
    if (!library.is_group(mean)) config_fail(mark, "report: means: '{}' is not a group of `list tasks`", mean);
    TaskGroupRow group{mean, library.group(mean).version, {}};
    for (const std::string& member : library.group(mean).tasks)
      if (std::any_of(tasks.begin(), tasks.end(), [&](const TaskSpec& task) { return task.name == member; })) group.members.push_back(member);
    if (group.members.size() == library.group(mean).tasks.size()) groups.push_back(std::move(group));
  }
}

eval::NeedleSpec needle_spec(const TaskSpec& task) {
  eval::NeedleSpec spec;
  Node map = task.needle;
  if (map.kind == Node::Kind::null) {
    map.kind = Node::Kind::map;
    map.mark = option_mark("needle");
  }
  if (map.kind == Node::Kind::map && map.find("kind")) config_fail(map.find("kind")->mark, "needle: 'kind' stands beside 'needle', not in it");
  Node kind = scalar(task.kind, "kind");
  kind.mark = map.mark;
  put(map, "kind", kind);
  config::read(map, spec);
  return spec;
}

}  // namespace vi::pipeline
