#include "core/common/strict_json.h"

#include <cmath>
#include <vector>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/utf8.h"

namespace vi::model {
namespace {

using Value = nlohmann::json;

// Builds the value as the parser reports its parts.
class Builder final : public nlohmann::json_sax<Value> {
 public:
  explicit Builder(std::string_view place) : place_(place) {}
  Value take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(std::int64_t v) override { return put(v); }
  bool number_unsigned(std::uint64_t v) override { return put(v); }
  bool number_float(double v, const std::string&) override { return put(v); }
  bool string(std::string& v) override { return put(std::move(v)); }
  bool binary(Value::binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Value::object()); }
  bool start_array(std::size_t) override { return open(Value::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    auto& object = stack_.back()->get_ref<Value::object_t&>();
    const auto [it, is_new] = object.try_emplace(name, nullptr);
    if (!is_new) fail<ContractError>("{}: key {}: expected each key once", place_, printable(name));
    slot_ = &it->second;
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&,
                   const nlohmann::json::exception&) override {
    fail<ContractError>("{}: byte {}: expected valid JSON", place_, byte);
  }

 private:
  static constexpr std::size_t kMaxDepth = 64;

  Value* place(Value&& value) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (stack_.back()->is_array()) {
      stack_.back()->push_back(std::move(value));
      return &stack_.back()->back();
    }
    *slot_ = std::move(value);
    return slot_;
  }
  bool put(Value value) { return place(std::move(value)) != nullptr; }
  bool open(Value container) {
    if (stack_.size() >= kMaxDepth)
      fail<ContractError>("{}: expected JSON nested at most {} deep", place_, kMaxDepth);
    stack_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  std::string place_;
  Value root_;
  std::vector<Value*> stack_;
  Value* slot_ = nullptr;
};

}  // namespace

nlohmann::json parse_strict_json(std::string_view text, std::string_view place) {
  require_utf8(text, place);
  Builder builder(place);
  try {
    nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  } catch (const nlohmann::json::exception&) {
    fail<ContractError>("{}: expected valid JSON", place);
  }
  return builder.take();
}

nlohmann::json read_strict_json(const std::filesystem::path& file) {
  return parse_strict_json(read_file(file), file.string());
}

void JsonView::reject(std::string_view expected) const {
  if (key_.empty()) fail<ContractError>("{}: expected {}", place_, expected);
  fail<ContractError>("{}: {}: expected {}", place_, key_, expected);
}

bool JsonView::has(const char* key) const {
  if (!value_->is_object()) return false;
  const auto it = value_->find(key);
  return it != value_->end() && !it->is_null();
}

JsonView JsonView::at(const char* key) const {
  object();
  const std::string name = key_.empty() ? key : key_ + "." + key;
  const auto it = value_->find(key);
  if (it == value_->end())
    fail<ContractError>("{}: {}: expected this key, it is missing", place_, name);
  return {*it, place_, name};
}

JsonView JsonView::at(std::size_t index) const {
  return {value_->at(index), place_, fmt::format("{}[{}]", key_, index)};
}

JsonView JsonView::object() const {
  if (!value_->is_object()) reject("an object");
  return *this;
}
JsonView JsonView::array() const {
  if (!value_->is_array()) reject("a list");
  return *this;
}
std::int64_t JsonView::integer() const {
  if (!value_->is_number_integer() ||
      (value_->is_number_unsigned() && value_->get<std::uint64_t>() > std::uint64_t{INT64_MAX}))
    reject("an integer");
  return value_->get<std::int64_t>();
}
double JsonView::number() const {
  if (!value_->is_number() || !std::isfinite(value_->get<double>())) reject("a finite number");
  return value_->get<double>();
}
bool JsonView::boolean() const {
  if (!value_->is_boolean()) reject("true or false");
  return value_->get<bool>();
}
const std::string& JsonView::string() const {
  if (!value_->is_string()) reject("a string");
  return value_->get_ref<const std::string&>();
}

std::int64_t JsonView::integer(const char* key, std::int64_t fallback) const {
  return has(key) ? at(key).integer() : fallback;
}
double JsonView::number(const char* key, double fallback) const {
  return has(key) ? at(key).number() : fallback;
}
bool JsonView::boolean(const char* key, bool fallback) const {
  return has(key) ? at(key).boolean() : fallback;
}
std::string JsonView::string(const char* key, std::string_view fallback) const {
  return has(key) ? at(key).string() : std::string(fallback);
}

}  // namespace vi::model
