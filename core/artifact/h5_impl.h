// What h5.cpp and h5_attr.cpp share: the lock around libhdf5, its identifiers, and the open file.
// Internal to core/artifact.
#pragma once

#include <hdf5.h>

#include <cstring>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/artifact/h5.h"
#include "core/artifact/h5_driver.h"
#include "core/common/error.h"

namespace vi::artifact {

std::recursive_mutex& library_mutex();

// Holds the lock; the first one sets the library up.
class Library {
 public:
  Library();

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

// Any HDF5 identifier.
class Id {
 public:
  Id() = default;
  explicit Id(hid_t id) : id_(id) {}
  Id(Id&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  Id& operator=(Id&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Id() {
    if (id_ > 0) H5Idec_ref(id_);
  }
  operator hid_t() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }

 private:
  hid_t id_ = H5I_INVALID_HID;
};
// The innermost reason the library gives, and forgets it.
std::string library_reason();

struct H5File::Impl {
  std::string name;
  Device device;
  Id file;
  bool writable = false;

  ~Impl() { shut(); }

  void shut() noexcept {
    {
      Library library;
      file = Id();
      H5Eclear2(H5E_DEFAULT);
    }
    if (device.fd >= 0 && ::close(device.fd) != 0 && device.error == 0 && errno != EINTR)
      device.error = errno;
    device.fd = -1;
  }

  template <class... Args>
  [[noreturn]] void broken(const std::string& place, fmt::format_string<Args...> format,
                           Args&&... args) const {
    check_device();
    H5Eclear2(H5E_DEFAULT);
    fail<ContractError>("{}: {}: {}", name, place,
                        fmt::format(format, std::forward<Args>(args)...));
  }
  void check_device() const {
    if (device.error != 0)
      fail<IoError>("{}: cannot be written: {}", name, std::strerror(device.error));
  }
  // After a call of the library that writes.
  void require(bool good, const std::string& place, const char* what) const {
    check_device();
    if (!good) fail<Error>("{}: {}: {}: {}", name, place, what, library_reason());
  }
  void require_open(bool for_writing = false) const {
    VI_CHECK(file, "{}: the file is closed", name);
    VI_CHECK(!for_writing || writable, "{}: opened for reading only", name);
  }

  // True if every part of the path is a hard link, so that it stays inside this file.
  bool resolves(const std::string& path) const {
    VI_CHECK(!path.empty() && path[0] == '/', "'{}' is not an absolute name", path);
    for (std::size_t slash = path.find('/', 1); path.size() > 1;
         slash = path.find('/', slash + 1)) {
      const std::string prefix = path.substr(0, slash);
      H5L_info_t link;
      if (H5Lexists(file, prefix.c_str(), H5P_DEFAULT) <= 0 ||
          H5Lget_info(file, prefix.c_str(), &link, H5P_DEFAULT) < 0) {
        H5Eclear2(H5E_DEFAULT);
        return false;
      }
      if (link.type != H5L_TYPE_HARD) broken(prefix, "is a link, expected the data itself");
      if (slash == std::string::npos) break;
    }
    return true;
  }
  Id open_object(const std::string& path, const char* expected) const {
    require_open();
    if (!resolves(path)) broken(path, "missing, expected {}", expected);
    Id object(H5Oopen(file, path.c_str(), H5P_DEFAULT));
    if (!object) broken(path, "expected {}: {}", expected, library_reason());
    return object;
  }
  Id open_dataset(const std::string& path) const {
    Id object = open_object(path, "a dataset");
    if (H5Iget_type(object) != H5I_DATASET) broken(path, "expected a dataset");
    return object;
  }
  DatasetInfo dataset_info(hid_t dataset, const std::string& path) const;
  Id select(hid_t dataset, const std::string& path, const DatasetInfo& info, const Slab* slab,
            std::size_t n, Id& memory) const;
  Id open_attr(const std::string& object, const std::string& attr, Id& holder) const;
  void write_attr(const std::string& object, const std::string& attr, hid_t type, hid_t space,
                  const void* data);
  std::vector<std::string> read_texts(const std::string& object, const std::string& attr,
                                      bool list) const;
  std::size_t attr_elements(hid_t attribute, const std::string& place, bool list) const;
};

}  // namespace vi::artifact
