// safetensors, memory-mapped: one file, or a folder's shards with model.safetensors.index.json.
// Types F32, F16, BF16; tensors of other types (buffers of old files) are checked but left out of
// the list.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/common/file.h"
#include "core/weights/weights.h"

namespace vi::model {

class SafetensorsFile final : public WeightFile {
 public:
  // A .safetensors file, or a folder with model.safetensors or model.safetensors.index.json.
  explicit SafetensorsFile(const std::filesystem::path& path);  // ContractError
  // One file's bytes in memory (fuzzing, tests); `path` is what errors name.
  SafetensorsFile(std::vector<std::uint8_t> bytes, const std::filesystem::path& path);
  ~SafetensorsFile() override;

 protected:
  void decode_row(std::size_t index, std::int64_t row, float* out) const override;
  std::vector<std::filesystem::path> files() const override { return files_; }

 private:
  struct Entry {
    TensorInfo info;
    const std::uint8_t* data;
  };
  static void parse(std::span<const std::uint8_t> bytes, const std::filesystem::path& path,
                    std::vector<Entry>& entries);
  void adopt(const std::filesystem::path& path, std::vector<Entry> entries);

  std::vector<std::unique_ptr<MappedFile>> maps_;
  std::vector<std::filesystem::path> files_;
  std::vector<const std::uint8_t*> data_;  // parallel to tensors()
};

}  // namespace vi::model
