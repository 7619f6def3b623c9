// Numbers laid end to end as bytes and back, in this machine's order: what checkpoints are made of.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/common/error.h"

namespace vi {

class ByteWriter {
 public:
  template <class T>
  void put(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::uint64_t n = values.size();
    bytes_.append(reinterpret_cast<const char*>(&n), sizeof n);
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }
  template <class T>
  void put(const std::vector<T>& values) {
    put(std::span<const T>(values));
  }
  template <class T>
  void put(const T& value) {
    put(std::span<const T>(&value, 1));
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// Reads what a ByteWriter wrote, in the same order and types; Error if it is shorter or of other sizes.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  void take(std::vector<T>& values) {
    std::uint64_t n = 0;
    take_raw(&n, sizeof n);
    VI_CHECK(n <= (bytes_.size() - at_) / sizeof(T), "a checkpoint of {} bytes is short", bytes_.size());
    values.resize(n);
    take_raw(values.data(), n * sizeof(T));
  }
  template <class T>
  void take(T& value) {
    std::vector<T> one;
    take(one);
    VI_CHECK(one.size() == 1, "a checkpoint holds {} values in place of one", one.size());
    value = one[0];
  }

 private:
  void take_raw(void* out, std::size_t n) {
    VI_CHECK(n <= bytes_.size() - at_, "a checkpoint of {} bytes is short", bytes_.size());
    if (n > 0) std::memcpy(out, bytes_.data() + at_, n);
    at_ += n;
  }
  std::string_view bytes_;
  std::size_t at_ = 0;
};

}  // namespace vi
