// GgufFile::parse: the bytes of a GGUF file into metadata and tensor sources.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>

#include "core/common/error.h"
#include "core/common/utf8.h"
#include "core/weights/architectures.h"
#include "core/weights/dequant.h"
#include "core/weights/gguf.h"

namespace vi::model {
namespace {

enum ValueType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

// Smallest bytes of a value of each type, or 0 for what is no element type.
std::size_t least_bytes(std::uint32_t type) {
  constexpr std::size_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
  return type < std::size(kBytes) ? kBytes[type] : 0;
}

// Bounded reads; every failure names the byte where the value starts.
class Reader {
 public:
  Reader(std::span<const std::uint8_t> bytes, std::string file)
      : bytes_(bytes), file_(std::move(file)) {}

  std::size_t position() const { return at_; }
  std::size_t left() const { return bytes_.size() - at_; }

  [[noreturn]] void reject(std::string_view what) const {
    fail<ContractError>("{}: byte {}: {}", file_, at_, what);
  }

  template <class T>
  T number(const char* what) {
    static_assert(std::endian::native == std::endian::little);
    if (left() < sizeof(T)) reject(fmt::format("expected {}, the file ends", what));
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  std::string string(const char* what) {
    const auto size = number<std::uint64_t>(what);
    if (size > left())
      reject(fmt::format("expected {} of {} bytes, {} are left", what, size, left()));
    std::string text(reinterpret_cast<const char*>(bytes_.data() + at_), size);
    at_ += size;
    return text;
  }

  std::int64_t integer(std::uint32_t type) {
    switch (type) {
      case kU8:
        return number<std::uint8_t>("a uint8");
      case kI8:
        return number<std::int8_t>("an int8");
      case kU16:
        return number<std::uint16_t>("a uint16");
      case kI16:
        return number<std::int16_t>("an int16");
      case kU32:
        return number<std::uint32_t>("a uint32");
      case kI32:
        return number<std::int32_t>("an int32");
      case kI64:
        return number<std::int64_t>("an int64");
      default:
        break;
    }
    const auto value = number<std::uint64_t>("a uint64");
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      reject(fmt::format("expected an integer below 2^63, got {}", value));
    return static_cast<std::int64_t>(value);
  }

  double real(std::uint32_t type) {
    return type == kF32 ? static_cast<double>(number<float>("a float32"))
                        : number<double>("a float64");
  }

  bool boolean() {
    const auto value = number<std::uint8_t>("a bool");
    if (value > 1) reject(fmt::format("expected a bool of 0 or 1, got {}", value));
    return value == 1;
  }

  GgufValue value(std::uint32_t type) {
    switch (type) {
      case kF32:
      case kF64:
        return real(type);
      case kBool:
        return boolean();
      case kString:
        return string("a string");
      case kArray:
        return array();
      default:
        if (least_bytes(type) == 0)
          reject(fmt::format("expected a value type 0..12, got {}", type));
        return integer(type);
    }
  }

 private:
  GgufValue array() {
    const auto type = number<std::uint32_t>("an element type");
    const std::size_t least = least_bytes(type);
    if (least == 0)
      reject(fmt::format("expected an array of plain values, got element type {}", type));
    const auto count = number<std::uint64_t>("an array length");
    if (count > left() / least)
      reject(fmt::format("expected an array of {} elements, {} bytes are left", count, left()));
    switch (type) {
      case kF32:
      case kF64:
        return collect<double>(count, [&] { return real(type); });
      case kBool:
        return collect<bool>(count, [&] { return boolean(); });
      case kString:
        return collect<std::string>(count, [&] { return string("a string"); });
      default:
        return collect<std::int64_t>(count, [&] { return integer(type); });
    }
  }

  template <class T, class F>
  static std::vector<T> collect(std::uint64_t count, F&& next) {
    std::vector<T> values;
    values.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) values.push_back(next());
    return values;
  }

