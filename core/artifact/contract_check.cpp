// check_contract: walks the table against a file.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/artifact/contracts.h"
#include "core/common/error.h"
#include "core/common/half.h"

namespace vi::artifact {
namespace {

constexpr std::int64_t kMaxCount = 1024;      // layers, heads: far above any model
constexpr std::int64_t kMaxChannels = 65536;  // head_dim, dsub
constexpr std::string_view kSides[] = {"key", "value"};

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  const std::size_t at = text.find(what);
  return at == std::string::npos ? text : text.replace(at, what.size(), with);
}

// One file (or group of it) against one rule.
class Checker {
 public:
  Checker(const H5File& file, FileKind kind, const std::string& group)
      : file_(file), rule_(rule_of(kind)), group_(group) {}

  Expected expected();
  void check(Depth depth);

 private:
  template <class... Args>
  [[noreturn]] void broken(const std::string& place, fmt::format_string<Args...> format,
                           Args&&... args) const {
    fail<ContractError>("{}: {}: {}", file_.name(), place,
                        fmt::format(format, std::forward<Args>(args)...));
  }
  std::string at(std::string_view name) const {
    return name == "/" ? (group_.empty() ? "/" : group_) : group_ + std::string(name);
  }
  bool has_side(std::string_view side) const { return file_.exists(at("/" + std::string(side))); }
  std::int64_t whole(const std::string& object, const std::string& attr) const;
  void check_attrs();
  void check_shape(const std::string& path, const DatasetRule& rule, const std::string& side);
  void check_values(const std::string& path, const DatasetRule& rule) const;
  void check_strays(const std::string& group, const std::set<std::string>& known, int depth) const;
  void check_side(const std::string& side);
  void check_basis(const std::string& path) const;
  void bind(const std::string& symbol, std::int64_t value, const std::string& place);

