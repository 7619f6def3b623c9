// JSON and JSON lines on nlohmann::json, with errors that name file and line.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <string_view>

namespace vi {

using Json = nlohmann::ordered_json;

// `place` is what the message starts with, e.g. "predictions.jsonl:12". Nesting beyond 256 levels is refused
// (writers of such values recurse). ContractError.
Json parse_json(std::string_view text, std::string_view place);

// Calls fn(line_number from 1, object) for each line; splits at '\n' only; blank lines are skipped;
// invalid JSON or UTF-8 or a line that is not an object: ContractError with file:line.
void for_each_json_line(const std::filesystem::path& path,
                        const std::function<void(std::int64_t, const Json&)>& fn);

// Keys sorted, no spaces, shortest numbers: the text that is hashed.
std::string canonical_json(const Json& value);

}  // namespace vi
