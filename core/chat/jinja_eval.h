// Running a template: scopes, statements, expressions. Filters, tests and methods are functions of
// values (jinja_builtins.cpp, jinja_methods.cpp).
#pragma once

#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/chat/jinja.h"
#include "core/chat/jinja_ast.h"

namespace vi::model::jinja {

class Evaluator;

// Trouble if there is no filter or test of this name.
Value apply_filter(Evaluator& evaluator, std::string_view name, const Value& value,
                   const Arguments& arguments);
bool apply_test(std::string_view name, const Value& value, const Arguments& arguments);
bool is_filter(std::string_view name);
bool is_test(std::string_view name);
// A method of a string, list or dict bound to it; undefined if there is none.
Value method(const Value& value, std::string_view name);
// value.name, value["name"]: undefined if there is nothing.
Value attribute(const Value& value, std::string_view name);
Value item(const Value& value, const Value& key);
Value slice(const Value& value, const Value& start, const Value& stop, const Value& step);
Value binary(std::string_view op, const Value& a, const Value& b);
void add_globals(Dict& globals, const std::optional<std::tm>& now);
// Trouble if a string or list would be larger than kMaxValueBytes.
void check_size(std::size_t bytes);

class Evaluator {
 public:
  Evaluator(Dict globals, const Limits& limits) : limits_(limits), globals_(std::move(globals)) {}

  std::string run(const Nodes& nodes);
  int line() const { return line_; }
  void step(std::int64_t n = 1);  // Trouble when the limit of steps is passed

 private:
  struct Scope {
    std::map<std::string, Value, std::less<>> names;
    std::shared_ptr<Scope> parent;
  };
  enum class Flow { next, break_loop, continue_loop };
  class Loop;

  Flow run(const Nodes& nodes, std::string& out);
  Flow run(const Node& node, std::string& out);
  Flow run_loop(const Node& node, std::string& out);
  void define_macro(const Node& node);
  void assign(const Expr& target, const Value& value);
  void emit(std::string& out, const std::string& text);

  Value eval(const Expr& e);
  Value eval_inner(const Expr& e);
  Value eval_name(const Expr& e) const;
  Value eval_call(const Expr& e);
  Value eval_compare(const Expr& e);
  Value eval_binary(const Expr& e);
  Arguments arguments(const Expr& e);

  Limits limits_;
  Dict globals_;
  std::shared_ptr<Scope> scope_ = std::make_shared<Scope>();
  std::int64_t steps_ = 0;
  int line_ = 1, depth_ = 0;
  std::size_t emitted_ = 0;
};

}  // namespace vi::model::jinja