  const H5File& file_;
  const FileRule& rule_;
  std::string group_;
  std::map<std::string, std::pair<std::int64_t, std::string>> symbols_;  // value, where it was said
};

std::int64_t Checker::whole(const std::string& object, const std::string& attr) const {
  const std::int64_t value = file_.attr_int(object, attr);
  const bool any = attr == "seed", zero = attr == "dead_centroids" || attr == "iterations" || attr.ends_with("_floored");
  if (!any && value < (zero ? 0 : 1))
    broken(object + "@" + attr, "expected a {} number, found {}",
           zero ? "non-negative" : "positive", value);
  const std::int64_t most = attr.starts_with("n_") ? kMaxCount : kMaxChannels;
  if (!any && !zero && value > most)
    broken(object + "@" + attr, "expected at most {}, found {}", most, value);
  return value;
}

void Checker::bind(const std::string& symbol, std::int64_t value, const std::string& place) {
  const auto [found, fresh] = symbols_.emplace(symbol, std::pair{value, place});
  if (!fresh && found->second.first != value)
    broken(place, "expected {} {} as in {}, found {}", symbol, found->second.first,
           found->second.second, value);
}

Expected Checker::expected() {
  Expected result;
  for (const AttrRule& attr : rule_.attrs) {
    if (attr.object.find("{side}") == std::string_view::npos) {
      result.attrs.emplace_back(at(attr.object), &attr);
      continue;
    }
    for (const std::string_view side : kSides)
      if (has_side(side))
        result.attrs.emplace_back(at(replaced(std::string(attr.object), "{side}", side)), &attr);
  }
  std::int64_t n_layers = 0;
  if (file_.has_attr(at("/"), "n_layers")) n_layers = whole(at("/"), "n_layers");
  const auto add = [&](const std::string& path, const DatasetRule& rule) {
    if (rule.required || file_.exists(path)) result.datasets.emplace_back(path, &rule);
  };
  for (const DatasetRule& rule : rule_.datasets) {
    const std::string path(rule.path);
    if (path.find("{layer}") != std::string::npos) {
      for (std::int64_t layer = 0; layer < n_layers; ++layer)
        add(at(replaced(path, "{layer}", fmt::format("layer_{:02}", layer))), rule);
      continue;
    }
    if (path.find("{side}") == std::string::npos) {
      add(at(path), rule);
      continue;
    }
    for (const std::string_view side : kSides) {
      const std::string of_side = replaced(path, "{side}", side);
      if (path.find("{n}") != std::string::npos) {
        const std::string attr = std::string(side) + "_steps";
        const auto steps =
            split_steps(file_.attr_text(at("/"), attr), file_.name() + ": " + at("/") + "@" + attr);
        const auto suffixes = step_suffixes(steps);
        std::string kind = path.substr(path.rfind('/') + 1, path.find("{n}") - path.rfind('/') - 1);
        if (kind == "basis_inverse") kind = "basis";
        for (std::size_t i = 0; i < steps.size(); ++i)
          if (steps[i] == kind) add(at(replaced(of_side, "{n}", suffixes[i])), rule);
      } else if (path.find("{i}") != std::string::npos) {
        for (int i = 1; file_.exists(at(replaced(of_side, "{i}", std::to_string(i)))); ++i)
          add(at(replaced(of_side, "{i}", std::to_string(i))), rule);
      } else if (rule_.kind != FileKind::codebook || has_side(side)) {
        add(at(of_side), rule);
      }
    }
  }
  return result;
}

void Checker::check_attrs() {
  const std::string root = at("/");
  if (rule_.version > 0 && file_.attr_text(root, "format") != "vecinfer." + std::string(rule_.name))
    broken(root + "@format", "expected 'vecinfer.{}', found '{}'", rule_.name,
           file_.attr_text(root, "format"));
  if (rule_.version > 0 && file_.attr_int(root, "format_version") != rule_.version)
    broken(root + "@format_version", "expected {}, found {}", rule_.version,
           file_.attr_int(root, "format_version"));
  for (const auto& [object, rule] : expected().attrs) {
    const std::string name(rule->name);
    if (!rule->required && !file_.has_attr(object, name)) continue;
    switch (rule->kind) {
      case AttrKind::text:
        file_.attr_text(object, name);
        break;
      case AttrKind::real:
        if (!std::isfinite(file_.attr_real(object, name)))
          broken(object + "@" + name, "expected a finite number");
        break;
      case AttrKind::integer: {
        const std::string prefix = object == root ? "" : object.substr(object.rfind('/') + 1) + ".";
        bind(prefix + name, whole(object, name), object + "@" + name);
      }
    }
  }
}

void Checker::check_shape(const std::string& path, const DatasetRule& rule,
                          const std::string& side) {
  const DatasetInfo info = file_.info(path);
  if (info.dtype != rule.dtype)
    broken(path, "expected dtype {}, found {}", name_of(rule.dtype), name_of(info.dtype));
  const auto rank = static_cast<std::size_t>(std::find(rule.dims.begin(), rule.dims.end(), "") -
                                             rule.dims.begin());
  if (info.shape.size() != rank)
    broken(path, "expected {} axes, found {}", rank, info.shape.size());
  for (std::size_t i = 0; i < rank; ++i) {
    const std::string symbol = replaced(std::string(rule.dims[i]), "side.", side + ".");
    if (info.shape[i] == 0) broken(path, "expected {} > 0", symbol);
    bind(symbol, info.shape[i], path);
  }
}

// A dataset's numbers in pieces along its first axis.
template <Element T, class F>
void for_each_value(const H5File& file, const std::string& path, F&& check) {
  const Shape shape = file.info(path).shape;
  std::vector<T> values;
  for (std::int64_t i = 0; i < shape[0]; ++i) {
    const Slab piece = slab(shape, 0, i, 1);
    values.resize(static_cast<std::size_t>(elements(piece.count)));
    file.read_slab<T>(path, piece, values);
    for (const T value : values) check(value);
  }
}

void Checker::check_values(const std::string& path, const DatasetRule& rule) const {
  const std::string name = path.substr(path.rfind('/') + 1);
  if (rule.dtype == DType::i32 || rule.dtype == DType::i64) {
    const auto check = [&](std::int64_t value) {
      if (value < 0) broken(path, "expected no negative number, found {}", value);
    };
    if (rule.dtype == DType::i32) return for_each_value<std::int32_t>(file_, path, check);
    return for_each_value<std::int64_t>(file_, path, check);
  }
  const auto finite = [&](double value) {
    if (rule.finite && !std::isfinite(value))
      broken(path, "expected finite numbers, found {}", value);
  };
  if (rule.dtype == DType::f64) return for_each_value<double>(file_, path, finite);
  const bool divisor = name.starts_with("smooth"), half = name == "centroids";
  for_each_value<float>(file_, path, [&](float value) {
    finite(value);
    if (divisor && !(value > 0)) broken(path, "expected divisors > 0, found {}", value);
    if (half && half_to_float(float_to_half(value)) != value)
      broken(path, "expected centroids exact in f16, found {}", value);
  });
  if (name.starts_with("basis_inverse")) check_basis(path);
}

// A A^-1 = 1 for every head.
void Checker::check_basis(const std::string& path) const {
  const Shape shape = file_.info(path).shape;
  const std::size_t d = static_cast<std::size_t>(shape[3]);
  std::vector<float> a(d * d), b(d * d);
  const std::string basis = replaced(path, "_inverse", "");
  for (std::int64_t layer = 0; layer < shape[0]; ++layer)
    for (std::int64_t head = 0; head < shape[1]; ++head) {
      const Slab one{{layer, head, 0, 0}, {1, 1, shape[2], shape[3]}};
      file_.read_slab<float>(basis, one, a);
      file_.read_slab<float>(path, one, b);
      for (std::size_t i = 0; i < d; ++i)
        for (std::size_t j = 0; j < d; ++j) {
          double sum = 0, scale = 1;
          for (std::size_t k = 0; k < d; ++k) {
            const double product = static_cast<double>(a[i * d + k]) * b[k * d + j];
            sum += product;
            scale += std::fabs(product);
          }
          if (!(std::fabs(sum - (i == j ? 1.0 : 0.0)) <= 1e-3 * scale))
            broken(path, "expected the inverse of {} at layer {} head {}", basis, layer, head);
        }
    }
}

void Checker::check_side(const std::string& side) {
  const std::string place = at("/" + side);
  const auto value = [&](const std::string& name) { return symbols_.at(name).first; };
  const std::int64_t bits = value(side + ".bits"), dsub = value(side + ".dsub"),
                     d = value("head_dim");
  if (bits > 16) broken(place + "@bits", "expected 1 to 16, found {}", bits);
  if (d % dsub != 0)
    broken(place + "@dsub", "expected a divisor of head_dim {}, found {}", d, dsub);
  bind(side + ".ksub", std::int64_t{1} << bits, place + "@bits");
  if (const std::string path = place + "/centroids"; file_.exists(path)) {
    const Shape shape = file_.info(path).shape;
    if (shape.size() == 6 && shape[3] > 2)
      broken(path, "expected 1 or 2 stages, found {}", shape[3]);
  }
  const std::string scope = file_.attr_text(place, "scope"), per = file_.attr_text(place, "per");
  if (scope != "shared" && scope != "subspace")
    broken(place + "@scope", "expected shared or subspace, found '{}'", scope);
  if (per != "head" && per != "layer" && per != "model")
    broken(place + "@per", "expected head, layer or model, found '{}'", per);
  bind(side + ".n_books", scope == "shared" ? 1 : d / dsub, place + "@scope");
  bind(side + ".n_groups", per == "head" ? value("n_kv_heads") : 1, place + "@per");
  bind(side + ".layers", per == "model" ? 1 : value("n_layers"), place + "@per");
}

void Checker::check_strays(const std::string& group, const std::set<std::string>& known,
                           int depth) const {
  for (const std::string& name : file_.list(group)) {
    const std::string path = (group == "/" ? "" : group) + "/" + name;
    const bool branch = std::any_of(known.begin(), known.end(), [&](const std::string& one) {
      return one.starts_with(path + "/");
    });
    if (!known.contains(path) && !branch)
      broken(path, "unknown here; docs/artifacts.md lists what belongs");
    if (branch && depth < 4) check_strays(path, known, depth + 1);
  }
}

void Checker::check(Depth depth) {
  check_attrs();
  const Expected content = expected();
  std::set<std::string> known;
  if (rule_.kind == FileKind::codec) {
    known = {at("/transform/"), at("/codebook/")};
    for (const std::string& name : file_.list(at("/")))
      if (name != "transform" && name != "codebook")
        broken(at("/" + name), "expected only transform and codebook");
    check_contract(file_, FileKind::transform, depth, at("/transform"));
    check_contract(file_, FileKind::codebook, depth, at("/codebook"));
    for (const char* attr : {"n_layers", "n_kv_heads", "head_dim"})
      bind(attr, file_.attr_int(at("/transform"), attr), at("/transform") + "@" + attr),
          bind(attr, file_.attr_int(at("/codebook"), attr), at("/codebook") + "@" + attr);
    return;
  }
  if (rule_.kind == FileKind::codebook)
    for (const std::string_view side : kSides)
      if (has_side(side)) check_side(std::string(side));
  for (const auto& [path, rule] : content.datasets) {
    if (!file_.exists(path)) broken(path, "missing, expected {}", rule->meaning);
    std::string side;
    for (const std::string_view one : kSides)
      if (path.find("/" + std::string(one) + "/") != std::string::npos) side = one;
    check_shape(path, *rule, side);
    known.insert(path);
  }
  if (rule_.kind == FileKind::kv_tensors && symbols_.contains("n_q_heads") &&
      symbols_.at("n_q_heads").first % symbols_.at("n_kv_heads").first != 0)
    broken(at("/query"), "expected a multiple of {} heads, found {}", symbols_.at("n_kv_heads").first, symbols_.at("n_q_heads").first);
  if (rule_.kind == FileKind::kv_samples) {
    if (file_.attr_text(at("/"), "tap") != "post_rope")
      broken(at("/") + "@tap", "expected post_rope");
    if (symbols_.at("n_q_heads").first % symbols_.at("n_kv_heads").first != 0)
      broken(at("/") + "@n_q_heads", "expected a multiple of n_kv_heads");
  }
  check_strays(at("/"), known, 0);
  if (depth == Depth::full)
    for (const auto& [path, rule] : content.datasets) check_values(path, *rule);
}

}  // namespace

