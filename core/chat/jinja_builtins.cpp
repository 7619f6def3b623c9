// Filters, tests and global functions: explicit tables.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/chat/jinja_eval.h"
#include "core/chat/jinja_text.h"
#include "core/common/error.h"
#include "core/common/utf8.h"

namespace vi::model::jinja {
namespace {

struct FilterRow {
  std::string_view name;
  Value (*function)(Evaluator& evaluator, const Value& value, const Arguments& a);
};
struct TestRow {
  std::string_view name;
  bool (*function)(const Value& value, const Arguments& a);
};

bool flag(const Arguments& a, std::size_t i, std::string_view name, bool fallback) {
  const Value* v = a.find(i, name);
  return v ? v->truthy() : fallback;
}

// "a.b.0" of a value, as `attribute=` takes it.
Value walk(const Value& value, const Value& path) {
  if (path.is_integer()) return item(value, path);
  Value at = value;
  std::string_view rest = path.as_string("attribute");
  for (;;) {
    const std::size_t dot = rest.find('.');
    const std::string part(rest.substr(0, dot));
    if (at.is_undefined()) return at;
    at = all_ascii(part, '0', '9') && part.size() < 10
             ? item(at, Value(std::int64_t{std::stoi(part)}))
             : item(at, part);
    if (dot == std::string_view::npos) return at;
    rest.remove_prefix(dot + 1);
  }
}

Value sorted(const Value& value, bool reverse, bool case_sensitive, const Value* path) {
  std::vector<Value> items = iterate(value);
  const auto key = [&](const Value& v) {
    Value k = path ? walk(v, *path) : v;
    return k.is_string() && !case_sensitive ? Value(lower(k.string())) : k;
  };
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& v : items) keyed.emplace_back(key(v), std::move(v));
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& x, const auto& y) {
    return reverse ? compare(y.first, x.first) < 0 : compare(x.first, y.first) < 0;
  });
  List list;
  for (auto& [k, v] : keyed) list.items.push_back(std::move(v));
  return list;
}

// select, reject, selectattr, rejectattr.
template <bool kKeep, bool kAttribute>
Value choose(Evaluator& evaluator, const Value& value, const Arguments& a) {
  List list;
  const std::size_t skip = kAttribute ? 1 : 0;
  for (const Value& v : iterate(value)) {
    evaluator.step();
    const Value subject = kAttribute ? walk(v, a.get(0, "attribute")) : v;
    bool holds;
    if (a.positional.size() > skip) {
      Arguments rest;
      rest.positional.assign(a.positional.begin() + static_cast<std::ptrdiff_t>(skip) + 1,
                             a.positional.end());
      holds = apply_test(a.positional[skip].as_string("test"), subject, rest);
    } else {
      holds = subject.truthy();
    }
    if (holds == kKeep) list.items.push_back(v);
  }
  return list;
}

Value map_filter(Evaluator& evaluator, const Value& value, const Arguments& a) {
  List list;
  const Value* path = nullptr;
  const Value* fallback = nullptr;
  for (const auto& [name, v] : a.keyword) {
    if (name == "attribute")
      path = &v;
    else if (name == "default")
      fallback = &v;
    else
      throw Trouble("map: expected attribute and default by name");
  }
  for (const Value& v : iterate(value)) {
    evaluator.step();
    if (path) {
      Value found = walk(v, *path);
      list.items.push_back(found.is_undefined() && fallback ? *fallback : std::move(found));
    } else {
      Arguments rest;
      const std::string& name = a.get(0, "filter").as_string("map");
      rest.positional.assign(a.positional.begin() + 1, a.positional.end());
      list.items.push_back(apply_filter(evaluator, name, v, rest));
    }
  }
  return list;
}

Value join_filter(Evaluator& evaluator, const Value& value, const Arguments& a) {
  a.at_most(2);
  const Value* separator = a.find(0, "d");
  const Value* path = a.find(1, "attribute");
  std::string out;
  bool first = true;
  for (const Value& v : iterate(value)) {
    evaluator.step();
    if (!first && separator) out += to_text(*separator);
    first = false;
    out += to_text(path ? walk(v, *path) : v);
    check_size(out.size());
  }
  return out;
}

