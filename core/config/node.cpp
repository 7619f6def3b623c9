#include "core/config/node.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "core/common/file.h"

namespace vi::config {
namespace fs = std::filesystem;
namespace {

constexpr int kMaxDepth = 64;
constexpr int kMaxNodes = 200'000;

// Aliases may name a node many times over, so the tree they unfold to is counted.
struct Converter {
  std::shared_ptr<const std::string> file;
  int nodes = 0;
  Node convert(const YAML::Node& yaml, int depth);
};

Node Converter::convert(const YAML::Node& yaml, int depth) {
  Node node;
  const YAML::Mark mark = yaml.Mark();
  node.mark = {file, std::max(0, mark.line) + 1, std::max(0, mark.column) + 1};
  if (depth > kMaxDepth) config_fail(node.mark, "nested deeper than {} levels", kMaxDepth);
  if (++nodes > kMaxNodes) config_fail(node.mark, "more than {} values", kMaxNodes);
  if (yaml.IsScalar()) {
    node.kind = Node::Kind::scalar;
    node.scalar = yaml.Scalar();
    node.quoted = yaml.Tag() == "!" || yaml.Tag() == "tag:yaml.org,2002:str";
  } else if (yaml.IsSequence()) {
    node.kind = Node::Kind::sequence;
    for (const auto& item : yaml) node.items.push_back(convert(item, depth + 1));
  } else if (yaml.IsMap()) {
    node.kind = Node::Kind::map;
    std::unordered_set<std::string> known;
    for (const auto& field : yaml) {
      const Node key = convert(field.first, depth + 1);
      if (key.kind != Node::Kind::scalar) config_fail(key.mark, "a key must be a plain word");
      if (!known.insert(key.scalar).second)
        config_fail(key.mark, "key '{}' is given twice", key.scalar);
      Node value = convert(field.second, depth + 1);
      value.key_mark = key.mark;
      if (value.kind == Node::Kind::null) value.mark = key.mark;
      node.fields.emplace_back(key.scalar, std::move(value));
    }
  }
  return node;
}

fs::path resolve_base(const Node& entry, const fs::path& from, const std::vector<fs::path>& roots) {
  if (entry.kind != Node::Kind::scalar) config_fail(entry.mark, "base: expected a file name");
  std::vector<fs::path> folders{from.parent_path()};
  folders.insert(folders.end(), roots.begin(), roots.end());
  for (const fs::path& folder : folders)
    for (const char* suffix : {"", ".yaml"}) {
      const fs::path candidate = folder / (entry.scalar + suffix);
      std::error_code code;
      if (fs::is_regular_file(candidate, code)) return candidate;
    }
  config_fail(entry.mark, "base '{}' not found beside this file{}", entry.scalar,
              roots.empty() ? "" : " nor under " + roots.front().string());
}

Node load_chain(const fs::path& path, const std::vector<fs::path>& roots, std::vector<fs::path>& open) {
  const fs::path canonical = fs::weakly_canonical(path);
  if (std::find(open.begin(), open.end(), canonical) != open.end())
    fail<ConfigError>("{}:1:1: base: this file includes itself", path.string());
  open.push_back(canonical);
  Node document = parse_yaml_file(path);
  if (document.kind != Node::Kind::map)
    config_fail(document.mark, "expected a map of settings at the top level");
  Node result;
  result.kind = Node::Kind::map;
  result.mark = document.mark;
  if (const Node* base = document.find("base")) {
    std::vector<Node> entries = base->items;
    if (base->kind == Node::Kind::scalar) entries = {*base};
    if (base->kind == Node::Kind::map) config_fail(base->mark, "base: expected a file name or a list of them");
    for (const Node& entry : entries) merge(result, load_chain(resolve_base(entry, path, roots), roots, open));
    std::erase_if(document.fields, [](const auto& field) { return field.first == "base"; });
  }
  merge(result, document);
  result.mark = document.mark;
  open.pop_back();
  return result;
}

}  // namespace

std::string Mark::text() const {
  return file ? fmt::format("{}:{}:{}", *file, line, column) : std::string("(built in)");
}

const Node* Node::find(std::string_view key) const {
  for (const auto& [name, value] : fields)
    if (name == key) return &value;
  return nullptr;
}

Node* Node::find(std::string_view key) {
  return const_cast<Node*>(static_cast<const Node*>(this)->find(key));
}

Node parse_yaml_text(std::string_view text, std::string_view name) {
  const auto file = std::make_shared<const std::string>(name);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.size() > 1) fail<ConfigError>("{}:1:1: expected one YAML document", name);
    if (documents.empty()) {
      Node empty;
      empty.mark = {file, 1, 1};
      return empty;
    }
    return Converter{file}.convert(documents.front(), 0);
  } catch (const YAML::Exception& error) {
    fail<ConfigError>("{}:{}:{}: not valid YAML: {}", name, std::max(0, error.mark.line) + 1,
                      std::max(0, error.mark.column) + 1, error.msg);
  }
}

