#include "core/chat/jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/common/utf8.h"
#include "core/tokenizer/unicode.h"

namespace vi::model::jinja {
namespace {

constexpr int kMaxDepth = 100;

void check_depth(int depth) {
  if (depth > kMaxDepth) throw Trouble(fmt::format("values are nested deeper than {}", kMaxDepth));
}

// Not a control, format or space character of Latin-1, nor one of the few elsewhere that Python
// escapes.
bool printable_character(char32_t c) {
  if (c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad) return false;
  if (c < 0x100) return true;
  return !is_white_space(c) && !(c >= 0x200b && c <= 0x200f) && !(c >= 0x202a && c <= 0x202e) &&
         !(c >= 0x2060 && c <= 0x206f) && c != 0xfeff && !(c >= 0xe000 && c <= 0xf8ff);
}

std::string quote(const std::string& text) {
  const bool use_double =
      text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
  const char mark = use_double ? '"' : '\'';
  std::string out(1, mark);
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (c == static_cast<char32_t>(mark) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (printable_character(c)) {
      append_utf8(out, c);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<unsigned>(c));
    }
  }
  return out + mark;
}

std::string json_string(const std::string& text, bool ascii) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (c < 0x20 || (ascii && c > 0x7e && c < 0x10000)) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else if (ascii && c >= 0x10000) {
          const unsigned v = static_cast<unsigned>(c) - 0x10000;
          out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (v >> 10), 0xdc00 + (v & 0x3ff));
        } else {
          append_utf8(out, c);
        }
    }
  }
  return out + '"';
}

void write_json(const Value& value, const JsonStyle& style, int depth, std::string& out) {
  check_depth(depth);
  if (out.size() > kMaxValueBytes) throw Trouble("tojson makes too long a text");
  const auto line = [&](int level) {
    if (style.indent < 0) return;
    out += '\n';
    out.append(static_cast<std::size_t>(style.indent * level), ' ');
  };
  if (value.is_none()) {
    out += "null";
  } else if (value.is_bool()) {
    out += value.boolean() ? "true" : "false";
  } else if (value.is_integer()) {
    out += to_text(value);
  } else if (value.is_real()) {
    const double v = value.as_real();
    out += std::isnan(v)   ? "NaN"
           : std::isinf(v) ? (v > 0 ? "Infinity" : "-Infinity")
                           : real_text(v);
  } else if (value.is_string()) {
    out += json_string(value.string(), style.ensure_ascii);
  } else if (value.is_list()) {
    const auto& items = value.list().items;
    out += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i) out += style.item_separator;
      line(depth + 1);
      write_json(items[i], style, depth + 1, out);
    }
    if (!items.empty()) line(depth);
    out += ']';
  } else if (value.is_dict()) {
    auto items = value.dict().items;
    if (style.sort_keys)
      std::sort(items.begin(), items.end(),
                [](const auto& a, const auto& b) { return a.first < b.first; });
    out += '{';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i) out += style.item_separator;
      line(depth + 1);
      out += json_string(items[i].first, style.ensure_ascii) + style.key_separator;
      write_json(items[i].second, style, depth + 1, out);
    }
    if (!items.empty()) line(depth);
    out += '}';
  } else {
    throw Trouble("expected a value that JSON has, got " + value.type_name());
  }
}

int sign(double a, double b) { return a < b ? -1 : a > b ? 1 : 0; }

}  // namespace

const Value* Dict::find(std::string_view key) const {
  for (const auto& [k, v] : items)
    if (k == key) return &v;
  return nullptr;
}
void Dict::set(std::string key, Value value) {
  for (auto& [k, v] : items)
    if (k == key) {
      v = std::move(value);
      return;
    }
  items.emplace_back(std::move(key), std::move(value));
}

