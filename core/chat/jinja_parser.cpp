// Recursive descent over the tokens; precedence is Jinja2's.
#include <charconv>

#include "core/chat/jinja_ast.h"
#include "core/chat/jinja_lexer.h"
#include "core/common/error.h"
#include "core/common/utf8.h"

namespace vi::model::jinja {
namespace {

constexpr int kMaxNesting = 150, kMaxChain = 500;

class Parser {
 public:
  Parser(std::vector<Token> tokens, int& line) : tokens_(std::move(tokens)), line_(line) {}

  Nodes run() {
    Nodes nodes = body({});
    if (now().kind != TokenKind::end) reject("the end of the template");
    return nodes;
  }

 private:
  struct Deeper {  // counts nesting, so that hostile templates do not overflow the stack
    explicit Deeper(Parser& p) : parser(p) {
      if (++parser.depth_ > kMaxNesting)
        throw Trouble(fmt::format("expected nesting below {}", kMaxNesting));
    }
    ~Deeper() { --parser.depth_; }
    Parser& parser;
  };

  const Token& now() const { return tokens_[at_]; }
  const Token& after() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() {
    line_ = now().line;
    return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_];
  }
  bool is_op(std::string_view text) const {
    return now().kind == TokenKind::op && now().text == text;
  }
  bool is_name(std::string_view text) const {
    return now().kind == TokenKind::name && now().text == text;
  }
  bool skip_op(std::string_view text) {
    if (!is_op(text)) return false;
    take();
    return true;
  }
  bool skip_name(std::string_view text) {
    if (!is_name(text)) return false;
    take();
    return true;
  }
  void want_op(std::string_view text) {
    if (!skip_op(text)) reject(text);
  }
  [[noreturn]] void reject(std::string_view expected) {
    line_ = now().line;
    const std::string got = now().kind == TokenKind::end         ? "the end"
                            : now().kind == TokenKind::block_end ? "%}"
                            : now().kind == TokenKind::print_end ? "}}"
                            : now().kind == TokenKind::text      ? "text"
                                                                 : printable(now().text);
    throw Trouble(fmt::format("expected {}, got {}", expected, got));
  }
  std::string name(std::string_view what) {
    if (now().kind != TokenKind::name) reject(what);
    return take().text;
  }
  void block_end() {
    if (now().kind != TokenKind::block_end) reject("%}");
    take();
  }
  ExprPtr make(ExprKind kind, std::string text = "") {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->line = now().line;
    e->text = std::move(text);
    return e;
  }
  ExprPtr make(ExprKind kind, ExprPtr a, ExprPtr b, std::string text = "") {
    auto e = make(kind, std::move(text));
    e->line = a->line;
    e->children.push_back(std::move(a));
    if (b) e->children.push_back(std::move(b));
    return e;
  }
  std::unique_ptr<Node> node(NodeKind kind) {
    auto n = std::make_unique<Node>();
    n->kind = kind;
    n->line = now().line;
    return n;
  }

  // ---- statements ----

  // Nodes until a block that starts with one of `ends`, whose name is then the current token.
  Nodes body(std::initializer_list<std::string_view> ends) {
    const Deeper deeper(*this);
    Nodes nodes;
    for (;;) {
      line_ = now().line;
      if (now().kind == TokenKind::text) {
        auto n = node(NodeKind::text);
        n->text = take().text;
        nodes.push_back(std::move(n));
      } else if (now().kind == TokenKind::print_begin) {
        auto n = node(NodeKind::print);
        take();
        n->expression = tuple(true);
        if (now().kind != TokenKind::print_end) reject("}}");
        take();
        nodes.push_back(std::move(n));
      } else if (now().kind == TokenKind::block_begin) {
        for (const std::string_view end : ends)
          if (after().kind == TokenKind::name && after().text == end) {
            take();
            return nodes;
          }
        take();
        nodes.push_back(statement());
      } else {
        if (ends.size() > 0) reject(fmt::format("{{% {} %}}", *ends.begin()));
        return nodes;
      }
    }
  }
  void end(std::string_view word) {
    if (!skip_name(word)) reject(word);
    block_end();
  }

