// Typed options. A settings struct lists its fields once:
//
//   struct Window {
//     int recent = 128;
//     template <class V> void visit(V& v) { v("recent", recent, "newest tokens kept exact"); }
//   };
//
// and that one function serves reading (strict: an unknown key is an error with the nearest key),
// canonical JSON (hashing, result lines) and the printed reference of keys. An enum is given by
//   constexpr auto enum_names(Flush) { return std::array{std::pair{"block"sv, Flush::block}, ...}; }
// A struct that may be written as one plain word has  static T from_scalar(std::string_view) (throws Error).
// A struct's own rules go into  void check(const Mark&) const  (throws by config_fail), called after reading.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/common/json.h"
#include "core/config/node.h"

namespace vi::config {

template <class T>
concept NamedEnum = std::is_enum_v<T> && requires(T value) { enum_names(value); };

template <NamedEnum E>
std::string_view to_string(E value) {
  for (const auto& [name, candidate] : enum_names(value))
    if (candidate == value) return name;
  return "?";
}

void read(const Node& node, bool& out);
void read(const Node& node, int& out);
void read(const Node& node, std::int64_t& out);
void read(const Node& node, std::uint64_t& out);
void read(const Node& node, double& out);
void read(const Node& node, std::string& out);
inline void read(const Node& node, Node& out) { out = node; }

template <NamedEnum E>
void read(const Node& node, E& out) {
  std::vector<std::string> names;
  for (const auto& [name, value] : enum_names(out)) {
    if (node.kind == Node::Kind::scalar && node.scalar == name) {
      out = value;
      return;
    }
    names.emplace_back(name);
  }
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  config_fail(node.mark, "expected one of {}{}", list,
              node.kind == Node::Kind::scalar ? fmt::format(", not '{}'", node.scalar) : "");
}

template <class T> void read(const Node& node, std::vector<T>& out);
template <class T> void read(const Node& node, std::optional<T>& out);
template <class T> void read(const Node& node, std::map<std::string, T>& out);

namespace detail {

struct Reader {
  const Node& node;
  std::vector<std::string> known;
  template <class T>
  void operator()(std::string_view key, T& field, std::string_view /*doc*/) {
    known.emplace_back(key);
    if (const Node* value = node.find(key)) read(*value, field);
  }
  void refuse_unknown() const;
};

struct Writer {
  Json json = Json::object();
  template <class T>
  void operator()(std::string_view key, T& field, std::string_view /*doc*/);
};

}  // namespace detail

// Any struct with visit().
template <class T>
  requires(std::is_class_v<T> && requires(T t, detail::Reader& r) { t.visit(r); })
void read(const Node& node, T& out) {
  if constexpr (requires { T::from_scalar(std::string_view{}); }) {
    if (node.kind == Node::Kind::scalar) {
      try {
        out = T::from_scalar(node.scalar);
      } catch (const ConfigError&) {
        throw;
      } catch (const Error& error) {
        config_fail(node.mark, "{}", error.what());
      }
      if constexpr (requires { out.check(node.mark); }) out.check(node.mark);
      return;
    }
  }
  if (node.kind != Node::Kind::map) config_fail(node.mark, "expected a map of settings");
  detail::Reader reader{node, {}};
  out.visit(reader);
  reader.refuse_unknown();
  if constexpr (requires { out.check(node.mark); }) out.check(node.mark);
}

template <class T>
void read(const Node& node, std::vector<T>& out) {
  out.clear();
  if (node.kind == Node::Kind::null) return;
  if (node.kind != Node::Kind::sequence) config_fail(node.mark, "expected a list");
  for (const Node& item : node.items) {
    out.emplace_back();
    read(item, out.back());
  }
}

template <class T>
void read(const Node& node, std::optional<T>& out) {
  if (node.kind == Node::Kind::null) {
    out.reset();
    return;
  }
  out.emplace();
  read(node, *out);
}

template <class T>
void read(const Node& node, std::map<std::string, T>& out) {
  out.clear();
  if (node.kind == Node::Kind::null) return;
  if (node.kind != Node::Kind::map) config_fail(node.mark, "expected a map");
  for (const auto& [key, value] : node.fields) read(value, out[key]);
}

inline Json to_json(bool value) { return value; }
inline Json to_json(int value) { return value; }
inline Json to_json(std::int64_t value) { return value; }
inline Json to_json(std::uint64_t value) { return value; }
inline Json to_json(double value) { return value; }
inline Json to_json(const std::string& value) { return value; }
Json to_json(const Node& node);  // scalars as YAML would read them
template <NamedEnum E>
Json to_json(E value) { return std::string(to_string(value)); }
template <class T>
  requires(std::is_class_v<T> && requires(T t, detail::Writer& w) { t.visit(w); })
Json to_json(const T& value) {
  detail::Writer writer;
  const_cast<T&>(value).visit(writer);
  return writer.json;
}
template <class T>
Json to_json(const std::vector<T>& values) {
  Json json = Json::array();
  for (const T& value : values) json.push_back(to_json(value));
  return json;
}
template <class T>
Json to_json(const std::optional<T>& value) { return value ? to_json(*value) : Json(nullptr); }
template <class T>
Json to_json(const std::map<std::string, T>& values) {
  Json json = Json::object();
  for (const auto& [key, value] : values) json[key] = to_json(value);
  return json;
}

template <class T>
void detail::Writer::operator()(std::string_view key, T& field, std::string_view) {
  json[std::string(key)] = to_json(field);
}

}  // namespace vi::config
