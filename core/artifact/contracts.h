// The content of every HDF5 artifact as one table: names, dtypes, shapes, attributes. Writers are
// checked before publishing, readers before use; docs/artifacts.md says the same in words.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/artifact/h5.h"

namespace vi::artifact {

// codec: transform and codebook of a model in one file, as `vecinfer export` writes it: groups
// /transform and /codebook with the content of those two files. kv_tensors: one layer as anyone may write it, for
// `vecinfer reconstruct`; version 0, without the stamp of a format.
enum class FileKind { kv_samples, transform, kv_transformed, codebook, codec, kv_statistics, kv_gradients, kv_tensors };

struct AttrRule {
  std::string_view object, name;  // object may hold "{side}"
  AttrKind kind;
  bool required;
  std::string_view meaning;
};

// `path` may hold {layer} (layer_00 ...), {side} (key, value), {n} (once for each step of that
// kind: "", _2, _3 ...) and {i} (1, 2 ... as far as they go). `dims` are symbols, "" ends: equal
// names are equal numbers in one file; an attribute of that name binds them; "side." means one
// number a side.
struct DatasetRule {
  std::string_view path;
  DType dtype;
  std::array<std::string_view, 6> dims;
  bool required;
  bool finite;  // NaN and infinity are errors
  std::string_view meaning;
};

struct FileRule {
  FileKind kind;
  std::string_view name;  // "kv_samples"; attribute format is "vecinfer.kv_samples"
  int version;            // attribute format_version; 0: the file says neither format nor version
  std::span<const AttrRule> attrs;
  std::span<const DatasetRule> datasets;
};

const FileRule& rule_of(FileKind kind);
std::span<const FileRule> file_rules();

// ContractError "file: /place: expected ..." at the first thing missing, misshapen or unknown.
// `full` reads the numbers too (finite, centroids exact in f16, divisors positive, bases inverted);
// `shape` suffices for a file whose hash has been checked. `group`: where the content starts inside
// the file, "" or "/transform".
enum class Depth { shape, full };
void check_contract(const H5File& file, FileKind kind, Depth depth = Depth::full,
                    const std::string& group = "");

// The datasets and the attributes (object, rule) that the file of this kind holds, by the same
// table.
struct Expected {
  std::vector<std::pair<std::string, const DatasetRule*>> datasets;
  std::vector<std::pair<std::string, const AttrRule*>> attrs;
};
Expected expected_content(const H5File& file, FileKind kind, const std::string& group = "");

// Writes attributes "format" and "format_version" of the root or of `group`.
void stamp(H5File& file, FileKind kind, const std::string& group = "");

// "smooth,hadamard" -> its words; ContractError at any that is no step.
std::vector<std::string> split_steps(std::string_view list, std::string_view place);
// The dataset name suffix of each step: "" for the first of its kind, "_2" for the second ...
std::vector<std::string> step_suffixes(const std::vector<std::string>& steps);

}  // namespace vi::artifact