Node parse_yaml_file(const fs::path& path) {
  std::string text;
  try {
    text = read_file(path);
  } catch (const ContractError& error) {
    throw ConfigError(error.what());  // a missing YAML file is a wrong argument
  }
  return parse_yaml_text(text, path.string());
}

Node load_yaml(const fs::path& path, const std::vector<fs::path>& roots) {
  std::vector<fs::path> open;
  return load_chain(path, roots, open);
}

void merge(Node& under, const Node& over) {
  if (under.kind != Node::Kind::map || over.kind != Node::Kind::map) {
    under = over;
    return;
  }
  for (const auto& [key, value] : over.fields) {
    if (Node* present = under.find(key))
      merge(*present, value);
    else
      under.fields.emplace_back(key, value);
  }
  under.mark = over.mark;
}

void apply_set(Node& root, std::string_view assignment) {
  static const auto file = std::make_shared<const std::string>("--set");
  const std::size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0)
    fail<ConfigError>("--set {}: expected key.path=value", assignment);
  Node* node = &root;
  std::string_view path = assignment.substr(0, equals);
  while (!path.empty()) {
    const std::size_t dot = path.find('.');
    const std::string key(path.substr(0, dot));
    if (key.empty() || dot + 1 == path.size())
      fail<ConfigError>("--set {}: expected key.path=value, found an empty key", assignment);
    path = dot == std::string_view::npos ? std::string_view{} : path.substr(dot + 1);
    if (node->kind == Node::Kind::sequence) {
      const bool digits = !key.empty() && std::all_of(key.begin(), key.end(), ::isdigit);
      if (!digits || key.size() > 9 || std::stoul(key) >= node->items.size())
        fail<ConfigError>("--set {}: '{}' is not an index below {}", assignment, key, node->items.size());
      node = &node->items[std::stoul(key)];
      continue;
    }
    if (node->kind != Node::Kind::map) {
      if (node->kind == Node::Kind::scalar)
        fail<ConfigError>("--set {}: '{}' stands under a plain value", assignment, key);
      node->kind = Node::Kind::map;
    }
    if (!node->find(key)) {
      node->fields.emplace_back(key, Node{});
      node->fields.back().second.mark = {file, 1, 1};
    }
    node = node->find(key);
  }
  *node = parse_yaml_text(assignment.substr(equals + 1), fmt::format("--set {}", assignment));
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& names) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, name.size() / 2) + 1;
  for (const std::string& candidate : names) {
    std::vector<std::size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (std::size_t i = 0; i < name.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i + 1;
      for (std::size_t j = 0; j < candidate.size(); ++j) {
        const std::size_t cost = diagonal + (name[i] != candidate[j]);
        diagonal = row[j + 1];
        row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, cost});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace vi::config
