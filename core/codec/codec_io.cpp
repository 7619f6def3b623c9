#include "core/codec/codec_io.h"

#include <array>

#include "core/artifact/contracts.h"
#include "core/common/error.h"

namespace vi::codec {
namespace {

using artifact::Depth;
using artifact::DType;
using artifact::FileKind;
using artifact::H5File;
using artifact::Shape;
using transform::HeadTransform;
using transform::Step;

constexpr std::array<std::pair<std::string_view, Step::Kind>, 7> kStepNames{
    {{"center", Step::Kind::center},
     {"smooth", Step::Kind::scale},
     {"hadamard", Step::Kind::hadamard},
     {"basis", Step::Kind::dense},
     {"permute", Step::Kind::permute},
     {"token_norm", Step::Kind::token_norm},
     {"token_range", Step::Kind::token_range}}};
bool without_data(Step::Kind kind) {
  return kind == Step::Kind::hadamard || kind == Step::Kind::token_norm;
}

std::string step_name(Step::Kind kind) {
  for (const auto& [name, candidate] : kStepNames)
    if (candidate == kind) return std::string(name);
  fail("step of unknown kind");
}

Step::Kind step_kind(std::string_view name) {
  for (const auto& [candidate, kind] : kStepNames)
    if (candidate == name) return kind;
  fail("step of unknown name '{}'", name);
}

std::string root_of(const std::string& group) { return group.empty() ? "/" : group; }

void write_shape(H5File& file, const std::string& group, const ModelShape& shape) {
  file.set_attr(root_of(group), "n_layers", shape.n_layers);
  file.set_attr(root_of(group), "n_kv_heads", shape.n_kv_heads);
  file.set_attr(root_of(group), "head_dim", shape.head_dim);
}

// One vector or matrix of every head, one after the other.
std::vector<float> gather(const std::vector<HeadTransform>& heads, std::size_t step,
                          std::vector<float> Step::*part, std::size_t size,
                          const std::string& place) {
  std::vector<float> all;
  all.reserve(heads.size() * size);
  for (const HeadTransform& head : heads) {
    const std::vector<float>& one = head.steps[step].*part;
    VI_CHECK(one.size() == size, "{}: expected {} values a head, found {}", place, size,
             one.size());
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

void write_side(H5File& file, const std::string& group, const std::string& side,
                const std::vector<HeadTransform>& heads, const ModelShape& shape) {
  std::vector<std::string> names;
  std::string list;
  if (!heads.empty()) {
    VI_CHECK(heads.size() == static_cast<std::size_t>(shape.n_layers) *
                                 static_cast<std::size_t>(shape.n_kv_heads),
             "{} transforms: expected {} layers x {} KV heads, found {}", side, shape.n_layers,
             shape.n_kv_heads, heads.size());
    for (const Step& step : heads.front().steps) names.push_back(step_name(step.kind));
    for (const std::string& name : names) list += (list.empty() ? "" : ",") + name;
    for (const HeadTransform& head : heads) {
      VI_CHECK(head.steps.size() == names.size(), "{} transforms: heads differ in their steps",
               side);
      for (std::size_t i = 0; i < names.size(); ++i)
        VI_CHECK(step_name(head.steps[i].kind) == names[i],
                 "{} transforms: heads differ in their steps", side);
    }
  }
  file.set_attr(root_of(group), side + "_steps", list);
  std::int64_t floored = 0;
  for (const HeadTransform& head : heads) floored += head.floored;
  file.set_attr(root_of(group), side + "_floored", floored);
  const std::vector<std::string> suffixes = artifact::step_suffixes(names);
  const Shape vector{shape.n_layers, shape.n_kv_heads, shape.head_dim};
  const Shape matrix{shape.n_layers, shape.n_kv_heads, shape.head_dim, shape.head_dim};
  const auto d = static_cast<std::size_t>(shape.head_dim);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string path = group + "/" + side + "/" + names[i];
    if (names[i] == "basis") {
      const std::string inverse = path + "_inverse" + suffixes[i];
      file.write(path + suffixes[i], DType::f32, matrix,
                 gather(heads, i, &Step::matrix, d * d, path));
      file.write(inverse, DType::f32, matrix, gather(heads, i, &Step::inverse, d * d, inverse));
    } else if (names[i] == "token_range") {
      file.write(path + suffixes[i], DType::f32, {shape.n_layers, shape.n_kv_heads, 1},
                 gather(heads, i, &Step::vector, 1, path));
    } else if (!without_data(step_kind(names[i]))) {
      file.write(path + suffixes[i], DType::f32, vector, gather(heads, i, &Step::vector, d, path));
    }
  }
}

std::vector<HeadTransform> read_side(const H5File& file, const std::string& group,
                                     const std::string& side, const ModelShape& shape) {
  const std::string attr = side + "_steps";
  const auto names =
      artifact::split_steps(file.attr_text(root_of(group), attr), file.name() + ": " + attr);
  if (names.empty()) return {};
  const std::vector<std::string> suffixes = artifact::step_suffixes(names);
  std::vector<HeadTransform> heads(static_cast<std::size_t>(shape.n_layers) *
                                   static_cast<std::size_t>(shape.n_kv_heads));
  for (HeadTransform& head : heads) head.head_dim = shape.head_dim;
  heads.front().floored = static_cast<int>(file.attr_int(root_of(group), side + "_floored"));  // the sum of all
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Step::Kind kind = step_kind(names[i]);
    for (HeadTransform& head : heads) head.steps.emplace_back().kind = kind;
    const auto deal = [&](const std::string& name, std::vector<float> Step::*part) {
      const std::vector<float> all =
          file.read<float>(group + "/" + side + "/" + name + suffixes[i]);
      const std::size_t size = all.size() / heads.size();
      for (std::size_t h = 0; h < heads.size(); ++h)
        (heads[h].steps[i].*part)
            .assign(all.begin() + static_cast<std::ptrdiff_t>(h * size),
                    all.begin() + static_cast<std::ptrdiff_t>((h + 1) * size));
    };
    if (kind == Step::Kind::dense) {
      deal("basis", &Step::matrix);
      deal("basis_inverse", &Step::inverse);
    } else if (!without_data(kind)) {
      deal(names[i], &Step::vector);
    }
  }
  return heads;
}

void write_books(H5File& file, const std::string& group, const std::string& side,
                 const CodebookSide& books, const CodebookFacts& facts) {
  if (books.empty()) return;
  const std::string path = group + "/" + side;
  const Shape cells{books.n_layers, books.n_groups, books.n_books, books.n_stages};
  Shape usage = cells, centroids = cells;
  usage.push_back(books.ksub);
  centroids.insert(centroids.end(), {books.ksub, books.dsub});
  file.create_group(path);
  file.set_attr(path, "dsub", books.dsub);
  file.set_attr(path, "bits", facts.bits);
  file.set_attr(path, "scope", config::to_string(facts.scope));
  file.set_attr(path, "per", config::to_string(facts.per));
  file.set_attr(path, "iterations", facts.iterations);
  file.set_attr(path, "seed", static_cast<std::int64_t>(facts.seed));
  file.set_attr(path, "dead_centroids", facts.dead_centroids);
  file.write(path + "/centroids", DType::f32, centroids, books.centroids);
  file.write(path + "/usage", DType::i64, usage, facts.usage);
  file.write(path + "/train_mse", DType::f64, cells, facts.train_mse);
}

CodebookSide read_books(const H5File& file, const std::string& group, const std::string& side) {
  CodebookSide books;
  const std::string path = group + "/" + side + "/centroids";
  if (!file.exists(path)) return books;
  const Shape shape = file.info(path).shape;
  books.n_layers = static_cast<int>(shape[0]);
  books.n_groups = static_cast<int>(shape[1]);
  books.n_books = static_cast<int>(shape[2]);
  books.n_stages = static_cast<int>(shape[3]);
  books.ksub = static_cast<int>(shape[4]);
  books.dsub = static_cast<int>(shape[5]);
  books.centroids = file.read<float>(path);
  return books;
}

template <config::NamedEnum E>
E parse_enum(const std::string& text) {
  for (const auto& [name, value] : enum_names(E{}))
    if (name == text) return value;
  fail<ContractError>("'{}' is not a known name", text);
}

}  // namespace

void write_transforms(const TransformSet& set, H5File& file, const std::string& group) {
  artifact::stamp(file, FileKind::transform, group);
  const ModelShape shape{set.n_layers, set.n_kv_heads, set.head_dim};
  write_shape(file, group, shape);
  write_side(file, group, "key", set.key, shape);
  write_side(file, group, "value", set.value, shape);
  if (!set.rope.empty())
    file.write(group + "/rope_frequencies", DType::f64, {static_cast<std::int64_t>(set.rope.size())},
               set.rope);
  artifact::check_contract(file, FileKind::transform, Depth::full, group);
}

TransformSet read_transforms(const H5File& file, const std::string& group) {
  artifact::check_contract(file, FileKind::transform, Depth::full, group);
  const ModelShape shape = read_shape(file, group);
  TransformSet set{shape.n_layers, shape.n_kv_heads, shape.head_dim, {}, {}};
  set.key = read_side(file, group, "key", shape);
  set.value = read_side(file, group, "value", shape);
  if (file.exists(group + "/rope_frequencies")) {
    set.rope = file.read<double>(group + "/rope_frequencies");
    if (static_cast<int>(set.rope.size()) * 2 != shape.head_dim)
      fail<ContractError>("{}: rope_frequencies: expected {} numbers, found {}", file.name(),
                          shape.head_dim / 2, set.rope.size());
  }
  return set;
}

void write_codebooks(const CodebookSet& books, const CodebookFacts& key, const CodebookFacts& value,
                     const ModelShape& shape, H5File& file, const std::string& group) {
  artifact::stamp(file, FileKind::codebook, group);
  write_shape(file, group, shape);
  write_books(file, group, "key", books.key, key);
  write_books(file, group, "value", books.value, value);
  artifact::check_contract(file, FileKind::codebook, Depth::full, group);
}

CodebookSet read_codebooks(const H5File& file, const std::string& group) {
  artifact::check_contract(file, FileKind::codebook, Depth::full, group);
  return {read_books(file, group, "key"), read_books(file, group, "value")};
}

CodebookFacts read_codebook_facts(const H5File& file, const std::string& side,
                                  const std::string& group) {
  const std::string path = group + "/" + side;
  CodebookFacts facts;
  facts.scope = parse_enum<BookScope>(file.attr_text(path, "scope"));
  facts.per = parse_enum<BookPer>(file.attr_text(path, "per"));
  facts.bits = static_cast<int>(file.attr_int(path, "bits"));
  facts.iterations = static_cast<int>(file.attr_int(path, "iterations"));
  facts.seed = static_cast<std::uint64_t>(file.attr_int(path, "seed"));
  facts.dead_centroids = file.attr_int(path, "dead_centroids");
  facts.usage = file.read<std::int64_t>(path + "/usage");
  facts.train_mse = file.read<double>(path + "/train_mse");
  return facts;
}

ModelShape read_shape(const H5File& file, const std::string& group) {
  const auto value = [&](const char* attr) {
    return static_cast<int>(file.attr_int(root_of(group), attr));
  };
  return {value("n_layers"), value("n_kv_heads"), value("head_dim")};
}

}  // namespace vi::codec