Value to_json_filter(Evaluator&, const Value& value, const Arguments& a) {
  a.at_most(5);
  JsonStyle style;
  style.ensure_ascii = flag(a, 0, "ensure_ascii", false);
  if (const Value* indent = a.find(1, "indent"); indent && !indent->is_none()) {
    const std::int64_t n = indent->as_integer("indent");
    style.indent = static_cast<int>(std::clamp<std::int64_t>(n, 0, 64));
    style.item_separator = ",";
  }
  if (const Value* pair = a.find(2, "separators"); pair && !pair->is_none()) {
    const std::vector<Value> both = iterate(*pair);
    if (both.size() != 2) throw Trouble("tojson: expected two separators");
    style.item_separator = both[0].as_string("separators");
    style.key_separator = both[1].as_string("separators");
  }
  style.sort_keys = flag(a, 3, "sort_keys", false);
  return to_json(value, style);
}

Value indent_filter(Evaluator&, const Value& value, const Arguments& a) {
  a.at_most(3);
  const Value* width = a.find(0, "width");
  std::string space;
  if (width && width->is_string())
    space = width->string();
  else
    space.assign(static_cast<std::size_t>(
                     std::clamp<std::int64_t>(width ? width->as_integer("indent") : 4, 0, 1000)),
                 ' ');
  const bool first = flag(a, 1, "first", false), blank = flag(a, 2, "blank", false);
  std::string text = to_text(value);
  text += '\n';  // as Jinja2 does: splitlines() would lose the last newline
  const std::vector<std::string> lines = split_lines(text);
  std::string out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i) out += '\n';
    if ((i > 0 || first) && (blank || !lines[i].empty() || i == 0)) out += space;
    out += lines[i];
    check_size(out.size());
  }
  return out;
}

Value integer_filter(Evaluator&, const Value& value, const Arguments& a) {
  const Value* fallback = a.find(0, "default");
  const Value other = fallback ? *fallback : Value(0);
  if (value.is_bool() || value.is_integer()) return value.as_integer("int");
  double number = 0;
  if (value.is_real()) {
    number = value.as_real();
  } else {
    if (!value.is_string()) return other;
    const std::string text = strip(value.string(), nullptr, true, true);
    std::int64_t whole = 0;
    const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
    const auto [end, error] = std::from_chars(begin, text.data() + text.size(), whole);
    if (error == std::errc() && end == text.data() + text.size()) return whole;
    const auto real = std::from_chars(begin, text.data() + text.size(), number);
    if (real.ec != std::errc() || real.ptr != text.data() + text.size()) return other;
  }
  if (!(std::fabs(number) < 9.2e18)) return other;
  return static_cast<std::int64_t>(number);
}

