// What the fuzzers of core/ do with one input; the corpus test runs the same. An input may throw
// the errors that bad input is meant to throw, and nothing else.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "core/artifact/contracts.h"
#include "core/artifact/foreign.h"
#include "core/artifact/manifest.h"
#include "core/codec/codec_io.h"
#include "core/common/file.h"
#include "core/common/json.h"
#include "core/config/options.h"
#include "tests/core/artifact/sample_files.h"

namespace vi::fuzz {

using Bytes = std::span<const std::uint8_t>;

inline std::string text_of(Bytes input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

// A file of this process, in memory where the machine has such a place.
inline std::filesystem::path scratch_file(const char* name) {
  const std::filesystem::path memory = "/dev/shm";
  std::error_code code;
  const auto folder =
      std::filesystem::is_directory(memory, code) ? memory : std::filesystem::temp_directory_path();
  return folder / fmt::format("vi_fuzz_{}_{}", ::getpid(), name);
}

struct Options {
  bool flag = false;
  std::int64_t count = 0;
  double rate = 0;
  std::string name;
  std::vector<std::int64_t> list;
  std::optional<double> limit;
  template <class V>
  void visit(V& v) {
    v("flag", flag, "");
    v("count", count, "");
    v("rate", rate, "");
    v("name", name, "");
    v("list", list, "");
    v("limit", limit, "");
  }
};

// The first line is taken as --set, the rest as a document.
inline void yaml(Bytes input) {
  const std::string text = text_of(input);
  const std::size_t line = text.find('\n');
  try {
    config::Node node =
        config::parse_yaml_text(line == std::string::npos ? text : text.substr(line + 1), "f.yaml");
    try {
      config::apply_set(node, text.substr(0, line));
    } catch (const ConfigError&) {
    }
    Options options;
    try {
      config::read(node, options);
      canonical_json(config::to_json(options));
    } catch (const ConfigError&) {
    }
    canonical_json(config::to_json(node));
  } catch (const ConfigError&) {
  } catch (const Error& error) {  // a key that is to be hashed must be UTF-8
    if (std::string_view(error.what()).find("not valid UTF-8") == std::string_view::npos) throw;
  }
}

inline void jsonl(Bytes input) {
  const auto path = scratch_file("jsonl");
  write_file_atomic(path, text_of(input));
  try {
    for_each_json_line(path, [](std::int64_t, const Json& json) { canonical_json(json); });
  } catch (const ContractError&) {
  }
  { const LineAppender appender(path); }
  std::filesystem::remove(path);
  try {
    const artifact::Manifest manifest = artifact::Manifest::parse(text_of(input), "manifest.json");
    if (artifact::Manifest::parse(manifest.text(), "again").text() != manifest.text()) std::abort();
  } catch (const ContractError&) {
  }
}

// Takes bytes of the input as small decisions.
class Choices {
 public:
  explicit Choices(Bytes input) : left_(input) {}
  bool empty() const { return left_.empty(); }
  std::size_t below(std::size_t n) {
    if (left_.empty()) return 0;
    const std::uint8_t byte = left_[0];
    left_ = left_.subspan(1);
    return byte % n;
  }
  template <class T, std::size_t N>
  const T& of(const T (&list)[N]) {
    return list[below(N)];
  }

 private:
  Bytes left_;
};

// A whole file with some attributes and datasets replaced, so that libhdf5 itself has nothing to
// complain of.
inline void changed_contract(Bytes input) {
  using namespace artifact;
  static const char* const objects[] = {
      "/",         "/key",          "/value",          "/transform",
      "/codebook", "/codebook/key", "/codebook/value", "/layer_00"};
  static const char* const attrs[] = {
      "n_layers",   "n_kv_heads", "n_q_heads",      "head_dim", "key_steps", "value_steps",
      "dsub",       "bits",       "scope",          "per",      "seed",      "dead_centroids",
      "iterations", "format",     "format_version", "tap"};
  static const char* const texts[] = {"",        "smooth", "smooth,smooth", "basis,hadamard",
                                      "center,", "shared", "subspace",      "head",
                                      "layer",   "model"};
  static const std::int64_t whole[] = {
      0, 1, 2, 3, 4, 8, 16, 17, 255, 65536, -1, INT64_MAX, INT64_MIN, std::int64_t{1} << 32};
  static const char* const names[] = {
      "/key/smooth",        "/key/basis",           "/key/basis_inverse",
      "/value/center",      "/layer_02/key",        "/doc2",
      "/codebook/key/more", "/value/centroids",     "/value/usage",
      "/value/train_mse",   "/outliers/key/after_3"};
  static const DType types[] = {DType::f16, DType::bf16, DType::f32, DType::f64,
                                DType::i32, DType::i64,  DType::u8,  DType::u16};
  const auto path = scratch_file("h5");
  Choices choose(input);
  H5File file = H5File::create(path);
  const auto kind = static_cast<FileKind>(choose.below(8));
  switch (kind) {
    case FileKind::kv_samples:
      test::write_samples(file);
      break;
    case FileKind::transform:
      codec::write_transforms(test::transforms(), file);
      break;
    case FileKind::kv_transformed:
      test::write_transformed(file);
      break;
    case FileKind::codebook:
      test::write_books(file);
      break;
    case FileKind::codec:
      test::write_codec(file);
      break;
    case FileKind::kv_statistics:
      test::write_statistics(file);
      break;
    case FileKind::kv_gradients:
      test::write_gradients(file);
      break;
    case FileKind::kv_tensors:
      test::write_tensors(file);
      break;
  }
  for (int step = 0; step < 8 && !choose.empty(); ++step) {
    const std::string object = choose.of(objects), attr = choose.of(attrs);
    switch (choose.below(5)) {
      case 0:
        if (file.exists(object)) file.set_attr(object, attr, choose.of(whole));
        break;
      case 1:
        if (file.exists(object)) file.set_attr(object, attr, choose.of(texts));
        break;
      case 2:
        if (file.exists(object)) file.set_attr(object, attr, 0.5);
        break;
      default: {
        const std::string name = choose.of(names);
        Shape shape;
        for (std::size_t rank = choose.below(7); rank > 0; --rank)
          shape.push_back(static_cast<std::int64_t>(choose.below(5)));
        if (!file.exists(name) &&
            (name.rfind('/') == 0 || file.exists(name.substr(0, name.rfind('/')))))
          file.create_dataset(name, choose.of(types), shape);
      }
    }
  }
  try {
    check_contract(file, kind);
    if (kind == FileKind::transform) codec::read_transforms(file);
    if (kind == FileKind::codebook) codec::read_codebooks(file);
  } catch (const ContractError&) {
  }
  file.close();
  std::filesystem::remove(path);
}

// Even first byte: as above. Odd: the rest is a file, read by a child that may die of it.
inline void h5(Bytes input) {
  if (input.empty()) return;
  if (input[0] % 2 == 0) return changed_contract(input.subspan(1));
  const auto path = scratch_file("foreign"), copy = scratch_file("copy");
  write_file_atomic(path, text_of(input.subspan(1)));
  artifact::ForeignOptions options;
  options.seconds = 5;
  try {
    artifact::import_foreign(path, artifact::FileKind::codec, copy, options);
    artifact::check_contract(artifact::H5File::open(copy), artifact::FileKind::codec);
    std::filesystem::remove(copy);
  } catch (const ContractError&) {
    if (std::filesystem::exists(copy)) std::abort();
  }
  std::filesystem::remove(path);
}

}  // namespace vi::fuzz
