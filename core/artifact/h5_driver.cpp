#include "core/artifact/h5_driver.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <new>

namespace vi::artifact {
namespace {

struct DeviceInfo {  // the driver's part of a file access list; copied as bytes
  Device* device;
};

struct DriverFile {
  H5FD_t base;  // first: libhdf5 sees only this
  Device* device;
  haddr_t eoa;
};

constexpr haddr_t kMaxAddress = static_cast<haddr_t>(std::numeric_limits<std::int64_t>::max());

DriverFile* self(H5FD_t* file) { return reinterpret_cast<DriverFile*>(file); }
const DriverFile* self(const H5FD_t* file) { return reinterpret_cast<const DriverFile*>(file); }

H5FD_t* driver_open(const char*, unsigned flags, hid_t fapl, haddr_t) {
  const auto* info = static_cast<const DeviceInfo*>(H5Pget_driver_info(fapl));
  if (!info || !info->device) return nullptr;
  Device& device = *info->device;
  if ((flags & H5F_ACC_TRUNC) != 0 && device.fd >= 0) {
    if (::ftruncate(device.fd, 0) != 0 && device.error == 0) device.error = errno;
    device.size = 0;
  }
  auto* file = new (std::nothrow) DriverFile{};
  if (!file) return nullptr;
  file->device = &device;
  return &file->base;
}

herr_t driver_close(H5FD_t* file) {
  delete self(file);
  return 0;
}

herr_t driver_query(const H5FD_t*, unsigned long* flags) {
  if (flags)
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  return 0;
}

haddr_t driver_get_eoa(const H5FD_t* file, H5FD_mem_t) { return self(file)->eoa; }

herr_t driver_set_eoa(H5FD_t* file, H5FD_mem_t, haddr_t address) {
  self(file)->eoa = address;
  return 0;
}

haddr_t driver_get_eof(const H5FD_t* file, H5FD_mem_t) { return self(file)->device->size; }

herr_t driver_read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, std::size_t size,
                   void* buffer) {
  const Device& device = *self(file)->device;
  if (address > kMaxAddress || size > kMaxAddress - address) return -1;
  auto* out = static_cast<std::uint8_t*>(buffer);
  if (address < device.size) {
    std::size_t inside = std::min<std::uint64_t>(size, device.size - address);
    if (device.image) {
      std::memcpy(out, device.image + address, inside);
      out += inside;
      size -= inside;
    }
    while (!device.image && inside > 0) {
      const ssize_t n = ::pread(device.fd, out, inside, static_cast<off_t>(address));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return -1;
      if (n == 0) break;  // shorter than it was
      out += n;
      address += static_cast<haddr_t>(n);
      inside -= static_cast<std::size_t>(n);
      size -= static_cast<std::size_t>(n);
    }
  }
  std::memset(out, 0, size);  // allocated, never written
  return 0;
}

herr_t driver_write(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, std::size_t size,
                    const void* buffer) {
  Device& device = *self(file)->device;
  const auto* data = static_cast<const std::uint8_t*>(buffer);
  while (size > 0 && device.error == 0) {
    const ssize_t n = device.fd < 0 ? (errno = EROFS, -1)
                                    : ::pwrite(device.fd, data, size, static_cast<off_t>(address));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      device.error = errno;
      break;
    }
    data += n;
    address += static_cast<haddr_t>(n);
    size -= static_cast<std::size_t>(n);
  }
  device.size = std::max<std::uint64_t>(device.size, address + size);
  return 0;
}

herr_t driver_truncate(H5FD_t* file, hid_t, hbool_t) {
  Device& device = *self(file)->device;
  const haddr_t eoa = self(file)->eoa;
  if (device.fd < 0 || eoa == device.size) return 0;
  if (device.error == 0 && ::ftruncate(device.fd, static_cast<off_t>(eoa)) != 0)
    device.error = errno;
  device.size = eoa;
  return 0;
}

hid_t driver_id() {
  static const hid_t id = [] {
    static H5FD_class_t driver = [] {
      H5FD_class_t d{};
      d.name = "vecinfer";
      d.maxaddr = kMaxAddress;
      d.fc_degree = H5F_CLOSE_STRONG;
      d.fapl_size = sizeof(DeviceInfo);
      d.open = driver_open;
      d.close = driver_close;
      d.query = driver_query;
      d.get_eoa = driver_get_eoa;
      d.set_eoa = driver_set_eoa;
      d.get_eof = driver_get_eof;
      d.read = driver_read;
      d.write = driver_write;
      d.truncate = driver_truncate;
      const H5FD_mem_t map[] = H5FD_FLMAP_DICHOTOMY;
      std::copy(std::begin(map), std::end(map), d.fl_map);
      return d;
    }();
    return H5FDregister(&driver);
  }();
  return id;
}

}  // namespace

herr_t set_device(hid_t fapl, Device* device) {
  const DeviceInfo info{device};
  return H5Pset_driver(fapl, driver_id(), &info);
}

}  // namespace vi::artifact