  std::unique_ptr<Node> statement() {
    const std::string word = name("the name of a statement");
    if (word == "for") return for_loop();
    if (word == "if") return condition();
    if (word == "set") return set();
    if (word == "macro") return macro();
    if (word == "generation") {
      auto n = node(NodeKind::group);
      block_end();
      n->body = body({"endgeneration"});
      end("endgeneration");
      return n;
    }
    if (word == "break" || word == "continue") {
      auto n = node(word == "break" ? NodeKind::break_loop : NodeKind::continue_loop);
      if (loops_ == 0) throw Trouble(fmt::format("expected {} inside a loop", word));
      block_end();
      return n;
    }
    throw Trouble(fmt::format("expected for, if, set, macro, generation, break or continue, got {}",
                              printable(word)));
  }

  std::unique_ptr<Node> for_loop() {
    auto n = node(NodeKind::for_loop);
    n->target = target();
    if (!skip_name("in")) reject("in");
    n->expression = tuple(false);  // without `if`: that is the loop's filter
    if (skip_name("if")) n->filter = expression();
    if (is_name("recursive")) reject("a loop that is not recursive");
    block_end();
    ++loops_;
    n->body = body({"endfor", "else"});
    --loops_;
    if (skip_name("else")) {
      block_end();
      n->otherwise = body({"endfor"});
    }
    end("endfor");
    return n;
  }

  std::unique_ptr<Node> condition() {
    const Deeper deeper(*this);
    auto n = node(NodeKind::condition);
    n->expression = tuple(true);
    block_end();
    n->body = body({"elif", "else", "endif"});
    if (skip_name("elif")) {
      n->otherwise.push_back(condition());  // takes the endif
      return n;
    }
    if (skip_name("else")) {
      block_end();
      n->otherwise = body({"endif"});
    }
    end("endif");
    return n;
  }

  std::unique_ptr<Node> set() {
    auto n = node(NodeKind::set);
    n->target = target();
    if (skip_op("=")) {
      n->expression = tuple(true);
      block_end();
      return n;
    }
    n->kind = NodeKind::set_block;
    if (n->target->kind == ExprKind::tuple || now().kind != TokenKind::block_end) reject("=");
    block_end();
    n->body = body({"endset"});
    end("endset");
    return n;
  }

  std::unique_ptr<Node> macro() {
    auto n = node(NodeKind::macro);
    n->text = name("the name of the macro");
    want_op("(");
    while (!is_op(")")) {
      if (!n->parameters.empty()) want_op(",");
      std::string parameter = name("a parameter");
      ExprPtr fallback;
      if (skip_op("=")) fallback = expression();
      n->parameters.emplace_back(std::move(parameter), std::move(fallback));
    }
    take();
    block_end();
    const int loops = loops_;
    loops_ = 0;
    n->body = body({"endmacro"});
    loops_ = loops;
    end("endmacro");
    return n;
  }

  // A name, namespace.attribute, or names with commas.
  ExprPtr target() {
    const bool bracket = skip_op("(");
    ExprPtr first = one_target();
    if (is_op(",")) {
      ExprPtr all = make(ExprKind::tuple);
      all->children.push_back(std::move(first));
      while (skip_op(",")) {
        if (now().kind != TokenKind::name || is_name("in")) break;
        all->children.push_back(one_target());
      }
      first = std::move(all);
    }
    if (bracket) want_op(")");
    return first;
  }
  ExprPtr one_target() {
    ExprPtr e = make(ExprKind::name);
    e->text = name("a name to set");
    if (e->text == "true" || e->text == "false" || e->text == "none" || e->text == "not" ||
        e->text == "in")
      throw Trouble(fmt::format("expected a name to set, got {}", e->text));
    if (is_op(".")) {
      take();
      ExprPtr member = make(ExprKind::attribute);
      member->text = name("an attribute");
      member->children.push_back(std::move(e));
      return member;
    }
    return e;
  }

  // ---- expressions ----

  // An expression, or several with commas: a tuple.
  ExprPtr tuple(bool with_condition) {
    const auto one = [&] { return with_condition ? expression() : or_(); };
    ExprPtr first = one();
    if (!is_op(",")) return first;
    ExprPtr all = make(ExprKind::tuple);
    all->children.push_back(std::move(first));
    while (skip_op(",")) {
      if (now().kind == TokenKind::block_end || now().kind == TokenKind::print_end || is_op(")"))
        break;
      all->children.push_back(one());
    }
    return all;
  }