const Value* Arguments::find(std::size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [k, v] : keyword)
    if (k == name) return &v;
  return nullptr;
}
const Value& Arguments::get(std::size_t index, std::string_view name) const {
  if (const Value* value = find(index, name)) return *value;
  throw Trouble(fmt::format("expected the argument {}", name));
}
void Arguments::at_most(std::size_t n) const {
  if (positional.size() + keyword.size() > n)
    throw Trouble(fmt::format("expected at most {} arguments, got {}", n,
                              positional.size() + keyword.size()));
}

Value Value::from_json(const Json& json) {
  switch (json.type()) {
    case Json::value_t::null:
      return None{};
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<std::int64_t>();
    case Json::value_t::number_unsigned: {
      const auto v = json.get<std::uint64_t>();
      if (v > static_cast<std::uint64_t>(INT64_MAX)) return static_cast<double>(v);
      return static_cast<std::int64_t>(v);
    }
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      if (find_invalid_utf8(text) != std::string::npos)
        throw Trouble("expected variables in UTF-8");
      return text;
    }
    case Json::value_t::array: {
      List list;
      for (const Json& item : json) list.items.push_back(from_json(item));
      return list;
    }
    case Json::value_t::object: {
      Dict dict;
      for (const auto& [key, item] : json.items()) {
        if (find_invalid_utf8(key) != std::string::npos)
          throw Trouble("expected variables in UTF-8");
        dict.items.emplace_back(key, from_json(item));
      }
      return dict;
    }
    default:
      throw Trouble("expected a JSON value");
  }
}

std::int64_t Value::as_integer(std::string_view what) const {
  if (is_bool()) return boolean();
  if (is_integer()) return std::get<std::int64_t>(data_);
  throw Trouble(fmt::format("{}: expected an integer, got {}", what, type_name()));
}

double Value::as_real() const {
  if (is_real()) return std::get<double>(data_);
  return static_cast<double>(as_integer("number"));
}

const std::string& Value::as_string(std::string_view what) const {
  if (is_string()) return string();
  throw Trouble(fmt::format("{}: expected a string, got {}", what, type_name()));
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_real()) return as_real() != 0;
  if (is_number()) return as_integer("") != 0;
  if (is_string()) return !string().empty();
  if (is_list()) return !list().items.empty();
  if (is_dict()) return !dict().items.empty();
  return true;
}

std::string Value::type_name() const {
  if (is_undefined()) return fmt::format("undefined {}", printable(undefined().name));
  if (is_none()) return "none";
  if (is_bool()) return "a boolean";
  if (is_integer()) return "an integer";
  if (is_real()) return "a float";
  if (is_string()) return "a string";
  if (is_list()) return list().tuple ? "a tuple" : "a list";
  if (is_dict()) return "a dict";
  if (is_function()) return "a function";
  return object()->type_name();
}

bool Value::same_identity(const Value& other) const {
  if (data_.index() != other.data_.index()) return false;
  if (is_none() || is_undefined()) return true;
  if (is_bool()) return boolean() == other.boolean();
  if (is_list()) return &list() == &other.list();
  if (is_dict()) return &dict() == &other.dict();
  return is_number() || is_string() ? equal(*this, other) : false;
}

bool equal(const Value& a, const Value& b, int depth) {
  check_depth(depth);
  if (a.is_number() && b.is_number()) {
    if (a.is_real() || b.is_real()) return a.as_real() == b.as_real();
    return a.as_integer("") == b.as_integer("");
  }
  if (a.is_string() && b.is_string()) return a.string() == b.string();
  if (a.is_list() && b.is_list()) {
    const auto &x = a.list().items, &y = b.list().items;
    return a.list().tuple == b.list().tuple &&
           std::equal(x.begin(), x.end(), y.begin(), y.end(),
                      [&](const Value& p, const Value& q) { return equal(p, q, depth + 1); });
  }
  if (a.is_dict() && b.is_dict()) {
    if (a.dict().items.size() != b.dict().items.size()) return false;
    for (const auto& [key, value] : a.dict().items) {
      const Value* other = b.dict().find(key);
      if (!other || !equal(value, *other, depth + 1)) return false;
    }
    return true;
  }
  if (a.is_object() && b.is_object()) return a.object() == b.object();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

int compare(const Value& a, const Value& b, int depth) {
  check_depth(depth);
  if (a.is_number() && b.is_number()) {
    if (a.is_real() || b.is_real()) return sign(a.as_real(), b.as_real());
    const std::int64_t x = a.as_integer(""), y = b.as_integer("");
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.is_string() && b.is_string()) return a.string().compare(b.string());
  if (a.is_list() && b.is_list()) {
    const auto &x = a.list().items, &y = b.list().items;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!equal(x[i], y[i], depth + 1)) return compare(x[i], y[i], depth + 1);
    return x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0;
  }
  throw Trouble(fmt::format("{} and {} have no order", a.type_name(), b.type_name()));
}

