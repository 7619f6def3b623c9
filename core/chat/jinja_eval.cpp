#include "core/chat/jinja_eval.h"

#include "core/common/error.h"
#include "core/common/utf8.h"

namespace vi::model::jinja {
namespace {

constexpr int kMaxDepth = 700;

// namespace(): the one thing whose attributes `set` may change.
class Namespace final : public Object {
 public:
  explicit Namespace(const Arguments& arguments) {
    for (const Value& v : arguments.positional) {
      if (!v.is_dict()) throw Trouble("namespace: expected a dict or named values");
      for (const auto& [key, value] : v.dict().items) names_.set(key, value);
    }
    for (const auto& [key, value] : arguments.keyword) names_.set(key, value);
  }
  const char* type_name() const override { return "a namespace"; }
  Value attribute(std::string_view name) const override {
    const Value* value = names_.find(name);
    return value ? *value : Value(Undefined{std::string(name)});
  }
  bool set(std::string_view name, Value value) override {
    // A namespace that holds itself would never be freed.
    if (value.is_object() || value.is_function())
      throw Trouble("a namespace takes plain values only");
    names_.set(std::string(name), std::move(value));
    return true;
  }

 private:
  Dict names_;
};

}  // namespace

class Evaluator::Loop final : public Object {
 public:
  explicit Loop(const std::vector<Value>& items) : items_(items) {}
  const char* type_name() const override { return "loop"; }
  void go_to(std::size_t i) { index_ = i; }

  Value attribute(std::string_view name) const override {
    const auto i = static_cast<std::int64_t>(index_), n = static_cast<std::int64_t>(items_.size());
    if (name == "index") return i + 1;
    if (name == "index0") return i;
    if (name == "revindex") return n - i;
    if (name == "revindex0") return n - i - 1;
    if (name == "first") return i == 0;
    if (name == "last") return i == n - 1;
    if (name == "length") return n;
    if (name == "depth") return 1;  // of recursive loops, which we do not have
    if (name == "depth0") return 0;
    if (name == "previtem")
      return index_ > 0 ? items_[index_ - 1] : Value(Undefined{"loop.previtem"});
    if (name == "nextitem")
      return index_ + 1 < items_.size() ? items_[index_ + 1] : Value(Undefined{"loop.nextitem"});
    if (name == "cycle") {
      return Function([i](const Arguments& a) -> Value {
        if (a.positional.empty()) throw Trouble("loop.cycle: expected values");
        return a.positional[static_cast<std::size_t>(i) % a.positional.size()];
      });
    }
    return Undefined{"loop." + std::string(name)};
  }