Value real_filter(Evaluator&, const Value& value, const Arguments& a) {
  const Value* fallback = a.find(0, "default");
  const Value other = fallback ? *fallback : Value(0.0);
  if (value.is_number()) return value.as_real();
  if (!value.is_string()) return other;
  const std::string text = strip(value.string(), nullptr, true, true);
  double number = 0;
  const auto [end, error] = std::from_chars(text.data() + (text.starts_with('+') ? 1 : 0),
                                            text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? Value(number) : other;
}

Value round_filter(Evaluator&, const Value& value, const Arguments& a) {
  a.at_most(2);
  if (!value.is_number()) throw Trouble("round: expected a number, got " + value.type_name());
  const Value* precision = a.find(0, "precision");
  const Value* way = a.find(1, "method");
  const std::string how = way ? way->as_string("round") : "common";
  const double scale =
      std::pow(10.0, static_cast<double>(precision ? precision->as_integer("round") : 0));
  const double x = value.as_real() * scale;
  return (how == "ceil"    ? std::ceil(x)
          : how == "floor" ? std::floor(x)
                           : std::nearbyint(x)) /
         scale;
}

template <bool kLargest>
Value extreme(Evaluator&, const Value& value, const Arguments& a) {
  const Value* path = a.find(1, "attribute");
  const std::vector<Value> items = iterate(value);
  const Value* best = nullptr;
  for (const Value& v : items) {
    if (!best) {
      best = &v;
      continue;
    }
    const int order = path ? compare(walk(v, *path), walk(*best, *path)) : compare(v, *best);
    if (kLargest ? order > 0 : order < 0) best = &v;
  }
  return best ? *best : Value(Undefined{"an empty sequence"});
}

Value default_filter(Evaluator&, const Value& v, const Arguments& a) {
  a.at_most(2);
  const Value* fallback = a.find(0, "default_value");
  const bool missing = v.is_undefined() || (flag(a, 1, "boolean", false) && !v.truthy());
  return missing ? (fallback ? *fallback : Value("")) : v;
}

Value length_filter(Evaluator&, const Value& v, const Arguments& a) {
  a.at_most(0);
  return length(v);
}

constexpr FilterRow kFilters[] = {
    {"abs",
     [](Evaluator&, const Value& v, const Arguments&) -> Value {
       if (!v.is_number()) throw Trouble("abs: expected a number, got " + v.type_name());
       if (v.is_real()) return std::fabs(v.as_real());
       return v.as_integer("abs") < 0 ? binary("-", 0, v) : v;
     }},
    {"capitalize",
     [](Evaluator&, const Value& v, const Arguments&) -> Value { return capitalize(to_text(v)); }},
    {"count", length_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort",
     [](Evaluator&, const Value& v, const Arguments& a) -> Value {
       a.at_most(3);
       const Value* by = a.find(1, "by");
       const Value index = by && by->as_string("dictsort") == "value" ? 1 : 0;
       if (!v.is_dict()) throw Trouble("dictsort: expected a dict, got " + v.type_name());
       return sorted(method(v, "items").function()({}), flag(a, 2, "reverse", false),
                     flag(a, 0, "case_sensitive", false), &index);
     }},
    {"first",
     [](Evaluator&, const Value& v, const Arguments& a) -> Value {
       a.at_most(0);
       const std::vector<Value> items = iterate(v);
       return items.empty() ? Value(Undefined{"first of an empty sequence"}) : items.front();
     }},
    {"float", real_filter},
    {"indent", indent_filter},
    {"int", integer_filter},
    {"items",
     [](Evaluator&, const Value& v, const Arguments& a) -> Value {
       a.at_most(0);
       if (v.is_undefined()) return List{};
       if (!v.is_dict()) throw Trouble("items: expected a dict, got " + v.type_name());
       return method(v, "items").function()(a);
     }},
    {"join", join_filter},
    {"last",
     [](Evaluator&, const Value& v, const Arguments& a) -> Value {
       a.at_most(0);
       const std::vector<Value> items = iterate(v);
       return items.empty() ? Value(Undefined{"last of an empty sequence"}) : items.back();
     }},
    {"length", length_filter},
    {"list",
     [](Evaluator&, const Value& v, const Arguments&) -> Value {
       return List{iterate(v), false};
     }},
    {"lower",
     [](Evaluator&, const Value& v, const Arguments&) -> Value { return lower(to_text(v)); }},
    {"map", map_filter},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", choose<false, false>},
    {"rejectattr", choose<false, true>},
    {"replace",
     [](Evaluator&, const Value& v, const Arguments& a) -> Value {
       a.at_most(3);
       const Value* limit = a.find(2, "count");
       return replace(to_text(v), to_text(a.get(0, "old")), to_text(a.get(1, "new")),
                      limit && !limit->is_none() ? limit->as_integer("replace") : -1);
     }},
    {"reverse",
     [](Evaluator&, const Value& v, const Arguments&) -> Value {
       std::vector<Value> items = iterate(v);
       std::reverse(items.begin(), items.end());
       if (!v.is_string()) return List{std::move(items), false};
       std::string text;
       for (const Value& c : items) text += c.string();
       return text;
     }},
    {"round", round_filter},
    {"safe", [](Evaluator&, const Value& v, const Arguments&) -> Value { return to_text(v); }},
    {"select", choose<true, false>},
    {"selectattr", choose<true, true>},
    {"sort",
     [](Evaluator&, const Value& v, const Arguments& a) -> Value {
       a.at_most(3);
       return sorted(v, flag(a, 0, "reverse", false), flag(a, 1, "case_sensitive", false),
                     a.find(2, "attribute"));
     }},
    {"string", [](Evaluator&, const Value& v, const Arguments&) -> Value { return to_text(v); }},
    {"sum",
     [](Evaluator&, const Value& v, const Arguments& a) -> Value {
       const Value* path = a.find(0, "attribute");
       const Value* start = a.find(1, "start");
       Value total = start ? *start : Value(0);
       for (const Value& x : iterate(v)) total = binary("+", total, path ? walk(x, *path) : x);
       return total;
     }},
    {"title",
     [](Evaluator&, const Value& v, const Arguments&) -> Value {
       // Jinja2's own: a word begins behind a blank, dash or opening bracket.
       std::string out, word;
       for (const char c : to_text(v) + '\n') {
         if (std::string_view("-([{<").find(c) == std::string_view::npos &&
             !(c == ' ' || (c >= 9 && c <= 13))) {
           word += c;
           continue;
         }
         out += capitalize(word) + c;
         word.clear();
       }
       out.pop_back();
       return out;
     }},
    {"tojson", to_json_filter},
    {"trim",
     [](Evaluator&, const Value& v, const Arguments& a) -> Value {
       a.at_most(1);
       const Value* chars = a.find(0, "chars");
       return strip(to_text(v), chars && !chars->is_none() ? &chars->as_string("trim") : nullptr,
                    true, true);
     }},
    {"unique",
     [](Evaluator&, const Value& v, const Arguments& a) -> Value {
       const bool exact = flag(a, 0, "case_sensitive", false);
       const Value* path = a.find(1, "attribute");
       List list, seen;
       for (const Value& x : iterate(v)) {
         Value key = path ? walk(x, *path) : x;
         if (key.is_string() && !exact) key = lower(key.string());
         if (contains(Value(seen), key)) continue;
         seen.items.push_back(key);
         list.items.push_back(x);
       }
       return list;
     }},
    {"upper",
     [](Evaluator&, const Value& v, const Arguments&) -> Value { return upper(to_text(v)); }},
};

bool is_iterable(const Value& v) {
  return v.is_undefined() || v.is_string() || v.is_list() || v.is_dict();
}
bool equal_test(const Value& v, const Arguments& a) { return equal(v, a.get(0, "other")); }
bool differ_test(const Value& v, const Arguments& a) { return !equal(v, a.get(0, "other")); }
bool less_test(const Value& v, const Arguments& a) { return compare(v, a.get(0, "other")) < 0; }
bool more_test(const Value& v, const Arguments& a) { return compare(v, a.get(0, "other")) > 0; }
bool at_most_test(const Value& v, const Arguments& a) { return compare(v, a.get(0, "other")) <= 0; }
bool at_least_test(const Value& v, const Arguments& a) {
  return compare(v, a.get(0, "other")) >= 0;
}

constexpr TestRow kTests[] = {
    {"!=", differ_test},
    {"<", less_test},
    {"<=", at_most_test},
    {"==", equal_test},
    {">", more_test},
    {">=", at_least_test},
    {"boolean", [](const Value& v, const Arguments&) { return v.is_bool(); }},
    {"callable",
     [](const Value& v, const Arguments&) { return v.is_function() || v.is_undefined(); }},
    {"defined", [](const Value& v, const Arguments&) { return !v.is_undefined(); }},
    {"divisibleby",
     [](const Value& v, const Arguments& a) {
       return binary("%", v, a.get(0, "num")).as_integer("divisibleby") == 0;
     }},
    {"eq", equal_test},
    {"equalto", equal_test},
    {"even", [](const Value& v, const Arguments&) { return v.as_integer("even") % 2 == 0; }},
    {"false", [](const Value& v, const Arguments&) { return v.is_bool() && !v.boolean(); }},
    {"float", [](const Value& v, const Arguments&) { return v.is_real(); }},
    {"ge", at_least_test},
    {"greaterthan", more_test},
    {"gt", more_test},
    {"in", [](const Value& v, const Arguments& a) { return contains(a.get(0, "seq"), v); }},
    {"integer", [](const Value& v, const Arguments&) { return v.is_integer(); }},
    {"iterable", [](const Value& v, const Arguments&) { return is_iterable(v); }},
    {"le", at_most_test},
    {"lessthan", less_test},
    {"lower",
     [](const Value& v, const Arguments&) {
       const std::string t = to_text(v);
       return t == lower(t) && t != upper(t);
     }},
    {"lt", less_test},
    {"mapping", [](const Value& v, const Arguments&) { return v.is_dict(); }},
    {"ne", differ_test},
    {"none", [](const Value& v, const Arguments&) { return v.is_none(); }},
    {"number", [](const Value& v, const Arguments&) { return v.is_number(); }},
    {"odd", [](const Value& v, const Arguments&) { return v.as_integer("odd") % 2 != 0; }},
    {"sameas",
     [](const Value& v, const Arguments& a) { return v.same_identity(a.get(0, "other")); }},
    {"sequence", [](const Value& v, const Arguments&) { return is_iterable(v); }},
    {"string", [](const Value& v, const Arguments&) { return v.is_string(); }},
    {"true", [](const Value& v, const Arguments&) { return v.is_bool() && v.boolean(); }},
    {"undefined", [](const Value& v, const Arguments&) { return v.is_undefined(); }},
    {"upper",
     [](const Value& v, const Arguments&) {
       const std::string t = to_text(v);
       return t == upper(t) && t != lower(t);
     }},
};

template <class Row, std::size_t N>
const Row* find_row(const Row (&table)[N], std::string_view name) {
  for (const Row& row : table)
    if (row.name == name) return &row;
  return nullptr;
}

Value range(const Arguments& a) {
  a.at_most(3);
  const std::int64_t first = a.get(0, "stop").as_integer("range");
  const bool one = a.positional.size() == 1;
  const std::int64_t start = one ? 0 : first,
                     stop = one ? first : a.get(1, "stop").as_integer("range");
  const std::int64_t step = a.positional.size() > 2 ? a.positional[2].as_integer("range") : 1;
  if (step == 0) throw Trouble("range: expected a step other than 0");
  List list;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (list.items.size() >= 100000)
      throw Trouble("range: expected at most 100000 items");  // the sandbox's limit
    list.items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return list;
}

}  // namespace

