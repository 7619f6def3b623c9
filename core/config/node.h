// A YAML document as a tree of nodes that each remember where they were written, so that every error can
// say file:line:column. Composition: `base: [other.yaml, ...]` deep-merges the named files under the
// document (maps merge key by key, everything else replaces), then `--set a.b=c` replaces single values.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/common/error.h"

namespace vi::config {

struct Mark {
  std::shared_ptr<const std::string> file;  // nullptr: a value made in code
  int line = 0, column = 0;                 // from 1
  std::string text() const;                 // "file.yaml:3:7"
};

struct Node {
  enum class Kind { null, scalar, sequence, map };
  Kind kind = Kind::null;
  std::string scalar;
  bool quoted = false;  // "1" in quotes is a string, never a number
  std::vector<Node> items;
  std::vector<std::pair<std::string, Node>> fields;  // in the order written; keys are unique
  Mark mark;
  Mark key_mark;  // of a map's value: where its key stands

  const Node* find(std::string_view key) const;
  Node* find(std::string_view key);
};

template <class... Args>
[[noreturn]] void config_fail(const Mark& mark, fmt::format_string<Args...> format, Args&&... args) {
  fail<ConfigError>("{}: {}", mark.text(), fmt::format(format, std::forward<Args>(args)...));
}

// One file without composition.
Node parse_yaml_file(const std::filesystem::path& path);
Node parse_yaml_text(std::string_view text, std::string_view name);

// One file with its `base` list resolved, each entry relative to the file that names it, then to
// `roots` in order; ".yaml" may be left out. Cycles are an error.
Node load_yaml(const std::filesystem::path& path, const std::vector<std::filesystem::path>& roots = {});

// over wins; both keep their marks.
void merge(Node& under, const Node& over);

// "a.b=c": c is parsed as YAML; maps on the way are made.
void apply_set(Node& root, std::string_view assignment);

// The nearest of `names` by edit distance, or "" if none is near.
std::string nearest_name(std::string_view name, const std::vector<std::string>& names);

}  // namespace vi::config