void check_contract(const H5File& file, FileKind kind, Depth depth, const std::string& group) {
  Checker(file, kind, group).check(depth);
}

Expected expected_content(const H5File& file, FileKind kind, const std::string& group) {
  return Checker(file, kind, group).expected();
}

std::vector<std::string> split_steps(std::string_view list, std::string_view place) {
  std::vector<std::string> steps;
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    const std::string step(list.substr(0, comma));
    constexpr std::string_view kSteps[] = {"center",  "smooth",     "hadamard",   "basis",
                                           "permute", "token_norm", "token_range"};
    if (std::find(std::begin(kSteps), std::end(kSteps), step) == std::end(kSteps))
      fail<ContractError>("{}: expected center, smooth, hadamard, basis, permute, token_norm or token_range, found '{}'", place,
                          step);
    steps.push_back(step);
    if (steps.size() > 64) fail<ContractError>("{}: expected at most 64 steps", place);
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
    if (list.empty()) fail<ContractError>("{}: expected a step after the last comma", place);
  }
  return steps;
}

std::vector<std::string> step_suffixes(const std::vector<std::string>& steps) {
  std::map<std::string, int> count;
  std::vector<std::string> suffixes;
  for (const std::string& step : steps) {
    const int n = ++count[step];
    suffixes.push_back(n == 1 ? "" : fmt::format("_{}", n));
  }
  return suffixes;
}

}  // namespace vi::artifact
