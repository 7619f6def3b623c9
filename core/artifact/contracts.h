// The content of every HDF5 artifact as one table: names, dtypes, shapes, attributes. Writers are
// checked before publishing, readers before use; docs/artifacts.md says the same in words.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "core/artifact/h5.h"

namespace vi::artifact {

// codec: transform and codebook of a model in one file, as `vecinfer export` writes it.
enum class FileKind { kv_samples, transform, kv_transformed, codebook, codec };
std::string_view file_name(FileKind kind);  // "kv_samples.h5"

struct AttrRule {
  std::string_view object, name;  // object may hold "{side}"
  AttrKind kind;
  bool required;
  std::string_view meaning;
};

// `path` may hold "{layer}" (layer_00 ...), "{side}" (key, value). `dims` are symbols: equal names
// are equal numbers in one file, an attribute of the root or of the side with that name binds it; a
// name starting with "side." is bound per side.
struct DatasetRule {
  std::string_view path;
  DType dtype;
  std::array<std::string_view, 6> dims;  // "" ends
  bool required;
  bool finite;  // NaN and infinity are errors
  std::string_view meaning;
};

struct FileRule {
  FileKind kind;
  std::string_view name;
  int version;  // root attribute "format_version"
  std::span<const AttrRule> attrs;
  std::span<const DatasetRule> datasets;
};

const FileRule& rule_of(FileKind kind);
std::span<const FileRule> file_rules();

// `full` reads the numbers too (finite, centroids exact in f16, divisors positive ...); `shape`
// suffices for a file whose hash has been checked. `group`: where the content starts inside the
// file, "" or "/transform".
enum class Depth { shape, full };
void check_contract(const H5File& file, FileKind kind, Depth depth = Depth::full,
                    const std::string& group = "");

// Writes root attributes "format" (the file's kind) and "format_version".
void stamp(H5File& file, FileKind kind, const std::string& group = "");

}  // namespace vi::artifact
