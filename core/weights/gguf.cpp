#include "core/weights/gguf.h"

#include <cmath>

#include "core/common/error.h"
#include "core/common/utf8.h"
#include "core/weights/dequant.h"

namespace vi::model {

GgufFile::GgufFile(const std::filesystem::path& path)
    : map_(std::make_unique<MappedFile>(path)), file_(path) {
  parse(map_->bytes(), path);
}

GgufFile::GgufFile(std::vector<std::uint8_t> bytes, const std::filesystem::path& path) {
  memory_ = std::move(bytes);
  parse(memory_, path);
}

GgufFile::~GgufFile() = default;

std::vector<std::filesystem::path> GgufFile::files() const {
  if (file_.empty()) return {};
  return {file_};
}

void GgufFile::decode_row(std::size_t index, std::int64_t row, float* out) const {
  const TensorInfo& info = tensors()[index];
  const Source& source = sources_[index];
  const std::int64_t dim = source.rope_head_dim;
  if (dim > 0 && info.shape.size() > 1) {
    // The file has (head, i, half), we have (head, half, i): our row half * dim/2 + i is its 2 i +
    // half.
    const std::int64_t in_head = row % dim, half = in_head / (dim / 2), i = in_head % (dim / 2);
    row += 2 * i + half - in_head;
  }
  dequantize(info.type, source.data + row * source.row_bytes, info.columns(), out);
  if (dim > 0 && info.shape.size() == 1) {  // a bias: the same order along its only dimension
    const std::vector<float> file_order(out, out + info.columns());
    for (std::int64_t r = 0; r < info.columns(); ++r) {
      const std::int64_t in_head = r % dim, half = in_head / (dim / 2), i = in_head % (dim / 2);
      out[r] = file_order[static_cast<std::size_t>(r - in_head + 2 * i + half)];
    }
  }
}

bool GgufFile::has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }

template <class T>
const T& GgufFile::get(std::string_view key, const char* expected) const {
  const auto it = metadata_.find(key);
  const T* value = it == metadata_.end() ? nullptr : std::get_if<T>(&it->second);
  if (!value)
    fail<ContractError>("{}: key {}: expected {}{}", path().string(), key, expected,
                        it == metadata_.end() ? ", the key is missing" : "");
  return *value;
}

std::int64_t GgufFile::get_int(std::string_view key) const {
  return get<std::int64_t>(key, "an integer");
}
std::int64_t GgufFile::get_int(std::string_view key, std::int64_t fallback) const {
  return has(key) ? get_int(key) : fallback;
}

double GgufFile::get_double(std::string_view key) const {
  const auto it = metadata_.find(key);
  if (it != metadata_.end())
    if (const auto* whole = std::get_if<std::int64_t>(&it->second))
      return static_cast<double>(*whole);
  const double value = get<double>(key, "a number");
  if (!std::isfinite(value))
    fail<ContractError>("{}: key {}: expected a finite number, got {}", path().string(), key,
                        value);
  return value;
}
double GgufFile::get_double(std::string_view key, double fallback) const {
  return has(key) ? get_double(key) : fallback;
}

bool GgufFile::get_bool(std::string_view key, bool fallback) const {
  return has(key) ? get<bool>(key, "true or false") : fallback;
}

std::string GgufFile::get_string(std::string_view key) const {
  return get<std::string>(key, "a string");
}
std::string GgufFile::get_string(std::string_view key, std::string_view fallback) const {
  return has(key) ? get_string(key) : std::string(fallback);
}

const std::vector<std::string>& GgufFile::get_strings(std::string_view key) const {
  return get<std::vector<std::string>>(key, "an array of strings");
}
const std::vector<std::int64_t>& GgufFile::get_ints(std::string_view key) const {
  return get<std::vector<std::int64_t>>(key, "an array of integers");
}
const std::vector<double>& GgufFile::get_doubles(std::string_view key) const {
  return get<std::vector<double>>(key, "an array of numbers");
}

}  // namespace vi::model
