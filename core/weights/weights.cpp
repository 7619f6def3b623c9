#include "core/weights/weights.h"

#include <algorithm>
#include <bit>

#include "core/common/error.h"
#include "core/common/hash.h"
#include "core/common/utf8.h"

namespace vi::model {

std::string_view tensor_type_name(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return "F32";
    case TensorType::f16:
      return "F16";
    case TensorType::bf16:
      return "BF16";
    case TensorType::q4_0:
      return "Q4_0";
    case TensorType::q4_1:
      return "Q4_1";
    case TensorType::q5_0:
      return "Q5_0";
    case TensorType::q5_1:
      return "Q5_1";
    case TensorType::q8_0:
      return "Q8_0";
    case TensorType::q4_k:
      return "Q4_K";
    case TensorType::q5_k:
      return "Q5_K";
    case TensorType::q6_k:
      return "Q6_K";
  }
  return "?";
}

std::int64_t TensorInfo::elements() const {
  std::int64_t n = 1;
  for (const std::int64_t d : shape) n *= d;
  return n;
}

std::int64_t TensorInfo::columns() const { return shape.empty() ? 1 : shape.back(); }

std::int64_t TensorInfo::rows() const {
  std::int64_t n = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
  return n;
}

const TensorInfo* WeightFile::find(std::string_view name) const {
  const auto it =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const TensorInfo& t, std::string_view n) { return t.name < n; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

const TensorInfo& WeightFile::at(std::string_view name) const {
  if (const TensorInfo* info = find(name)) return *info;
  fail<ContractError>("{}: expected a tensor {}, there is none", path_.string(), name);
}

const TensorInfo& WeightFile::expect(std::string_view name,
                                     std::span<const std::int64_t> shape) const {
  const TensorInfo& info = at(name);
  if (!std::equal(info.shape.begin(), info.shape.end(), shape.begin(), shape.end()))
    fail<ContractError>("{}: tensor {}: expected shape [{}], got [{}]", path_.string(), name,
                        fmt::join(shape, ", "), fmt::join(info.shape, ", "));
  return info;
}

void WeightFile::read_rows(std::string_view name, std::int64_t first, std::int64_t count,
                           std::span<float> out) const {
  const TensorInfo& info = at(name);
  const std::int64_t columns = info.columns();
  VI_CHECK(first >= 0 && count >= 0 && first <= info.rows() && count <= info.rows() - first,
           "tensor {} has {} rows, asked for {} from {}", name, info.rows(), count, first);
  VI_CHECK(out.size() == static_cast<std::size_t>(count * columns), "tensor {}: out holds {}", name,
           out.size());
  const auto index = static_cast<std::size_t>(&info - tensors_.data());
  for (std::int64_t r = 0; r < count; ++r) {
    float* row = out.data() + r * columns;
    decode_row(index, first + r, row);
    std::uint32_t bad = 0;  // no early exit: the loop vectorises
    for (std::int64_t i = 0; i < columns; ++i)
      bad |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(row[i]) & 0x7f800000u) ==
                                        0x7f800000u);
    if (!bad) continue;
    const auto at = std::find_if(row, row + columns, [](float x) {
      return (std::bit_cast<std::uint32_t>(x) & 0x7f800000u) == 0x7f800000u;
    });
    fail<ContractError>("{}: tensor {}: row {}, column {}: expected a finite value, got {}",
                        path_.string(), printable(name), first + r, at - row, *at);
  }
}

void WeightFile::read_f32(std::string_view name, std::span<float> out) const {
  read_rows(name, 0, at(name).rows(), out);
}

std::vector<float> WeightFile::read_f32(std::string_view name) const {
  std::vector<float> out(static_cast<std::size_t>(at(name).elements()));
  read_f32(name, out);
  return out;
}

std::string WeightFile::sha256() const {
  const std::lock_guard lock(sha_mutex_);
  if (!sha_.empty()) return sha_;
  const std::vector<std::filesystem::path> paths = files();
  if (paths.empty()) {
    sha_ = sha256_hex({reinterpret_cast<const char*>(memory_.data()), memory_.size()});
  } else if (paths.size() == 1) {
    sha_ = sha256_file(paths[0]);
  } else {
    std::string list;
    for (const auto& p : paths)
      list += fmt::format("{}  {}\n", sha256_file(p), p.filename().string());
    sha_ = sha256_hex(list);
  }
  return sha_;
}

void WeightFile::set_tensors(const std::filesystem::path& path, std::vector<TensorInfo> tensors) {
  path_ = path;
  for (std::size_t i = 0; i + 1 < tensors.size(); ++i)
    if (tensors[i].name == tensors[i + 1].name)
      fail<ContractError>("{}: tensor {}: expected each name once", path.string(),
                          printable(tensors[i].name));
  tensors_ = std::move(tensors);
}

}  // namespace vi::model
