// GGUF version 2 and 3 (little-endian), memory-mapped: metadata and weights. Everything is checked
// on opening, and no allocation is larger than the file justifies. Invariant: tensor names and row
// order are those of weights.h, not the file's own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/common/file.h"
#include "core/weights/weights.h"

namespace vi::model {

// A metadata value. Integers of every width become int64 (a uint64 above 2^63 - 1 is refused),
// floats double; strings are as in the file (not checked for UTF-8).
using GgufValue = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>,
                               std::vector<double>, std::vector<bool>, std::vector<std::string>>;

class GgufFile final : public WeightFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);  // ContractError
  // Bytes in memory instead of a file (fuzzing, tests); `path` is what errors name.
  GgufFile(std::vector<std::uint8_t> bytes, const std::filesystem::path& path);
  ~GgufFile() override;

  bool has(std::string_view key) const;
  // Typed look-ups: ContractError naming the key if it is missing or of another type. get_* without
  // a fallback demand the key. An integer is accepted where a double is asked for.
  std::int64_t get_int(std::string_view key) const;
  std::int64_t get_int(std::string_view key, std::int64_t fallback) const;
  double get_double(std::string_view key) const;
  double get_double(std::string_view key, double fallback) const;
  bool get_bool(std::string_view key, bool fallback) const;
  std::string get_string(std::string_view key) const;
  std::string get_string(std::string_view key, std::string_view fallback) const;
  const std::vector<std::string>& get_strings(std::string_view key) const;
  const std::vector<std::int64_t>& get_ints(std::string_view key) const;
  const std::vector<double>& get_doubles(std::string_view key) const;
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }

  std::string architecture() const { return get_string("general.architecture"); }

 protected:
  void decode_row(std::size_t index, std::int64_t row, float* out) const override;
  std::vector<std::filesystem::path> files() const override;

 private:
  struct Source {              // parallel to tensors()
    const std::uint8_t* data;  // inside the map
    std::int64_t row_bytes;
    std::int64_t rope_head_dim;  // > 0: rows are interleaved inside heads of this many rows
  };
  void parse(std::span<const std::uint8_t> bytes, const std::filesystem::path& path);
  template <class T>
  const T& get(std::string_view key, const char* expected) const;

  std::unique_ptr<MappedFile> map_;
  std::filesystem::path file_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<Source> sources_;
};

}  // namespace vi::model
