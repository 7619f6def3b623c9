// The tree of a template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/chat/jinja_value.h"

namespace vi::model::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

enum class ExprKind {
  constant,   // value
  name,       // text
  list,       // children
  tuple,      // children
  dict,       // children: key, value, key, value, ...
  attribute,  // children[0].text
  item,       // children[0][children[1]]
  slice,      // children[0][children[1] : children[2] : children[3]], null where left out
  call,       // children[0](arguments)
  filter,     // children[0] | text(arguments)
  test,       // children[0] is text(arguments)
  unary,      // text: "-", "+", "not"
  binary,     // text: + - * / // % ** ~ and or
  compare,    // children[0] operators[0] children[1] operators[1] children[2] ...
  condition   // children[0] if children[1] else children[2] (may be null)
};

struct Expr {
  ExprKind kind = ExprKind::constant;
  int line = 0;
  Value value;
  std::string text;
  std::vector<ExprPtr> children;
  std::vector<std::string> operators;
  // Of call, filter, test: positional, then by name.
  std::vector<ExprPtr> arguments;
  std::vector<std::pair<std::string, ExprPtr>> named;
};

enum class NodeKind {
  text,
  print,
  for_loop,
  condition,
  set,
  set_block,
  macro,
  group,
  break_loop,
  continue_loop
};

struct Node {
  NodeKind kind = NodeKind::text;
  int line = 0;
  std::string text;    // text; macro: its name
  ExprPtr expression;  // print; for: what it runs over; if: the condition; set: the value
  ExprPtr filter;      // for ... if
  ExprPtr target;      // for, set: a name, tuple of names, or attribute of a namespace
  std::vector<std::unique_ptr<Node>> body, otherwise;       // otherwise: else
  std::vector<std::pair<std::string, ExprPtr>> parameters;  // macro; null: no default
};
using Nodes = std::vector<std::unique_ptr<Node>>;

// Trouble for what cannot be parsed, with `line` set to where.
Nodes parse(std::string_view source, int& line);

}  // namespace vi::model::jinja
