// String operations of Python that templates use. Upper and lower case are ASCII's and Latin letters with a
// one-to-one partner; other scripts' cases stay as they are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vi::model::jinja {

// `chars` null: white space.
std::string strip(std::string_view text, const std::string* chars, bool left, bool right);
// `separator` null: runs of white space. limit < 0: none. Trouble for an empty separator.
std::vector<std::string> split(std::string_view text, const std::string* separator, std::int64_t limit,
                               bool from_right);
std::vector<std::string> split_lines(std::string_view text);
std::string replace(std::string_view text, std::string_view from, std::string_view to, std::int64_t limit);
std::int64_t count(std::string_view text, std::string_view part);
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string title(std::string_view text);
std::string capitalize(std::string_view text);
bool all_ascii(std::string_view text, char first, char last);  // not empty, every byte in the range

}  // namespace vi::model::jinja
