#include "eval/gpu_backend.h"

#include <dlfcn.h>

#include <filesystem>

#include "core/common/error.h"

namespace vi::eval {
namespace {

GpuBackend* load() {
  std::error_code code;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", code);
  const auto library = program.parent_path() / "libvi_gpu.so";
  if (!std::filesystem::exists(library, code))
    fail<CudaError>("--device cuda: this build has no GPU half ({} is missing: no CUDA toolkit was found "
                    "when it was configured); use --device cpu",
                    library.filename().string());
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!handle) fail<CudaError>("--device cuda: {}; use --device cpu", dlerror());
  using Entry = GpuBackend* (*)(std::string*);
  const auto entry = reinterpret_cast<Entry>(dlsym(handle, "vi_gpu_backend"));
  if (!entry) fail<CudaError>("--device cuda: {} is not this program's", library.string());
  std::string why;
  GpuBackend* backend = entry(&why);
  if (!backend) fail<CudaError>("--device cuda: {}", why);
  return backend;
}

}  // namespace

GpuBackend& gpu_backend() {
  static GpuBackend* const backend = load();
  return *backend;
}

}  // namespace vi::eval
