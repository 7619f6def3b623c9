// Where things lie. The project root is the nearest folder above the binary that holds experiments/, else
// the nearest one above the current folder; a relative path in a YAML file is tried beside that file, then
// in the current folder, then in the root.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/config/node.h"

namespace vi::pipeline {

const std::filesystem::path& project_root();

// ConfigError at `mark` with the places tried.
std::filesystem::path resolve_path(const std::string& text, const config::Mark& mark);

// "name" or "name.yaml" under experiments/<folder>, or a path to a YAML file; ConfigError with the nearest
// known name.
std::filesystem::path resolve_named(const std::string& name, const std::string& folder, const config::Mark& mark);

// Names of the YAML files under experiments/<folder>, sorted.
std::vector<std::string> named_files(const std::string& folder);

}  // namespace vi::pipeline
