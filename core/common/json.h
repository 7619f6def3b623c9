// JSON and JSON lines on nlohmann::json, with errors that name file and line.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <string_view>
#include <type_traits>

#include "core/common/error.h"

namespace vi {

using Json = nlohmann::ordered_json;

// `place` is what the message starts with, e.g. "predictions.jsonl:12". Nesting beyond 256 levels is refused
// (writers of such values recurse). ContractError.
Json parse_json(std::string_view text, std::string_view place);

// json[field] into `out`. ContractError at place:field if it is missing or of another type.
template <class T>
void read_field(const Json& json, std::string_view place, const char* field, T& out) {
  const auto value = json.find(field);
  if (value == json.end()) fail<ContractError>("{}:{}: the field is missing", place, field);
  try {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
      if (!value->is_number_integer()) throw std::exception();
    }
    out = value->template get<T>();
  } catch (const std::exception&) {
    fail<ContractError>("{}:{}: has the wrong type ({})", place, field, value->type_name());
  }
}

// Calls fn(line_number from 1, object) for each line; splits at '\n' only; blank lines are skipped;
// invalid JSON or UTF-8 or a line that is not an object: ContractError with file:line.
void for_each_json_line(const std::filesystem::path& path,
                        const std::function<void(std::int64_t, const Json&)>& fn);

// Keys sorted, no spaces, shortest numbers: the text that is hashed.
std::string canonical_json(const Json& value);

}  // namespace vi
