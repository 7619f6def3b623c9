// The file driver under H5File. libhdf5 1.10 cannot let go of a file whose writes fail, so the
// driver notes the first failure and tells the library that all is well; H5File asks for it after
// every call. It also reads images in memory. Internal to core/artifact.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <string>

namespace vi::artifact {

struct Device {
  int fd = -1;                          // or
  const std::uint8_t* image = nullptr;  // read-only
  std::uint64_t size = 0;               // bytes in the file now
  int error = 0;                        // errno of the first failed write
};

// Makes `fapl` open `device` (which must outlive the file), whatever name H5Fopen is given.
// Returns a negative value on failure.
herr_t set_device(hid_t fapl, Device* device);

}  // namespace vi::artifact
