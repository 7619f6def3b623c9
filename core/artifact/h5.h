// HDF5 files: a small RAII wrapper on the C API. Files are the same bytes in every run (no times,
// fixed format version), data is contiguous and uncompressed, and reading never follows a link out
// of the file or believes a size that the file does not hold. Wrong content: ContractError "file:
// /place: expected ..."; a refused write (a full disk): IoError, at the write or at close() and at
// the latest there. All calls take one lock: libhdf5 is not thread-safe.
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vi::artifact {

enum class DType { f16, bf16, f32, f64, i32, i64, u8, u16 };
std::string_view name_of(DType type);  // "f16"
std::size_t bytes_of(DType type);

using Shape = std::vector<std::int64_t>;
std::int64_t elements(const Shape& shape);

// A box inside a dataset: `count` elements along each axis from `first`.
struct Slab {
  Shape first, count;
};
// Indices [first, first + count) of `axis`, everything of the other axes.
Slab slab(const Shape& shape, int axis, std::int64_t first, std::int64_t count);

struct DatasetInfo {
  DType dtype = DType::f32;
  Shape shape;
};

enum class AttrKind { text, integer, real };

// The C++ types that datasets are read and written as. float converts to and from f16 and bf16
// (round to nearest even, in software: the same bytes everywhere); uint16_t carries their bits
// unconverted; every other type meets its own dtype only.
template <class T>
concept Element = std::same_as<T, float> || std::same_as<T, double> ||
    std::same_as<T, std::int32_t> || std::same_as<T, std::int64_t> ||
    std::same_as<T, std::uint8_t> || std::same_as<T, std::uint16_t>;

class H5File {
 public:
  static H5File create(const std::filesystem::path& path);  // replaces; IoError
  static H5File open(const std::filesystem::path& path);    // read-only; ContractError
  // A file image in memory, read-only; the bytes must outlive the file. `name` is for messages.
  static H5File open_image(std::span<const std::uint8_t> bytes, std::string_view name);
  H5File(H5File&&) noexcept;
  H5File& operator=(H5File&&) noexcept;
  ~H5File();  // closes; errors are lost, so whoever creates a file calls close()
  void close();
  const std::string& name() const;

  // Names are absolute ("/layer_03/key"); missing groups on the way are made.
  void create_group(const std::string& group);
  void create_dataset(const std::string& name, DType dtype, const Shape& shape);  // zeros
  template <Element T>
  void write_slab(const std::string& name, const Slab& slab, std::span<const T> data) {
    write_any(name, &slab, data.data(), data.size(), native<T>());
  }
  // create_dataset and write in one.
  template <Element T>
  void write(const std::string& name, DType dtype, const Shape& shape, std::span<const T> data) {
    create_dataset(name, dtype, shape);
    write_any(name, nullptr, data.data(), data.size(), native<T>());
  }
  template <Element T>
  void write(const std::string& name, DType dtype, const Shape& shape, const std::vector<T>& data) {
    write(name, dtype, shape, std::span<const T>(data));
  }

  bool exists(const std::string& name) const;                     // a group or dataset of this file
  std::vector<std::string> list(const std::string& group) const;  // child names, sorted
  bool is_group(const std::string& name) const;
  DatasetInfo info(const std::string& dataset) const;
  template <Element T>
  std::vector<T> read(const std::string& name) const {
    std::vector<T> data(static_cast<std::size_t>(checked_elements(name)));
    read_any(name, nullptr, data.data(), data.size(), native<T>());
    return data;
  }
  template <Element T>
  void read_slab(const std::string& name, const Slab& slab, std::span<T> out) const {
    read_any(name, &slab, out.data(), out.size(), native<T>());
  }

  // Attributes of a group or dataset; "/" is the root. Text is UTF-8, lists are one-dimensional.
  void set_attr(const std::string& object, const std::string& attr, std::string_view value);
  void set_attr(const std::string& object, const std::string& attr, const char* value) {
    set_attr(object, attr, std::string_view(value));
  }
  void set_attr(const std::string& object, const std::string& attr, std::int64_t value);
  void set_attr(const std::string& object, const std::string& attr, int value) {
    set_attr(object, attr, static_cast<std::int64_t>(value));
  }
  void set_attr(const std::string& object, const std::string& attr, double value);
  void set_attr(const std::string& object, const std::string& attr,
                const std::vector<std::string>& values);
  void set_attr(const std::string& object, const std::string& attr,
                const std::vector<std::int64_t>& values);
  bool has_attr(const std::string& object, const std::string& attr) const;
  std::vector<std::string> attrs(const std::string& object) const;  // names, sorted
  std::string attr_text(const std::string& object, const std::string& attr) const;
  std::int64_t attr_int(const std::string& object, const std::string& attr) const;
  double attr_real(const std::string& object, const std::string& attr) const;  // an integer will do
  std::vector<std::string> attr_texts(const std::string& object, const std::string& attr) const;
  std::vector<std::int64_t> attr_ints(const std::string& object, const std::string& attr) const;

 private:
  struct Impl;
  explicit H5File(std::unique_ptr<Impl> impl);
  enum class Native { f32, f64, i32, i64, u8, u16 };
  template <Element T>
  static constexpr Native native() {
    if constexpr (std::same_as<T, float>) return Native::f32;
    if constexpr (std::same_as<T, double>) return Native::f64;
    if constexpr (std::same_as<T, std::int32_t>) return Native::i32;
    if constexpr (std::same_as<T, std::int64_t>) return Native::i64;
    if constexpr (std::same_as<T, std::uint8_t>) return Native::u8;
    return Native::u16;
  }
  std::int64_t checked_elements(const std::string& name) const;
  void write_any(const std::string& name, const Slab* slab, const void* data, std::size_t n,
                 Native type);
  void read_any(const std::string& name, const Slab* slab, void* out, std::size_t n,
                Native type) const;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vi::artifact
