#include "core/codec/method.h"

#include <algorithm>

namespace vi::codec {
namespace fs = std::filesystem;

void MethodSpec::check(const config::Mark& mark) const {
  if (name.empty()) config_fail(mark, "a method needs a name");
  if (description.empty()) config_fail(mark, "method '{}' needs a description", name);
  if (source.empty()) config_fail(mark, "method '{}' needs a source", name);
}

MethodSpec load_method(const fs::path& file) {
  const config::Node node = config::load_yaml(file, {file.parent_path()});
  MethodSpec method;
  config::read(node, method);
  if (method.name != file.stem().string()) {
    const config::Node* name = node.find("name");
    config_fail(name->mark, "name '{}' is not the file's, '{}'", method.name, file.stem().string());
  }
  return method;
}

std::vector<std::string> method_names(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().extension() == ".yaml" && entry.path().stem().string().front() != '_')
      names.push_back(entry.path().stem().string());
  if (error)
    fail<ConfigError>("{}: cannot read the folder of methods: {}", folder.string(),
                      error.message());
  std::sort(names.begin(), names.end());
  return names;
}

MethodSpec find_method(const fs::path& folder, const std::string& name) {
  const std::vector<std::string> names = method_names(folder);
  if (std::find(names.begin(), names.end(), name) != names.end())
    return load_method(folder / (name + ".yaml"));
  const std::string near = config::nearest_name(name, names);
  fail<ConfigError>("{}: no method '{}'{}", folder.string(), name,
                    near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near));
}

}  // namespace vi::codec