  ExprPtr expression() {
    const Deeper deeper(*this);
    const int links = chain_;
    ExprPtr e = or_();
    while (skip_name("if")) {
      link();
      ExprPtr condition = or_(), otherwise;
      if (skip_name("else")) otherwise = expression();
      ExprPtr whole = make(ExprKind::condition, std::move(e), std::move(condition));
      whole->children.push_back(std::move(otherwise));
      e = std::move(whole);
    }
    chain_ = links;
    return e;
  }
  ExprPtr or_() {
    const int links = chain_;
    ExprPtr e = and_();
    while (skip_name("or")) e = chain(std::move(e), and_(), "or");
    chain_ = links;
    return e;
  }
  ExprPtr and_() {
    ExprPtr e = not_();
    while (skip_name("and")) e = chain(std::move(e), not_(), "and");
    return e;
  }
  // Left-leaning chains grow the tree without recursion here, but are evaluated (and freed) by
  // recursion.
  void link() {
    if (++chain_ > kMaxChain)
      throw Trouble(fmt::format("expected an expression of at most {} links", kMaxChain));
  }
  ExprPtr chain(ExprPtr a, ExprPtr b, std::string op) {
    link();
    return make(ExprKind::binary, std::move(a), std::move(b), std::move(op));
  }
  ExprPtr not_() {
    const Deeper deeper(*this);
    if (is_name("not")) {
      ExprPtr e = make(ExprKind::unary, "not");
      take();
      e->children.push_back(not_());
      return e;
    }
    return compare_();
  }
  ExprPtr compare_() {
    ExprPtr e = sum();
    ExprPtr all;
    for (;;) {
      std::string op;
      if (now().kind == TokenKind::op &&
          (now().text == "==" || now().text == "!=" || now().text == "<" || now().text == "<=" ||
           now().text == ">" || now().text == ">=")) {
        op = take().text;
      } else if (skip_name("in")) {
        op = "in";
      } else if (is_name("not") && after().kind == TokenKind::name && after().text == "in") {
        take();
        take();
        op = "not in";
      } else {
        return all ? std::move(all) : std::move(e);
      }
      if (!all) all = make(ExprKind::compare, std::move(e), nullptr);
      all->operators.push_back(op);
      all->children.push_back(sum());
    }
  }
  ExprPtr sum() {
    ExprPtr e = concatenation();
    while (is_op("+") || is_op("-")) {
      std::string op = take().text;
      e = chain(std::move(e), concatenation(), op);
    }
    return e;
  }
  ExprPtr concatenation() {
    ExprPtr e = product();
    while (skip_op("~")) e = chain(std::move(e), product(), "~");
    return e;
  }
  ExprPtr product() {
    ExprPtr e = power();
    while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
      std::string op = take().text;
      e = chain(std::move(e), power(), op);
    }
    return e;
  }
  ExprPtr power() {
    ExprPtr e = unary(true);
    while (skip_op("**")) e = chain(std::move(e), unary(true), "**");
    return e;
  }
  ExprPtr unary(bool with_filter) {
    const Deeper deeper(*this);
    ExprPtr e;
    if (is_op("-") || is_op("+")) {
      e = make(ExprKind::unary, now().text);
      take();
      e->children.push_back(unary(false));
    } else {
      e = primary();
    }
    e = postfix(std::move(e));
    return with_filter ? filters(std::move(e)) : std::move(e);
  }

  ExprPtr primary() {
    const Deeper deeper(*this);
    ExprPtr e = make(ExprKind::constant);
    const Token token = now();
    switch (token.kind) {
      case TokenKind::name:
        take();
        if (token.text == "true" || token.text == "True")
          e->value = true;
        else if (token.text == "false" || token.text == "False")
          e->value = false;
        else if (token.text == "none" || token.text == "None")
          e->value = None{};
        else {
          e->kind = ExprKind::name;
          e->text = token.text;
        }
        return e;
      case TokenKind::string: {
        std::string text;
        while (now().kind == TokenKind::string) text += take().text;
        e->value = std::move(text);
        return e;
      }
      case TokenKind::integer: {
        std::int64_t value = 0;
        const auto [end, error] =
            std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
        if (error != std::errc()) reject("an integer below 2^63");
        take();
        e->value = value;
        return e;
      }
      case TokenKind::real: {
        double value = 0;
        const auto [end, error] =
            std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
        if (error != std::errc()) reject("a float in range");
        take();
        e->value = value;
        return e;
      }
      default:
        break;
    }
    if (skip_op("(")) {
      if (skip_op(")")) {
        e->kind = ExprKind::tuple;
        return e;
      }
      e = tuple(true);
      want_op(")");
      return e;
    }
    if (skip_op("[")) {
      e->kind = ExprKind::list;
      while (!is_op("]")) {
        if (!e->children.empty()) {
          want_op(",");
          if (is_op("]")) break;
        }
        e->children.push_back(expression());
      }
      take();
      return e;
    }
    if (skip_op("{")) {
      e->kind = ExprKind::dict;
      while (!is_op("}")) {
        if (!e->children.empty()) {
          want_op(",");
          if (is_op("}")) break;
        }
        e->children.push_back(expression());
        want_op(":");
        e->children.push_back(expression());
      }
      take();
      return e;
    }
    reject("an expression");
  }

