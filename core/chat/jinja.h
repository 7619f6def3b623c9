// The part of Jinja2 that Hugging Face's chat templates use, with their settings: trim_blocks,
// lstrip_blocks, loop controls, sandboxed (nothing can be changed in place), no autoescape.
//
// In: text, {{ }}, {# #}, for (filter, else, tuple targets, loop.*) / break / continue, if / elif / else, set
// (targets, namespace attributes, blocks), macro, generation, raw; + - * / // % ** ~, comparisons (chained),
// in, and / or / not, a if b else c, literals, slices, methods of strings and dicts, the filters and tests of
// jinja_builtins.cpp; range, namespace, dict, raise_exception, strftime_now.
// Out (ContractError with the line): include, import, extends, block, call, filter blocks, recursive loops,
// `%` formatting, str.format, keys of dicts that are not strings.
#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/common/json.h"

namespace vi::model::jinja {

struct Limits {
  std::int64_t steps = 50'000'000;       // expressions evaluated and loop turns
  std::size_t output_bytes = 256 << 20;  // of the text, and of any string on the way
};

class Template {
 public:
  // ContractError "<place>: line N: ..." for a syntax error or something outside the subset.
  Template(std::string_view source, std::string_view place);
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  // `variables` is an object. ContractError "<place>: line N: ..." if evaluation fails or raises.
  std::string render(const Json& variables, const std::optional<std::tm>& now = std::nullopt,
                     const Limits& limits = {}) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vi::model::jinja
