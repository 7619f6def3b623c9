#include "core/common/json.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "core/common/error.h"

namespace vi {

Json parse_json(std::string_view text, std::string_view place) {
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
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path))
    fail<ContractError>("{}: cannot be read: {}", path.string(), std::strerror(errno));
  std::string line;
  for (std::int64_t number = 1; std::getline(file, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    const std::string place = fmt::format("{}:{}", path.string(), number);
    const Json value = parse_json(line, place);
    if (!value.is_object()) fail<ContractError>("{}: expected a JSON object", place);
    fn(number, value);
  }
}

std::string canonical_json(const Json& value) {
  // nlohmann::json (not ordered) keeps keys sorted.
  return nlohmann::json(value).dump();
}

}  // namespace vi