  std::span<const std::uint8_t> bytes_;
  std::string file_;
  std::size_t at_ = 0;
};

bool tensor_type(std::uint32_t id, TensorType& type) {
  constexpr std::pair<std::uint32_t, TensorType> kTypes[] = {
      {0, TensorType::f32},   {1, TensorType::f16},   {2, TensorType::q4_0},
      {3, TensorType::q4_1},  {6, TensorType::q5_0},  {7, TensorType::q5_1},
      {8, TensorType::q8_0},  {12, TensorType::q4_k}, {13, TensorType::q5_k},
      {14, TensorType::q6_k}, {30, TensorType::bf16},
  };
  for (const auto& [number, t] : kTypes)
    if (number == id) {
      type = t;
      return true;
    }
  return false;
}

// GGUF's stem of a tensor's name -> Hugging Face's.
struct Renaming {
  std::string_view gguf, hf;
};
constexpr Renaming kTopNames[] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
constexpr Renaming kLayerNames[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; names we do not know stay as
// they are.
std::string canonical_name(const std::string& name, bool& rope_rows) {
  rope_rows = false;
  const std::size_t dot = name.rfind('.');
  if (dot == std::string::npos) return name;
  const std::string_view suffix = std::string_view(name).substr(dot);
  std::string_view stem = std::string_view(name).substr(0, dot);
  if (!stem.starts_with("blk.")) {
    for (const auto& [gguf, hf] : kTopNames)
      if (stem == gguf) return fmt::format("{}{}", hf, suffix);
    return name;
  }
  stem.remove_prefix(4);
  const std::size_t digits = stem.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos || stem[digits] != '.') return name;
  const std::string_view layer = stem.substr(0, digits);
  stem.remove_prefix(digits + 1);
  for (const auto& [gguf, hf] : kLayerNames)
    if (stem == gguf) {
      rope_rows = stem == "attn_q" || stem == "attn_k";
      return fmt::format("model.layers.{}.{}{}", layer, hf, suffix);
    }
  return name;
}

// a * b for a, b >= 0, or -1 above 2^62.
std::int64_t checked_product(std::int64_t a, std::int64_t b) {
  std::int64_t product;
  if (__builtin_mul_overflow(a, b, &product) || product > (std::int64_t{1} << 62)) return -1;
  return product;
}

}  // namespace

void GgufFile::parse(std::span<const std::uint8_t> bytes, const std::filesystem::path& path) {
  set_tensors(path, {});
  const std::string file = path.string();
  Reader in(bytes, file);
  if (in.left() < 4 || std::memcmp(bytes.data(), "GGUF", 4) != 0)
    fail<ContractError>("{}: byte 0: expected the magic number GGUF", file);
  in.number<std::uint32_t>("the magic number");
  const auto version = in.number<std::uint32_t>("the version");
  if (version != 2 && version != 3)
    fail<ContractError>("{}: byte 4: expected GGUF version 2 or 3 (little-endian), got {}", file,
                        version);
  const auto n_tensors = in.number<std::uint64_t>("the number of tensors");
  const auto n_keys = in.number<std::uint64_t>("the number of metadata keys");

  for (std::uint64_t i = 0; i < n_keys; ++i) {
    const std::size_t start = in.position();
    std::string key = in.string("a metadata key");
    GgufValue value = in.value(in.number<std::uint32_t>("a value type"));
    if (!metadata_.emplace(key, std::move(value)).second)
      fail<ContractError>("{}: byte {}: key {}: expected each key once", file, start,
                          printable(key));
  }
  const std::int64_t alignment = get_int("general.alignment", 32);
  if (alignment < 1 || alignment > (1 << 20) || (alignment & (alignment - 1)) != 0)
    fail<ContractError>("{}: key general.alignment: expected a power of two, got {}", file,
                        alignment);
  if (get_int("split.count", 1) > 1)
    fail<ContractError>("{}: key split.count: expected a GGUF in one file, got {} parts", file,
                        get_int("split.count"));

  std::int64_t rope_head_dim = 0;  // > 0 where q and k rows lie interleaved
  const std::string arch = architecture();
  for (const Architecture& a : architectures())
    if (a.name == arch && a.interleaved_rope_rows) {
      rope_head_dim = get_int(arch + ".attention.key_length", 0);
      if (rope_head_dim == 0) {
        const std::int64_t heads = get_int(arch + ".attention.head_count");
        if (heads > 0) rope_head_dim = get_int(arch + ".embedding_length") / heads;
      }
      if (rope_head_dim < 2 || rope_head_dim % 2 != 0)
        fail<ContractError>("{}: key {}.attention.head_count: expected an even head_dim, got {}",
                            file, printable(arch), rope_head_dim);
    }

  struct Entry {
    TensorInfo info;
    std::uint64_t offset;
    Source source;
  };
  std::vector<Entry> entries;
  for (std::uint64_t i = 0; i < n_tensors; ++i) {
    const std::size_t start = in.position();
    const std::string name = in.string("a tensor name");
    const auto reject = [&](std::string_view what) {
      fail<ContractError>("{}: byte {}: tensor {}: {}", file, start, printable(name), what);
    };
    if (name.empty() || find_invalid_utf8(name) != std::string::npos)
      reject("expected a name in UTF-8");
    Entry entry{};
    bool rope_rows = false;
    entry.info.name = canonical_name(name, rope_rows);
    const auto n_dims = in.number<std::uint32_t>("a number of dimensions");
    if (n_dims > 4) reject(fmt::format("expected at most 4 dimensions, got {}", n_dims));
    std::int64_t elements = 1;
    for (std::uint32_t d = 0; d < n_dims; ++d) {  // innermost first in the file
      const std::int64_t size = in.integer(kU64);
      if (size < 1) reject("expected dimensions of 1 or more");
      elements = checked_product(elements, size);
      if (elements < 0) reject("expected fewer than 2^62 elements");
      entry.info.shape.insert(entry.info.shape.begin(), size);
    }
    const auto type = in.number<std::uint32_t>("a tensor type");
    if (!tensor_type(type, entry.info.type))
      reject(fmt::format(
          "expected one of F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K, got type {}",
          type));
    const BlockShape block = block_shape(entry.info.type);
    if (entry.info.columns() % block.elements != 0)
      reject(fmt::format("expected rows of a multiple of {} for {}, got {}", block.elements,
                         tensor_type_name(entry.info.type), entry.info.columns()));
    entry.source.row_bytes = checked_product(entry.info.columns() / block.elements, block.bytes);
    if (rope_rows && rope_head_dim > 0) {
      const std::int64_t rows =
          entry.info.shape.size() > 1 ? entry.info.rows() : entry.info.columns();
      if (rows % rope_head_dim != 0)
        reject(fmt::format("expected a multiple of head_dim {} rows, got {}", rope_head_dim, rows));
      entry.source.rope_head_dim = rope_head_dim;
    }
    entry.offset = in.number<std::uint64_t>("a tensor offset");
    entries.push_back(std::move(entry));
  }

  const std::uint64_t step = static_cast<std::uint64_t>(alignment);
  const std::uint64_t data = (in.position() + step - 1) / step * step;
  const std::uint64_t room = bytes.size() > data ? bytes.size() - data : 0;
  for (Entry& entry : entries) {
    const std::int64_t size = entry.source.row_bytes < 0
                                  ? -1
                                  : checked_product(entry.source.row_bytes, entry.info.rows());
    if (size < 0 || entry.offset > room || static_cast<std::uint64_t>(size) > room - entry.offset)
      fail<ContractError>(
          "{}: tensor {}: expected {} of shape [{}] at offset {} inside {} bytes of data", file,
          printable(entry.info.name), tensor_type_name(entry.info.type),
          fmt::join(entry.info.shape, ", "), entry.offset, room);
    entry.source.data = bytes.data() + data + entry.offset;
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.info.name < b.info.name; });
  std::vector<TensorInfo> infos;
  for (Entry& entry : entries) {
    infos.push_back(std::move(entry.info));
    sources_.push_back(entry.source);
  }
  set_tensors(path, std::move(infos));
}

}  // namespace vi::model
