// The weights of a model, whatever file they lie in. Names are Hugging Face's
// (model.layers.0.self_attn.q_proj.weight) and rows of q_proj/k_proj are in rotate-half order for every
// format, so that a GGUF file and the folder it was converted from read as the same tensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vi::model {

enum class TensorType { f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k };
std::string_view tensor_type_name(TensorType type);  // "F32", "Q4_1", "Q4_K", ...

struct TensorInfo {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;  // row-major, outermost first: a matrix is [out, in]

  std::int64_t elements() const;  // at most 2^62: checked when the file was opened
  std::int64_t rows() const;      // product of all dimensions but the last; 1 for a vector or scalar
  std::int64_t columns() const;   // the last dimension; 1 for a scalar
};

// Opened files are fully checked (names, shapes, offsets); values are checked when read. All const
// methods may be called from several threads.
class WeightFile {
 public:
  virtual ~WeightFile() = default;
  WeightFile() = default;
  WeightFile(const WeightFile&) = delete;
  WeightFile& operator=(const WeightFile&) = delete;

  const std::filesystem::path& path() const { return path_; }  // the file or folder that was opened
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // sorted by name
  const TensorInfo* find(std::string_view name) const;                 // null if there is none
  const TensorInfo& at(std::string_view name) const;                   // ContractError if there is none
  // As at(), and ContractError unless the shape is this one.
  const TensorInfo& expect(std::string_view name, std::span<const std::int64_t> shape) const;

  // Dequantised rows [first, first + count) of the tensor seen as [rows, columns]; out holds
  // count * columns floats. ContractError if a value is NaN or infinite.
  void read_rows(std::string_view name, std::int64_t first, std::int64_t count, std::span<float> out) const;
  // The whole tensor; out holds elements() floats.
  void read_f32(std::string_view name, std::span<float> out) const;
  std::vector<float> read_f32(std::string_view name) const;

  // Of the file; of several shards: of the lines "<sha256>  <file name>\n" in the order of their names.
  // Computed on first use (it reads everything), then kept.
  std::string sha256() const;

 protected:
  // Decodes one row of tensors()[index] into out [columns].
  virtual void decode_row(std::size_t index, std::int64_t row, float* out) const = 0;
  virtual std::vector<std::filesystem::path> files() const = 0;  // sorted by name
  // `tensors` sorted by name; ContractError for a name that stands twice.
  void set_tensors(const std::filesystem::path& path, std::vector<TensorInfo> tensors);
  std::vector<std::uint8_t> memory_;  // the bytes, where there is no file behind them

 private:
  std::filesystem::path path_;
  std::vector<TensorInfo> tensors_;
  mutable std::mutex sha_mutex_;
  mutable std::string sha_;
};

}  // namespace vi::model
