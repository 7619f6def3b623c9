#include "core/common/json.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "core/common/error.h"

namespace vi {

namespace {

constexpr int kMaxDepth = 256;

// How deep brackets nest outside strings; invalid text may give any number.
int nesting(std::string_view text) {
  int depth = 0, deepest = 0;
  bool inside = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (inside) {
      if (c == '\\') ++i;
      if (c == '"') inside = false;
    } else if (c == '"') {
      inside = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

Json parse_json(std::string_view text, std::string_view place) {
  if (nesting(text) > kMaxDepth)
    fail<ContractError>("{}: JSON nested deeper than {} levels", place, kMaxDepth);
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    fail<ContractError>("{}: byte {}: not valid JSON", place, error.byte);
  } catch (const nlohmann::json::exception& error) {
    fail<ContractError>("{}: not valid JSON: {}", place, error.what());
  }
}

void for_each_json_line(const std::filesystem::path& path,
                        const std::function<void(std::int64_t, const Json&)>& fn) {
  std::error_code code;
  if (std::filesystem::is_directory(path, code))
    fail<ContractError>("{}: is a folder, expected a file", path.string());
  std::ifstream file(path, std::ios::binary);
  if (!file) fail<ContractError>("{}: cannot be read: {}", path.string(), std::strerror(errno));
  std::string line;
  for (std::int64_t number = 1; std::getline(file, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    const std::string place = fmt::format("{}:{}", path.string(), number);
    const Json value = parse_json(line, place);
    if (!value.is_object()) fail<ContractError>("{}: expected a JSON object", place);
    fn(number, value);
  }
  if (file.bad()) fail<ContractError>("{}: read error: {}", path.string(), std::strerror(errno));
}

std::string canonical_json(const Json& value) {
  // nlohmann::json (not ordered) keeps keys sorted.
  try {
    return nlohmann::json(value).dump();
  } catch (const nlohmann::json::exception&) {
    fail("a text that is to be hashed is not valid UTF-8");
  }
}

}  // namespace vi
