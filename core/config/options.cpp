#include "core/config/options.h"

#include <charconv>

namespace vi::config {
namespace {

const std::string& plain(const Node& node, std::string_view expected) {
  if (node.kind != Node::Kind::scalar || node.quoted)
    config_fail(node.mark, "expected {}", expected);
  return node.scalar;
}

template <class T>
T number(const Node& node, std::string_view expected) {
  const std::string& text = plain(node, expected);
  T value{};
  const char* first = text.data();
  if (text.size() > 1 && *first == '+' && text[1] != '-') ++first;
  const auto [end, code] = std::from_chars(first, text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size())
    config_fail(node.mark, "expected {}, not '{}'", expected, text);
  return value;
}

bool as_bool(std::string_view text, bool& out) {
  if (text == "true" || text == "yes" || text == "on") out = true;
  else if (text == "false" || text == "no" || text == "off") out = false;
  else return false;
  return true;
}

}  // namespace

void read(const Node& node, bool& out) {
  if (!as_bool(plain(node, "true or false"), out))
    config_fail(node.mark, "expected true or false, not '{}'", node.scalar);
}
void read(const Node& node, int& out) { out = number<int>(node, "a whole number"); }
void read(const Node& node, std::int64_t& out) { out = number<std::int64_t>(node, "a whole number"); }
void read(const Node& node, std::uint64_t& out) {
  out = number<std::uint64_t>(node, "a whole number from 0");
}
void read(const Node& node, double& out) {
  out = number<double>(node, "a number");
  if (!(out - out == 0.0)) config_fail(node.mark, "expected a finite number");
}
void read(const Node& node, std::string& out) {
  if (node.kind != Node::Kind::scalar) config_fail(node.mark, "expected a text");
  out = node.scalar;
}

void detail::Reader::refuse_unknown() const {
  for (const auto& [key, value] : node.fields) {
    bool found = false;
    for (const std::string& name : known) found = found || name == key;
    if (found) continue;
    const std::string near = nearest_name(key, known);
    std::string list;
    for (const std::string& name : known) list += (list.empty() ? "" : ", ") + name;
    config_fail(value.key_mark.file ? value.key_mark : value.mark, "unknown key '{}'{}; known here: {}", key,
                near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near), list);
  }
}

Json to_json(const Node& node) {
  switch (node.kind) {
    case Node::Kind::null: return nullptr;
    case Node::Kind::sequence: return to_json(node.items);
    case Node::Kind::map: {
      Json json = Json::object();
      for (const auto& [key, value] : node.fields) json[key] = to_json(value);
      return json;
    }
    case Node::Kind::scalar: break;
  }
  bool flag = false;
  if (!node.quoted && as_bool(node.scalar, flag)) return flag;
  if (!node.quoted && !node.scalar.empty()) {
    const char* end = node.scalar.data() + node.scalar.size();
    std::int64_t whole = 0;
    if (auto [p, c] = std::from_chars(node.scalar.data(), end, whole); c == std::errc{} && p == end)
      return whole;
    std::uint64_t large = 0;
    if (auto [p, c] = std::from_chars(node.scalar.data(), end, large); c == std::errc{} && p == end)
      return large;
    double real = 0;  // "inf" and "nan" are words: JSON has no such numbers
    if (auto [p, c] = std::from_chars(node.scalar.data(), end, real);
        c == std::errc{} && p == end && real - real == 0.0)
      return real;
  }
  return node.scalar;
}

}  // namespace vi::config
