#include "pipeline/paths.h"

#include <algorithm>

#include "pipeline/commands.h"

namespace vi::pipeline {
namespace fs = std::filesystem;
namespace {

fs::path above(fs::path folder) {
  for (; !folder.empty(); folder = folder.parent_path()) {
    if (fs::is_directory(folder / "experiments" / "methods")) return folder;
    if (folder == folder.parent_path()) break;
  }
  return {};
}

fs::path find_root() {
  std::error_code code;
  const fs::path binary = fs::read_symlink("/proc/self/exe", code);
  if (fs::path root = above(binary.parent_path()); !root.empty()) return root;
  const fs::path here = fs::current_path(code);
  if (fs::path root = above(here); !root.empty()) return root;
  return here;
}

}  // namespace

const fs::path& project_root() {
  static const fs::path root = find_root();
  return root;
}

fs::path store_folder(const RunArguments& arguments) {
  return arguments.store.empty() ? project_root() / "results" / "store" : fs::path(arguments.store);
}

fs::path results_folder(const RunArguments& arguments) {
  return arguments.store.empty() ? project_root() / "results" : fs::path(arguments.store);
}

fs::path resolve_path(const std::string& text, const config::Mark& mark) {
  const fs::path path(text);
  if (text.empty()) config::config_fail(mark, "expected a path, not an empty text");
  std::vector<fs::path> tried;
  if (path.is_absolute()) {
    tried = {path};
  } else {
    if (mark.file && !mark.file->starts_with("--")) tried.push_back(fs::path(*mark.file).parent_path() / path);
    tried.push_back(fs::current_path() / path);
    tried.push_back(project_root() / path);
  }
  for (const fs::path& candidate : tried) {
    std::error_code code;
    if (fs::exists(candidate, code)) return fs::weakly_canonical(candidate);
  }
  fail<ContractError>("{}: '{}' does not exist (looked beside this file, in the current folder and in {})",
                      mark.text(), text, project_root().string());
}

std::vector<std::string> named_files(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(project_root() / "experiments" / folder, code))
    if (entry.path().extension() == ".yaml" && !entry.path().stem().string().starts_with("_"))
      names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

fs::path resolve_named(const std::string& name, const std::string& folder, const config::Mark& mark) {
  for (const char* suffix : {".yaml", ""}) {
    const fs::path candidate = project_root() / "experiments" / folder / (name + suffix);
    if (fs::is_regular_file(candidate)) return candidate;
  }
  if (name.ends_with(".yaml")) return resolve_path(name, mark);
  const std::vector<std::string> known = named_files(folder);
  const std::string near = config::nearest_name(name, known);
  std::string list;
  for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
  config::config_fail(mark, "unknown name '{}'{}; experiments/{} has: {}", name,
                      near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near), folder, list);
}

}  // namespace vi::pipeline