bool contains(const Value& container, const Value& item) {
  if (container.is_string())
    return container.string().find(item.as_string("in")) != std::string::npos;
  if (container.is_dict()) return item.is_string() && container.dict().find(item.string());
  const std::vector<Value> items = iterate(container);
  return std::any_of(items.begin(), items.end(), [&](const Value& v) { return equal(v, item); });
}

std::vector<Value> iterate(const Value& value) {
  std::vector<Value> items;
  if (value.is_undefined()) return items;
  if (value.is_list()) return value.list().items;
  if (value.is_dict()) {
    for (const auto& [key, v] : value.dict().items) items.emplace_back(key);
    return items;
  }
  const std::string& text =
      value.is_string() ? value.string() : throw Trouble(value.type_name() + " has no items");
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    next_code_point(text, i);
    items.emplace_back(text.substr(begin, i - begin));
  }
  return items;
}

std::int64_t length(const Value& value) {
  if (value.is_undefined()) return 0;
  if (value.is_list()) return static_cast<std::int64_t>(value.list().items.size());
  if (value.is_dict()) return static_cast<std::int64_t>(value.dict().items.size());
  if (!value.is_string()) throw Trouble(value.type_name() + " has no length");
  return std::count_if(value.string().begin(), value.string().end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

std::string real_text(double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
  char buffer[64];
  const double size = std::fabs(v);
  const bool exponent = v != 0 && (size < 1e-4 || size >= 1e16);
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, v,
                    exponent ? std::chars_format::scientific : std::chars_format::fixed);
  std::string text(buffer, end.ptr);
  if (!exponent && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string repr(const Value& value, int depth) {
  check_depth(depth);
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "None";
  if (value.is_bool()) return value.boolean() ? "True" : "False";
  if (value.is_integer()) return fmt::format("{}", value.as_integer(""));
  if (value.is_real()) return real_text(value.as_real());
  if (value.is_string()) return quote(value.string());
  std::string out;
  const auto add = [&](const std::string& part, bool first) {
    if (!first) out += ", ";
    out += part;
    if (out.size() > kMaxValueBytes) throw Trouble("a value is too long to print");
  };
  if (value.is_list()) {
    const List& list = value.list();
    for (std::size_t i = 0; i < list.items.size(); ++i) add(repr(list.items[i], depth + 1), i == 0);
    if (list.tuple) return "(" + out + (list.items.size() == 1 ? ",)" : ")");
    return "[" + out + "]";
  }
  if (value.is_dict()) {
    const auto& items = value.dict().items;
    for (std::size_t i = 0; i < items.size(); ++i)
      add(quote(items[i].first) + ": " + repr(items[i].second, depth + 1), i == 0);
    return "{" + out + "}";
  }
  throw Trouble("expected a value to print, got " + value.type_name());
}

std::string to_text(const Value& value) {
  if (value.is_string()) return value.string();
  if (value.is_undefined()) return "";
  return repr(value);
}

std::string to_json(const Value& value, const JsonStyle& style) {
  std::string out;
  write_json(value, style, 0, out);
  return out;
}

}  // namespace vi::model::jinja
