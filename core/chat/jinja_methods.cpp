// Methods, attributes, items, slices and arithmetic of values.
#include <algorithm>
#include <cmath>
#include <span>

#include "core/chat/jinja_eval.h"
#include "core/chat/jinja_text.h"
#include "core/common/error.h"
#include "core/common/utf8.h"

namespace vi::model::jinja {
namespace {

using Method = Value (*)(const Value& self, const Arguments& a);
struct Row {
  std::string_view name;
  Method function;
};

std::vector<std::string> prefixes(const Arguments& a) {
  const Value& v = a.get(0, "prefix");
  a.at_most(1);
  std::vector<std::string> out;
  if (v.is_list())
    for (const Value& item : v.list().items) out.push_back(item.as_string("startswith, endswith"));
  else
    out.push_back(v.as_string("startswith, endswith"));
  return out;
}

const std::string& text_argument(const Arguments& a, std::size_t i) {
  return a.get(i, "text").as_string("argument");
}

template <bool kLeft, bool kRight>
Value strip_method(const Value& s, const Arguments& a) {
  a.at_most(1);
  const Value* chars = a.find(0, "chars");
  return strip(s.string(), chars && !chars->is_none() ? &chars->as_string("strip") : nullptr, kLeft,
               kRight);
}

template <bool kFromRight>
Value split_method(const Value& s, const Arguments& a) {
  a.at_most(2);
  const Value* separator = a.find(0, "sep");
  const Value* limit = a.find(1, "maxsplit");
  List list;
  const bool any = !separator || separator->is_none();
  for (std::string& part : split(s.string(), any ? nullptr : &separator->as_string("split"),
                                 limit ? limit->as_integer("maxsplit") : -1, kFromRight))
    list.items.emplace_back(std::move(part));
  return list;
}

Value position(const Value& s, const Arguments& a, bool from_right) {
  a.at_most(1);
  const std::string &text = s.string(), &part = text_argument(a, 0);
  const std::size_t at = from_right ? text.rfind(part) : text.find(part);
  return at == std::string::npos ? std::int64_t{-1} : length(text.substr(0, at));
}

constexpr Row kStringMethods[] = {
    {"strip", strip_method<true, true>},
    {"lstrip", strip_method<true, false>},
    {"rstrip", strip_method<false, true>},
    {"split", split_method<false>},
    {"rsplit", split_method<true>},
    {"splitlines",
     [](const Value& s, const Arguments& a) -> Value {
       a.at_most(0);
       List list;
       for (std::string& line : split_lines(s.string())) list.items.emplace_back(std::move(line));
       return list;
     }},
    {"startswith",
     [](const Value& s, const Arguments& a) -> Value {
       const auto list = prefixes(a);
       return std::any_of(list.begin(), list.end(),
                          [&](const std::string& p) { return s.string().starts_with(p); });
     }},
    {"endswith",
     [](const Value& s, const Arguments& a) -> Value {
       const auto list = prefixes(a);
       return std::any_of(list.begin(), list.end(),
                          [&](const std::string& p) { return s.string().ends_with(p); });
     }},
    {"removeprefix",
     [](const Value& s, const Arguments& a) -> Value {
       const std::string& p = text_argument(a, 0);
       return s.string().starts_with(p) ? Value(s.string().substr(p.size())) : s;
     }},
    {"removesuffix",
     [](const Value& s, const Arguments& a) -> Value {
       const std::string& p = text_argument(a, 0);
       return s.string().ends_with(p) ? Value(s.string().substr(0, s.string().size() - p.size()))
                                      : s;
     }},
    {"replace",
     [](const Value& s, const Arguments& a) -> Value {
       a.at_most(3);
       const Value* count = a.find(2, "count");
       return replace(s.string(), text_argument(a, 0), text_argument(a, 1),
                      count ? count->as_integer("count") : -1);
     }},
    {"upper",
     [](const Value& s, const Arguments& a) -> Value {
       a.at_most(0);
       return upper(s.string());
     }},
    {"lower",
     [](const Value& s, const Arguments& a) -> Value {
       a.at_most(0);
       return lower(s.string());
     }},
    {"title",
     [](const Value& s, const Arguments& a) -> Value {
       a.at_most(0);
       return title(s.string());
     }},
    {"capitalize",
     [](const Value& s, const Arguments& a) -> Value {
       a.at_most(0);
       return capitalize(s.string());
     }},
    {"find", [](const Value& s, const Arguments& a) { return position(s, a, false); }},
    {"rfind", [](const Value& s, const Arguments& a) { return position(s, a, true); }},
    {"index",
     [](const Value& s, const Arguments& a) {
       const Value at = position(s, a, false);
       if (at.as_integer("") < 0) throw Trouble("index: the string does not hold the part");
       return at;
     }},
    {"count",
     [](const Value& s, const Arguments& a) -> Value {
       a.at_most(1);
       return count(s.string(), text_argument(a, 0));
     }},
    {"join",
     [](const Value& s, const Arguments& a) -> Value {
       a.at_most(1);
       std::string out;
       bool first = true;
       for (const Value& v : iterate(a.get(0, "iterable"))) {
         if (!first) out += s.string();
         first = false;
         out += v.as_string("join");
         check_size(out.size());
       }
       return out;
     }},
    {"isdigit",
     [](const Value& s, const Arguments&) -> Value { return all_ascii(s.string(), '0', '9'); }},
};

constexpr Row kDictMethods[] = {
    {"items",
     [](const Value& d, const Arguments& a) -> Value {
       a.at_most(0);
       List list;
       for (const auto& [key, value] : d.dict().items) {
         List pair{{key, value}, true};
         list.items.emplace_back(std::move(pair));
       }
       return list;
     }},
    {"keys",
     [](const Value& d, const Arguments& a) -> Value {
       a.at_most(0);
       return List{iterate(d), false};
     }},
    {"values",
     [](const Value& d, const Arguments& a) -> Value {
       a.at_most(0);
       List list;
       for (const auto& [key, value] : d.dict().items) list.items.push_back(value);
       return list;
     }},
    {"get",
     [](const Value& d, const Arguments& a) -> Value {
       a.at_most(2);
       const Value& key = a.get(0, "key");
       const Value* found = key.is_string() ? d.dict().find(key.string()) : nullptr;
       const Value* fallback = a.find(1, "default");
       return found ? *found : fallback ? *fallback : Value(None{});
     }},
    {"copy", [](const Value& d, const Arguments&) { return d; }},
};

constexpr Row kListMethods[] = {
    {"index",
     [](const Value& l, const Arguments& a) -> Value {
       a.at_most(1);
       const auto& items = l.list().items;
       for (std::size_t i = 0; i < items.size(); ++i)
         if (equal(items[i], a.get(0, "value"))) return static_cast<std::int64_t>(i);
       throw Trouble("index: the list does not hold the value");
     }},
    {"count",
     [](const Value& l, const Arguments& a) -> Value {
       a.at_most(1);
       const auto& items = l.list().items;
       return static_cast<std::int64_t>(
           std::count_if(items.begin(), items.end(),
                         [&](const Value& v) { return equal(v, a.get(0, "value")); }));
     }},
    {"copy", [](const Value& l, const Arguments&) { return l; }},
};

// What the sandbox refuses, and what is outside our subset: an error when it is looked up, not
// undefined.
constexpr std::string_view kRefusedOfStrings[] = {
    "center",   "encode",    "expandtabs", "format",    "format_map", "isalnum",
    "isalpha",  "isdecimal", "islower",    "isnumeric", "isspace",    "istitle",
    "isupper",  "ljust",     "partition",  "rjust",     "rpartition", "rindex",
    "swapcase", "casefold",  "translate",  "zfill"};
constexpr std::string_view kRefusedOfLists[] = {"append", "clear",  "extend",  "insert",
                                                "pop",    "remove", "reverse", "sort"};
constexpr std::string_view kRefusedOfDicts[] = {"clear",   "fromkeys",   "pop",
                                                "popitem", "setdefault", "update"};

std::span<const std::string_view> refused(const Value& value) {
  if (value.is_string()) return kRefusedOfStrings;
  if (value.is_list()) return kRefusedOfLists;
  if (value.is_dict()) return kRefusedOfDicts;
  return {};
}

template <std::size_t N>
Value find_method(const Row (&table)[N], const Value& self, std::string_view name) {
  for (const Row& row : table)
    if (row.name == name) {
      const Method function = row.function;
      return Function([self, function](const Arguments& a) { return function(self, a); });
    }
  return Undefined{std::string(name)};
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (b == 0) throw Trouble("division by zero");
  if (b == -1) {
    std::int64_t out;
    if (__builtin_sub_overflow(std::int64_t{0}, a, &out)) throw Trouble("the number is too large");
    return out;
  }
  return a / b - ((a % b != 0 && (a % b < 0) != (b < 0)) ? 1 : 0);
}

Value integer_arithmetic(std::string_view op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  bool overflow = false;
  if (op == "+")
    overflow = __builtin_add_overflow(a, b, &out);
  else if (op == "-")
    overflow = __builtin_sub_overflow(a, b, &out);
  else if (op == "*")
    overflow = __builtin_mul_overflow(a, b, &out);
  else if (op == "//")
    out = floor_divide(a, b);
  else if (op == "%")
    out = b == -1 ? 0 : a - floor_divide(a, b) * b;
  else if (op == "/") {
    if (b == 0) throw Trouble("division by zero");
    return static_cast<double>(a) / static_cast<double>(b);
  } else {  // **
    if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
    out = 1;
    if (a == 0 || a == 1) return b == 0 ? std::int64_t{1} : a;
    if (a == -1) return b % 2 ? std::int64_t{-1} : std::int64_t{1};
    for (std::int64_t i = 0; i < b && !overflow; ++i)
      overflow = __builtin_mul_overflow(out, a, &out);
  }
  if (overflow) throw Trouble("the number is too large");
  return out;
}

Value real_arithmetic(std::string_view op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) throw Trouble("division by zero");
  if (op == "/") return a / b;
  if (op == "//") return std::floor(a / b);
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

Value repeat(const Value& value, std::int64_t times) {
  const std::size_t n = times > 0 ? static_cast<std::size_t>(times) : 0;
  const std::size_t unit =
      value.is_string() ? value.string().size() : value.list().items.size() * sizeof(Value);
  if (unit > 0 && n > kMaxValueBytes / unit) check_size(kMaxValueBytes + 1);
  if (value.is_string()) {
    std::string out;
    for (std::size_t i = 0; unit > 0 && i < n; ++i) out += value.string();
    return out;
  }
  List list;
  list.tuple = value.list().tuple;
  for (std::size_t i = 0; unit > 0 && i < n; ++i)
    list.items.insert(list.items.end(), value.list().items.begin(), value.list().items.end());
  return list;
}

}  // namespace

void check_size(std::size_t bytes) {
  if (bytes > kMaxValueBytes)
    throw Trouble(fmt::format("a value of more than {} bytes", kMaxValueBytes));
}

Value method(const Value& value, std::string_view name) {
  Value found = value.is_string() ? find_method(kStringMethods, value, name)
                : value.is_dict() ? find_method(kDictMethods, value, name)
                : value.is_list() ? find_method(kListMethods, value, name)
                                  : Value(Undefined{std::string(name)});
  if (!found.is_undefined()) return found;
  for (const std::string_view name_of : refused(value))
    if (name_of == name)
      throw Trouble(fmt::format("the method {} of {} is not supported", name, value.type_name()));
  return found;
}

Value attribute(const Value& value, std::string_view name) {
  if (value.is_undefined())
    throw Trouble(fmt::format("{} is undefined, it has no attribute {}",
                              printable(value.undefined().name), printable(name)));
  if (value.is_object()) return value.object()->attribute(name);
  const Value found = method(value, name);
  if (!found.is_undefined() || !value.is_dict()) return found;
  const Value* entry = value.dict().find(name);
  return entry ? *entry : found;
}

Value item(const Value& value, const Value& key) {
  if (value.is_undefined())
    throw Trouble(
        fmt::format("{} is undefined, it has no items", printable(value.undefined().name)));
  if (value.is_dict()) {
    if (!key.is_string()) return Undefined{"an item"};
    const Value* entry = value.dict().find(key.string());
    return entry ? *entry : method(value, key.string());
  }
  if (key.is_string())
    return value.is_object() ? value.object()->attribute(key.string())
                             : method(value, key.string());
  if (!value.is_list() && !value.is_string()) return Undefined{"an item"};
  if (!key.is_integer() && !key.is_bool()) return Undefined{"an item"};
  const std::int64_t n = length(value);
  std::int64_t i = key.as_integer("index");
  if (i < 0) i += n;
  if (i < 0 || i >= n) return Undefined{fmt::format("item {}", key.as_integer(""))};
  if (value.is_list()) return value.list().items[static_cast<std::size_t>(i)];
  return slice(value, i, i + 1, None{});
}

Value slice(const Value& value, const Value& start, const Value& stop, const Value& step_value) {
  if (value.is_undefined())
    throw Trouble(
        fmt::format("{} is undefined, it has no items", printable(value.undefined().name)));
  if (!value.is_list() && !value.is_string())
    throw Trouble(value.type_name() + " cannot be sliced");
  const std::int64_t n = length(value);
  const std::int64_t step = step_value.is_none() ? 1 : step_value.as_integer("slice");
  if (step == 0) throw Trouble("slice: expected a step other than 0");
  const auto bound = [&](const Value& v, std::int64_t fallback) {
    if (v.is_none()) return fallback;
    std::int64_t i = v.as_integer("slice");
    if (i < 0) i += n;
    return std::clamp<std::int64_t>(i, step > 0 ? 0 : -1, step > 0 ? n : n - 1);
  };
  const std::int64_t first = bound(start, step > 0 ? 0 : n - 1),
                     last = bound(stop, step > 0 ? n : -1);
  std::vector<std::int64_t> picks;
  for (std::int64_t i = first; step > 0 ? i < last : i > last;) {
    picks.push_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  if (value.is_list()) {
    List list;
    list.tuple = value.list().tuple;
    for (const std::int64_t i : picks)
      list.items.push_back(value.list().items[static_cast<std::size_t>(i)]);
    return list;
  }
  const std::u32string points = to_code_points(value.string());
  std::string out;
  for (const std::int64_t i : picks) append_utf8(out, points[static_cast<std::size_t>(i)]);
  return out;
}

Value binary(std::string_view op, const Value& a, const Value& b) {
  if (op == "~") {
    std::string text = to_text(a) + to_text(b);
    check_size(text.size());
    return text;
  }
  if (a.is_number() && b.is_number()) {
    if (a.is_real() || b.is_real()) return real_arithmetic(op, a.as_real(), b.as_real());
    return integer_arithmetic(op, a.as_integer(op), b.as_integer(op));
  }
  if (op == "+" && a.is_string() && b.is_string()) {
    check_size(a.string().size() + b.string().size());
    return a.string() + b.string();
  }
  if (op == "+" && a.is_list() && b.is_list() && a.list().tuple == b.list().tuple) {
    List list = a.list();
    list.items.insert(list.items.end(), b.list().items.begin(), b.list().items.end());
    check_size(list.items.size() * sizeof(Value));
    return list;
  }
  const auto sequence = [](const Value& v) { return v.is_string() || v.is_list(); };
  const auto whole = [](const Value& v) { return v.is_integer() || v.is_bool(); };
  if (op == "*" && sequence(a) && whole(b)) return repeat(a, b.as_integer(op));
  if (op == "*" && whole(a) && sequence(b)) return repeat(b, a.as_integer(op));
  throw Trouble(fmt::format("{} does not work on {} and {}", op, a.type_name(), b.type_name()));
}

}  // namespace vi::model::jinja
