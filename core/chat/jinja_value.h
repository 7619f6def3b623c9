// Values of the template language: Python's, as far as templates see them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/common/error.h"
#include "core/common/json.h"

namespace vi::model::jinja {

// What a template does wrong; the evaluator adds place and line.
struct Trouble : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Value;

struct Undefined {
  std::string name;  // of what was looked for
};
struct None {};
struct List {
  std::vector<Value> items;
  bool tuple = false;
};
struct Dict {
  std::vector<std::pair<std::string, Value>> items;  // in order of insertion
  const Value* find(std::string_view key) const;
  void set(std::string key, Value value);
};
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;

  // The argument at `index` or named `name`; null if neither is given.
  const Value* find(std::size_t index, std::string_view name) const;
  const Value& get(std::size_t index, std::string_view name) const;  // Trouble if it is missing
  void at_most(std::size_t n) const;                                 // Trouble if more are given
};
using Function = std::function<Value(const Arguments&)>;
// loop, namespace().
class Object {
 public:
  virtual ~Object() = default;
  virtual const char* type_name() const = 0;
  virtual Value attribute(std::string_view name) const = 0;
  virtual bool set(std::string_view name, Value value);  // false: it cannot be set
};

class Value {
 public:
  Value() : data_(Undefined{}) {}
  Value(Undefined v) : data_(std::move(v)) {}
  Value(None v) : data_(v) {}
  Value(bool v) : data_(v) {}
  Value(std::int64_t v) : data_(v) {}
  Value(int v) : data_(std::int64_t{v}) {}
  Value(double v) : data_(v) {}
  Value(std::string v) : data_(std::make_shared<const std::string>(std::move(v))) {}
  Value(const char* v) : Value(std::string(v)) {}
  Value(List v) : data_(std::make_shared<const List>(std::move(v))) {}
  Value(Dict v) : data_(std::make_shared<const Dict>(std::move(v))) {}
  Value(Function v) : data_(std::make_shared<const Function>(std::move(v))) {}
  Value(std::shared_ptr<Object> v) : data_(std::move(v)) {}
  static Value from_json(const Json& json);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_integer() const { return std::holds_alternative<std::int64_t>(data_); }
  bool is_real() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_bool() || is_integer() || is_real(); }
  bool is_string() const { return std::holds_alternative<std::shared_ptr<const std::string>>(data_); }
  bool is_list() const { return std::holds_alternative<std::shared_ptr<const List>>(data_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<const Dict>>(data_); }
  bool is_function() const { return std::holds_alternative<std::shared_ptr<const Function>>(data_); }
  bool is_object() const { return std::holds_alternative<std::shared_ptr<Object>>(data_); }

  // The caller has asked is_*() first.
  bool boolean() const { return std::get<bool>(data_); }
  const std::string& string() const { return *std::get<std::shared_ptr<const std::string>>(data_); }
  const List& list() const { return *std::get<std::shared_ptr<const List>>(data_); }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  const Function& function() const { return *std::get<std::shared_ptr<const Function>>(data_); }
  const std::shared_ptr<Object>& object() const { return std::get<std::shared_ptr<Object>>(data_); }
  const Undefined& undefined() const { return std::get<Undefined>(data_); }

  std::int64_t as_integer(std::string_view what) const;  // bool too; Trouble for anything else
  double as_real() const;                                // of a number
  const std::string& as_string(std::string_view what) const;
  bool truthy() const;
  std::string type_name() const;
  bool same_identity(const Value& other) const;

 private:
  std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<const List>, std::shared_ptr<const Dict>, std::shared_ptr<const Function>,
               std::shared_ptr<Object>>
      data_;
};

bool equal(const Value& a, const Value& b, int depth = 0);
// < 0, 0, > 0; Trouble for types that have no order.
int compare(const Value& a, const Value& b, int depth = 0);
bool contains(const Value& container, const Value& item);
std::vector<Value> iterate(const Value& value);  // a string's characters, a dict's keys
std::int64_t length(const Value& value);         // in characters for a string
std::string to_text(const Value& value);         // str()
std::string repr(const Value& value, int depth = 0);
std::string real_text(double value);             // repr() of a float

struct JsonStyle {
  int indent = -1;  // < 0: one line
  bool ensure_ascii = false, sort_keys = false;
  std::string item_separator = ", ", key_separator = ": ";
};
std::string to_json(const Value& value, const JsonStyle& style);

// Largest string or list that an operation may make.
inline constexpr std::size_t kMaxValueBytes = 64 << 20;

inline bool Object::set(std::string_view, Value) { return false; }

}  // namespace vi::model::jinja
