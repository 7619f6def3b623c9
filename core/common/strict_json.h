// JSON of foreign files: as nlohmann parses it, but a key that stands twice, nesting deeper than 64 and bad
// UTF-8 are errors too. std::map objects: a vocabulary of 150,000 keys loads in linear-ish time.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace vi::model {

// ContractError "<place>: byte N: ...".
nlohmann::json parse_strict_json(std::string_view text, std::string_view place);
nlohmann::json read_strict_json(const std::filesystem::path& file);

// A view of one value with its place, for typed look-ups whose errors say "place: a.b: expected ...".
class JsonView {
 public:
  JsonView(const nlohmann::json& value, std::string place, std::string key = "")
      : value_(&value), place_(std::move(place)), key_(std::move(key)) {}

  const nlohmann::json& raw() const { return *value_; }
  bool has(const char* key) const;  // there, and not null
  JsonView at(const char* key) const;
  JsonView at(std::size_t index) const;
  std::size_t size() const { return value_->size(); }

  JsonView object() const;  // itself, if it is one
  JsonView array() const;
  std::int64_t integer() const;
  double number() const;  // finite
  bool boolean() const;
  const std::string& string() const;

  std::int64_t integer(const char* key, std::int64_t fallback) const;
  double number(const char* key, double fallback) const;
  bool boolean(const char* key, bool fallback) const;
  std::string string(const char* key, std::string_view fallback) const;

  [[noreturn]] void reject(std::string_view expected) const;

 private:
  const nlohmann::json* value_;
  std::string place_, key_;
};

}  // namespace vi::model