  ExprPtr postfix(ExprPtr e) {
    for (;; link()) {
      if (skip_op(".")) {
        ExprPtr next = make(ExprKind::attribute);
        if (now().kind == TokenKind::integer) {
          next->kind = ExprKind::item;
          next->children.push_back(std::move(e));
          next->children.push_back(primary());
        } else {
          next->text = name("an attribute");
          next->children.push_back(std::move(e));
        }
        e = std::move(next);
      } else if (skip_op("[")) {
        e = subscript(std::move(e));
      } else if (is_op("(")) {
        ExprPtr call = make(ExprKind::call);
        call->children.push_back(std::move(e));
        arguments(*call);
        e = std::move(call);
      } else {
        return e;
      }
    }
  }

  ExprPtr subscript(ExprPtr e) {
    ExprPtr parts[3];
    int colons = 0;
    while (!is_op("]")) {
      if (skip_op(":")) {
        if (++colons > 2) reject("at most two colons");
      } else {
        if (parts[colons]) reject("]");
        parts[colons] = expression();
      }
    }
    take();
    if (colons == 0) {
      if (!parts[0]) reject("an index");
      return make(ExprKind::item, std::move(e), std::move(parts[0]));
    }
    ExprPtr slice = make(ExprKind::slice, std::move(e), nullptr);
    for (ExprPtr& part : parts) slice->children.push_back(std::move(part));
    return slice;
  }

  // ( a, b, name=c )
  void arguments(Expr& e) {
    want_op("(");
    bool first = true;
    while (!is_op(")")) {
      if (!first) {
        want_op(",");
        if (is_op(")")) break;
      }
      first = false;
      if (is_op("*") || is_op("**")) reject("arguments without *");
      if (now().kind == TokenKind::name && after().kind == TokenKind::op && after().text == "=") {
        std::string key = take().text;
        take();
        e.named.emplace_back(std::move(key), expression());
      } else {
        if (!e.named.empty()) reject("no positional argument after a named one");
        e.arguments.push_back(expression());
      }
    }
    take();
  }

  ExprPtr filters(ExprPtr e) {
    for (;; link()) {
      if (skip_op("|")) {
        ExprPtr filter = make(ExprKind::filter, std::move(e), nullptr);
        filter->line = now().line;
        filter->text = name("the name of a filter");
        if (is_op("(")) arguments(*filter);
        e = std::move(filter);
      } else if (skip_name("is")) {
        const bool negated = skip_name("not");
        ExprPtr test = make(ExprKind::test, std::move(e), nullptr);
        test->line = now().line;
        test->text = name("the name of a test");
        const bool word = now().kind == TokenKind::name && !is_name("else") && !is_name("or") &&
                          !is_name("and") && !is_name("if") && !is_name("in") && !is_name("not");
        if (is_op("(")) {
          arguments(*test);
        } else if (is_name("is")) {
          reject("no test behind a test");
        } else if (word || now().kind == TokenKind::string || now().kind == TokenKind::integer ||
                   now().kind == TokenKind::real || is_op("[") || is_op("{")) {
          test->arguments.push_back(postfix(primary()));
        }
        e = std::move(test);
        if (negated) e = make(ExprKind::unary, std::move(e), nullptr, "not");
      } else if (is_op("(")) {
        ExprPtr call = make(ExprKind::call);
        call->children.push_back(std::move(e));
        arguments(*call);
        e = std::move(call);
      } else {
        return e;
      }
    }
  }

  std::vector<Token> tokens_;
  int& line_;
  std::size_t at_ = 0;
  int depth_ = 0, loops_ = 0, chain_ = 0;
};

}  // namespace

Nodes parse(std::string_view source, int& line) { return Parser(lex(source, line), line).run(); }

}  // namespace vi::model::jinja
