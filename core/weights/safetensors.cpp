#include "core/weights/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "core/common/error.h"
#include "core/common/strict_json.h"
#include "core/common/utf8.h"
#include "core/weights/dequant.h"

namespace vi::model {
namespace {

bool tensor_type(const std::string& name, TensorType& type) {
  if (name == "F32")
    type = TensorType::f32;
  else if (name == "F16")
    type = TensorType::f16;
  else if (name == "BF16")
    type = TensorType::bf16;
  else
    return false;
  return true;
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::vector<std::uint8_t> bytes,
                                 const std::filesystem::path& path) {
  memory_ = std::move(bytes);
  std::vector<Entry> entries;
  parse(memory_, path, entries);
  adopt(path, std::move(entries));
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) {
  std::vector<Entry> entries;
  std::vector<std::string> weights;  // what the index promises
  if (!std::filesystem::is_directory(path)) {
    files_ = {path};
  } else if (std::filesystem::exists(path / "model.safetensors")) {
    files_ = {path / "model.safetensors"};
  } else {
    const std::filesystem::path index = path / "model.safetensors.index.json";
    if (!std::filesystem::exists(index))
      fail<ContractError>("{}: expected model.safetensors or model.safetensors.index.json in it",
                          path.string());
    const nlohmann::json document = read_strict_json(index);
    const JsonView map = JsonView(document, index.string()).at("weight_map").object();
    std::set<std::string> names;
    for (const auto& [tensor, file] : map.raw().items()) {
      if (!file.is_string()) map.reject("file names as strings");
      const auto& name = file.get_ref<const std::string&>();
      if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos ||
          name.find('\0') != std::string::npos)
        map.reject(fmt::format("names of files in the same folder, got {}", printable(name)));
      names.insert(name);
      weights.push_back(tensor);
    }
    if (names.empty()) map.reject("at least one tensor");
    for (const std::string& name : names) files_.push_back(path / name);
  }
  for (const auto& file : files_) {
    maps_.push_back(std::make_unique<MappedFile>(file));
    parse(maps_.back()->bytes(), file, entries);
  }
  adopt(path, std::move(entries));
  // The index also lists tensors of types that parse() leaves out, so only complain about what is
  // used: at() names a tensor that is missing. A promise that no shard keeps at all is an error
  // here.
  if (!weights.empty() && tensors().empty())
    fail<ContractError>("{}: expected tensors of type F32, F16 or BF16, there are none",
                        path.string());
}

SafetensorsFile::~SafetensorsFile() = default;

void SafetensorsFile::parse(std::span<const std::uint8_t> bytes, const std::filesystem::path& path,
                            std::vector<Entry>& entries) {
  const std::string file = path.string();
  std::uint64_t header = 0;
  if (bytes.size() < 8)
    fail<ContractError>("{}: byte 0: expected a header length, the file ends", file);
  std::memcpy(&header, bytes.data(), 8);
  if (header > bytes.size() - 8 || header > 100'000'000)
    fail<ContractError>("{}: byte 0: expected a header of at most {} bytes, got {}", file,
                        std::min<std::size_t>(bytes.size() - 8, 100'000'000), header);
  const nlohmann::json document = parse_strict_json(
      {reinterpret_cast<const char*>(bytes.data()) + 8, header}, file + ": header");
  const std::uint64_t room = bytes.size() - 8 - header;
  const JsonView top = JsonView(document, file + ": header").object();
  for (const auto& [name, value] : top.raw().items()) {
    if (name == "__metadata__") continue;
    const JsonView tensor(value, fmt::format("{}: tensor {}", file, printable(name)));
    Entry entry{};
    entry.info.name = name;
    const bool known = tensor_type(tensor.at("dtype").string(), entry.info.type);
    const JsonView shape = tensor.at("shape").array();
    if (shape.size() > 8) shape.reject("at most 8 dimensions");
    std::int64_t elements = 1;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      const std::int64_t size = shape.at(d).integer();
      if (size < 0 || __builtin_mul_overflow(elements, size, &elements) ||
          elements > (std::int64_t{1} << 60))
        shape.reject("dimensions of 0 or more and fewer than 2^60 elements");
      entry.info.shape.push_back(size);
    }
    const JsonView offsets = tensor.at("data_offsets").array();
    if (offsets.size() != 2) offsets.reject("two offsets");
    const std::int64_t begin = offsets.at(std::size_t{0}).integer(),
                       end = offsets.at(std::size_t{1}).integer();
    if (begin < 0 || end < begin || static_cast<std::uint64_t>(end) > room)
      offsets.reject(fmt::format("0 <= begin <= end <= {}, got [{}, {}]", room, begin, end));
    if (!known) continue;
    const std::int64_t size = elements * block_shape(entry.info.type).bytes;
    if (end - begin != size)
      offsets.reject(fmt::format("{} bytes for {} of shape [{}], got {}", size,
                                 tensor_type_name(entry.info.type),
                                 fmt::join(entry.info.shape, ", "), end - begin));
    // A row count that nothing bounds would be a loop without end: zero columns, 2^60 rows.
    if (elements == 0) tensor.reject("at least one element");
    entry.data = bytes.data() + 8 + header + begin;
    entries.push_back(std::move(entry));
  }
}

void SafetensorsFile::adopt(const std::filesystem::path& path, std::vector<Entry> entries) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.info.name < b.info.name; });
  std::vector<TensorInfo> infos;
  for (Entry& entry : entries) {
    infos.push_back(std::move(entry.info));
    data_.push_back(entry.data);
  }
  set_tensors(path, std::move(infos));
}

void SafetensorsFile::decode_row(std::size_t index, std::int64_t row, float* out) const {
  const TensorInfo& info = tensors()[index];
  dequantize(info.type, data_[index] + row * info.columns() * block_shape(info.type).bytes,
             info.columns(), out);
}

}  // namespace vi::model