bool is_filter(std::string_view name) { return find_row(kFilters, name) != nullptr; }
bool is_test(std::string_view name) { return find_row(kTests, name) != nullptr; }

Value apply_filter(Evaluator& evaluator, std::string_view name, const Value& value,
                   const Arguments& arguments) {
  if (const FilterRow* row = find_row(kFilters, name))
    return row->function(evaluator, value, arguments);
  throw Trouble("no filter " + printable(name));
}
bool apply_test(std::string_view name, const Value& value, const Arguments& arguments) {
  if (const TestRow* row = find_row(kTests, name)) return row->function(value, arguments);
  throw Trouble("no test " + printable(name));
}

void add_globals(Dict& globals, const std::optional<std::tm>& now) {
  globals.set("range", Function(range));
  globals.set("dict", Function([](const Arguments& a) -> Value {
                Dict dict;
                if (!a.positional.empty()) {
                  if (!a.positional[0].is_dict())
                    throw Trouble("dict: expected a dict or named values");
                  dict = a.positional[0].dict();
                }
                for (const auto& [key, value] : a.keyword) dict.set(key, value);
                return dict;
              }));
  globals.set("raise_exception", Function([](const Arguments& a) -> Value {
                throw Trouble("the template raises: " + to_text(a.get(0, "message")));
              }));
  if (!now) return;
  globals.set("strftime_now", Function([tm = *now](const Arguments& a) -> Value {
                const std::string& format = a.get(0, "format").as_string("strftime_now");
                if (format.empty()) return "";
                char text[256];
                const std::size_t n = std::strftime(text, sizeof text, format.c_str(), &tm);
                if (n == 0) throw Trouble("strftime_now: expected a format of a short date");
                return std::string(text, n);
              }));
}

}  // namespace vi::model::jinja