 private:
  std::vector<Value> items_;
  std::size_t index_ = 0;
};

void Evaluator::step(std::int64_t n) {
  if ((steps_ += n) > limits_.steps)
    throw Trouble(fmt::format("the template takes more than {} steps", limits_.steps));
}

void Evaluator::emit(std::string& out, const std::string& text) {
  emitted_ += text.size();
  if (emitted_ > limits_.output_bytes)
    throw Trouble(fmt::format("the template writes more than {} bytes", limits_.output_bytes));
  out += text;
}

std::string Evaluator::run(const Nodes& nodes) {
  globals_.set("namespace", Function([](const Arguments& a) -> Value {
                 return std::shared_ptr<Object>(std::make_shared<Namespace>(a));
               }));
  std::string out;
  run(nodes, out);
  return out;
}

Evaluator::Flow Evaluator::run(const Nodes& nodes, std::string& out) {
  for (const auto& node : nodes) {
    const Flow flow = run(*node, out);
    if (flow != Flow::next) return flow;
  }
  return Flow::next;
}

Evaluator::Flow Evaluator::run(const Node& node, std::string& out) {
  line_ = node.line;
  step();
  switch (node.kind) {
    case NodeKind::text:
      emit(out, node.text);
      break;
    case NodeKind::print:
      emit(out, to_text(eval(*node.expression)));
      break;
    case NodeKind::condition:
      return run(eval(*node.expression).truthy() ? node.body : node.otherwise, out);
    case NodeKind::for_loop:
      return run_loop(node, out);
    case NodeKind::set:
      assign(*node.target, eval(*node.expression));
      break;
    case NodeKind::set_block: {
      std::string text;
      const auto outer = scope_;
      scope_ = std::make_shared<Scope>();
      scope_->parent = outer;
      const Flow flow = run(node.body, text);
      scope_ = outer;
      if (flow != Flow::next) throw Trouble("break or continue inside a set block");
      assign(*node.target, text);
      break;
    }
    case NodeKind::macro:
      define_macro(node);
      break;
    case NodeKind::group:
      return run(node.body, out);
    case NodeKind::break_loop:
      return Flow::break_loop;
    case NodeKind::continue_loop:
      return Flow::continue_loop;
  }
  return Flow::next;
}

Evaluator::Flow Evaluator::run_loop(const Node& node, std::string& out) {
  std::vector<Value> items = iterate(eval(*node.expression));
  const auto outer = scope_;
  const auto restore = [&] { scope_ = outer; };
  const auto enter = [&](const Value& value) {
    scope_ = std::make_shared<Scope>();
    scope_->parent = outer;
    assign(*node.target, value);
  };
  if (node.filter) {
    std::vector<Value> kept;
    for (Value& value : items) {
      step();
      enter(value);
      if (eval(*node.filter).truthy()) kept.push_back(std::move(value));
      restore();
    }
    items = std::move(kept);
  }
  if (items.empty()) {
    const Flow flow = run(node.otherwise, out);
    return flow;
  }
  const auto loop = std::make_shared<Loop>(items);
  for (std::size_t i = 0; i < items.size(); ++i) {
    step();
    loop->go_to(i);
    enter(items[i]);
    scope_->names["loop"] = std::static_pointer_cast<Object>(loop);
    const Flow flow = run(node.body, out);
    restore();
    if (flow == Flow::break_loop) break;
  }
  return Flow::next;
}

void Evaluator::define_macro(const Node& node) {
  // Weak: the scope holds the macro, the macro must not hold the scope.
  const std::weak_ptr<Scope> home = scope_;
  const Node* macro = &node;
  scope_->names[node.text] = Function([this, macro, home](const Arguments& given) -> Value {
    if (++depth_ > kMaxDepth) throw Trouble("macros call each other too deeply");
    const auto caller = scope_;
    auto inner = std::make_shared<Scope>();
    inner->parent = home.lock();
    scope_ = inner;
    if (given.positional.size() > macro->parameters.size())
      throw Trouble(fmt::format("macro {}: expected at most {} arguments", printable(macro->text),
                                macro->parameters.size()));
    for (const auto& [name, value] : given.keyword) {
      bool known = false;
      for (const auto& [parameter, fallback] : macro->parameters) known |= parameter == name;
      if (!known)
        throw Trouble(
            fmt::format("macro {}: no parameter {}", printable(macro->text), printable(name)));
    }
    for (std::size_t i = 0; i < macro->parameters.size(); ++i) {
      const auto& [name, fallback] = macro->parameters[i];
      const Value* value = given.find(i, name);
      inner->names[name] = value ? *value : fallback ? eval(*fallback) : Value(Undefined{name});
    }
    std::string text;
    run(macro->body, text);
    emitted_ -= std::min(emitted_, text.size());  // counted again where it is printed
    scope_ = caller;
    --depth_;
    return text;
  });
}

void Evaluator::assign(const Expr& target, const Value& value) {
  if (target.kind == ExprKind::name) {
    if (value.is_function() && scope_->names.size() > 10000) throw Trouble("too many names");
    scope_->names[target.text] = value;
  } else if (target.kind == ExprKind::attribute) {
    const Value owner = eval(*target.children[0]);
    if (!owner.is_object() || !owner.object()->set(target.text, value))
      throw Trouble(
          fmt::format("expected a namespace to set an attribute of, got {}", owner.type_name()));
  } else {
    const std::vector<Value> parts = iterate(value);
    if (parts.size() != target.children.size())
      throw Trouble(fmt::format("expected {} values to unpack, got {}", target.children.size(),
                                parts.size()));
    for (std::size_t i = 0; i < parts.size(); ++i) assign(*target.children[i], parts[i]);
  }
}

Arguments Evaluator::arguments(const Expr& e) {
  Arguments out;
  for (const auto& a : e.arguments) out.positional.push_back(eval(*a));
  for (const auto& [name, a] : e.named) out.keyword.emplace_back(name, eval(*a));
  return out;
}

Value Evaluator::eval(const Expr& e) {
  Value value = eval_inner(e);
  // Long strings and lists cost steps too: a few steps must not copy gigabytes.
  if (value.is_string())
    step(1 + static_cast<std::int64_t>(value.string().size() / 256));
  else if (value.is_list())
    step(1 + static_cast<std::int64_t>(value.list().items.size() / 16));
  else
    step();
  return value;
}

Value Evaluator::eval_inner(const Expr& e) {
  if (++depth_ > kMaxDepth) throw Trouble("the expression is nested too deeply");
  struct Leave {
    int& depth;
    ~Leave() { --depth; }
  } leave{depth_};
  const auto child = [&](std::size_t i) {
    return e.children[i] ? eval(*e.children[i]) : Value(None{});
  };
  switch (e.kind) {
    case ExprKind::constant:
      return e.value;
    case ExprKind::name:
      return eval_name(e);
    case ExprKind::list:
    case ExprKind::tuple: {
      List list;
      list.tuple = e.kind == ExprKind::tuple;
      for (const auto& c : e.children) list.items.push_back(eval(*c));
      return list;
    }
    case ExprKind::dict: {
      Dict dict;
      for (std::size_t i = 0; i < e.children.size(); i += 2)
        dict.set(child(i).as_string("key of a dict"), child(i + 1));
      return dict;
    }
    case ExprKind::attribute:
      return attribute(child(0), e.text);
    case ExprKind::item:
      return item(child(0), child(1));
    case ExprKind::slice:
      return slice(child(0), child(1), child(2), child(3));
    case ExprKind::call:
      return eval_call(e);
    case ExprKind::filter: {
      const Value value = child(0);
      return apply_filter(*this, e.text, value, arguments(e));
    }
    case ExprKind::test: {
      const Value value = child(0);
      return apply_test(e.text, value, arguments(e));
    }
    case ExprKind::unary: {
      const Value value = child(0);
      if (e.text == "not") return !value.truthy();
      if (!value.is_number())
        throw Trouble(fmt::format("{}: expected a number, got {}", e.text, value.type_name()));
      if (value.is_real()) return e.text == "-" ? -value.as_real() : value.as_real();
      return binary(e.text, 0, value);
    }
    case ExprKind::binary:
      return eval_binary(e);
    case ExprKind::compare:
      return eval_compare(e);
    case ExprKind::condition:
      if (child(1).truthy()) return child(0);
      return e.children[2] ? child(2) : Value(Undefined{"(no else)"});
  }
  return Undefined{};
}

Value Evaluator::eval_name(const Expr& e) const {
  for (const Scope* s = scope_.get(); s; s = s->parent.get()) {
    const auto it = s->names.find(e.text);
    if (it != s->names.end()) return it->second;
  }
  const Value* global = globals_.find(e.text);
  return global ? *global : Value(Undefined{e.text});
}

Value Evaluator::eval_call(const Expr& e) {
  const Value callee = eval(*e.children[0]);
  if (!callee.is_function()) {
    line_ = e.line;
    throw Trouble(fmt::format("expected a function to call, got {}", callee.type_name()));
  }
  const Arguments given = arguments(e);
  line_ = e.line;
  return callee.function()(given);
}

Value Evaluator::eval_compare(const Expr& e) {
  Value left = eval(*e.children[0]);
  for (std::size_t i = 0; i < e.operators.size(); ++i) {
    Value right = eval(*e.children[i + 1]);
    const std::string& op = e.operators[i];
    bool holds;
    if (op == "==")
      holds = equal(left, right);
    else if (op == "!=")
      holds = !equal(left, right);
    else if (op == "in")
      holds = contains(right, left);
    else if (op == "not in")
      holds = !contains(right, left);
    else if (op == "<")
      holds = compare(left, right) < 0;
    else if (op == "<=")
      holds = compare(left, right) <= 0;
    else if (op == ">")
      holds = compare(left, right) > 0;
    else
      holds = compare(left, right) >= 0;
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

Value Evaluator::eval_binary(const Expr& e) {
  Value left = eval(*e.children[0]);
  if (e.text == "and") return left.truthy() ? eval(*e.children[1]) : left;
  if (e.text == "or") return left.truthy() ? left : eval(*e.children[1]);
  const Value right = eval(*e.children[1]);
  return binary(e.text, left, right);
}

// ---- Template ----

namespace {

// Filters and tests that are not there are syntax errors in Jinja2, wherever they stand.
void check_names(const Expr& e, int& line) {
  if (e.kind == ExprKind::filter || e.kind == ExprKind::test) {
    line = e.line;
    if (e.kind == ExprKind::filter && !is_filter(e.text))
      throw Trouble("no filter " + printable(e.text));
    if (e.kind == ExprKind::test && !is_test(e.text)) throw Trouble("no test " + printable(e.text));
  }
  for (const auto& c : e.children)
    if (c) check_names(*c, line);
  for (const auto& a : e.arguments) check_names(*a, line);
  for (const auto& [name, a] : e.named) check_names(*a, line);
}

void check_names(const Nodes& nodes, int& line) {
  for (const auto& n : nodes) {
    for (const Expr* e : {n->expression.get(), n->filter.get(), n->target.get()})
      if (e) check_names(*e, line);
    for (const auto& [name, fallback] : n->parameters)
      if (fallback) check_names(*fallback, line);
    check_names(n->body, line);
    check_names(n->otherwise, line);
  }
}

}  // namespace

struct Template::Impl {
  std::string place;
  Nodes nodes;
};

Template::Template(std::string_view source, std::string_view place)
    : impl_(std::make_unique<Impl>()) {
  impl_->place = place;
  require_utf8(source, place);
  int line = 1;
  try {
    impl_->nodes = parse(source, line);
    check_names(impl_->nodes, line);
  } catch (const Trouble& trouble) {
    fail<ContractError>("{}: line {}: {}", place, line, trouble.what());
  }
}
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

std::string Template::render(const Json& variables, const std::optional<std::tm>& now,
                             const Limits& limits) const {
  int line = 1;
  std::unique_ptr<Evaluator> evaluator;
  try {
    const Value given = Value::from_json(variables);
    if (!given.is_dict()) throw Trouble("expected variables as an object");
    Dict globals;
    add_globals(globals, now);
    for (const auto& [key, value] : given.dict().items) globals.set(key, value);
    evaluator = std::make_unique<Evaluator>(std::move(globals), limits);
    return evaluator->run(impl_->nodes);
  } catch (const Trouble& trouble) {
    if (evaluator) line = evaluator->line();
    fail<ContractError>("{}: line {}: {}", impl_->place, line, printable(trouble.what()));
  }
}

}  // namespace vi::model::jinja
