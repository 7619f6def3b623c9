#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/artifact/h5_impl.h"
#include "core/common/half.h"

namespace vi::artifact {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

Library::Library() : lock_(library_mutex()) {
  static const bool ready = [] {
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    H5PLset_loading_state(0);  // no code from outside, whatever a file asks for
    return true;
  }();
  (void)ready;
}

// The innermost reason the library gives, and forgets it.
std::string library_reason() {
  std::string reason;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
        auto& text = *static_cast<std::string*>(out);
        if (text.empty() && error->desc) text = error->desc;
        return 0;
      },
      &reason);
  H5Eclear2(H5E_DEFAULT);
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  return reason.empty() ? "the HDF5 library gives no reason" : reason;
}
namespace {

Id float16_type(std::size_t mantissa, std::size_t exponent, std::size_t bias) {
  Id type(H5Tcopy(H5T_IEEE_F32LE));
  H5Tset_fields(type, 15, mantissa, exponent, 0, mantissa);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, bias);
  return type;
}

Id hdf5_type(DType type) {
  switch (type) {
    case DType::f16:
      return float16_type(10, 5, 15);
    case DType::bf16:
      return float16_type(7, 8, 127);
    case DType::f32:
      return Id(H5Tcopy(H5T_IEEE_F32LE));
    case DType::f64:
      return Id(H5Tcopy(H5T_IEEE_F64LE));
    case DType::i32:
      return Id(H5Tcopy(H5T_STD_I32LE));
    case DType::i64:
      return Id(H5Tcopy(H5T_STD_I64LE));
    case DType::u8:
      return Id(H5Tcopy(H5T_STD_U8LE));
    case DType::u16:
      return Id(H5Tcopy(H5T_STD_U16LE));
  }
  return Id();
}

constexpr DType kAllTypes[] = {DType::f16, DType::bf16, DType::f32, DType::f64,
                               DType::i32, DType::i64,  DType::u8,  DType::u16};

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (const std::int64_t n : shape) text += fmt::format("{}{}", text.size() > 1 ? ", " : "", n);
  return text + "]";
}

std::vector<hsize_t> dims_of(const Shape& shape) { return {shape.begin(), shape.end()}; }

}  // namespace
std::string_view name_of(DType type) {
  constexpr std::string_view names[] = {"f16", "bf16", "f32", "f64", "i32", "i64", "u8", "u16"};
  return names[static_cast<int>(type)];
}

std::size_t bytes_of(DType type) {
  constexpr std::size_t bytes[] = {2, 2, 4, 8, 4, 8, 1, 2};
  return bytes[static_cast<int>(type)];
}

std::int64_t elements(const Shape& shape) {
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) {
    VI_CHECK(extent >= 0, "shape {} has a negative extent", shape_text(shape));
    VI_CHECK(!__builtin_mul_overflow(n, extent, &n), "shape {} overflows", shape_text(shape));
  }
  return n;
}

Slab slab(const Shape& shape, int axis, std::int64_t first, std::int64_t count) {
  VI_CHECK(axis >= 0 && axis < static_cast<int>(shape.size()), "no axis {} in shape {}", axis,
           shape_text(shape));
  Slab result{Shape(shape.size(), 0), shape};
  result.first[axis] = first;
  result.count[axis] = count;
  return result;
}

H5File::H5File(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
H5File::H5File(H5File&&) noexcept = default;
H5File& H5File::operator=(H5File&&) noexcept = default;
H5File::~H5File() = default;
const std::string& H5File::name() const { return impl_->name; }

H5File H5File::create(const std::filesystem::path& path) {
  auto impl = std::make_unique<Impl>();
  impl->name = path.string();
  impl->writable = true;
  impl->device.fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (impl->device.fd < 0)
    fail<IoError>("{}: cannot be created: {}", impl->name, std::strerror(errno));
  Library library;
  Id access(H5Pcreate(H5P_FILE_ACCESS)), create(H5Pcreate(H5P_FILE_CREATE));
  H5Pset_libver_bounds(access, H5F_LIBVER_V18,
                       H5F_LIBVER_V18);  // checksummed metadata, fixed format
  H5Pset_obj_track_times(create, false);
  set_device(access, &impl->device);
  impl->file = Id(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, create, access));
  impl->require(static_cast<bool>(impl->file), "/", "cannot be created");
  return H5File(std::move(impl));
}

namespace {

Id open_device(Device& device, const std::string& name) {
  Id access(H5Pcreate(H5P_FILE_ACCESS));
  set_device(access, &device);
  Id file(H5Fopen(name.c_str(), H5F_ACC_RDONLY, access));
  if (!file) fail<ContractError>("{}: expected a whole HDF5 file: {}", name, library_reason());
  return file;
}

}  // namespace

H5File H5File::open(const std::filesystem::path& path) {
  auto impl = std::make_unique<Impl>();
  impl->name = path.string();
  impl->device.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (impl->device.fd < 0)
    fail<ContractError>("{}: cannot be read: {}", impl->name, std::strerror(errno));
  struct stat status {};
  if (::fstat(impl->device.fd, &status) != 0 || !S_ISREG(status.st_mode))
    fail<ContractError>("{}: is not a regular file", impl->name);
  impl->device.size = static_cast<std::uint64_t>(status.st_size);
  Library library;
  impl->file = open_device(impl->device, impl->name);
  return H5File(std::move(impl));
}

H5File H5File::open_image(std::span<const std::uint8_t> bytes, std::string_view name) {
  auto impl = std::make_unique<Impl>();
  impl->name = name;
  static const std::uint8_t nothing = 0;
  impl->device.image = bytes.empty() ? &nothing : bytes.data();
  impl->device.size = bytes.size();
  Library library;
  impl->file = open_device(impl->device, impl->name);
  return H5File(std::move(impl));
}

void H5File::close() {
  impl_->shut();
  impl_->check_device();
}

void H5File::create_group(const std::string& group) {
  Library library;
  impl_->require_open(true);
  VI_CHECK(!group.empty() && group[0] == '/', "'{}' is not an absolute name", group);
  Id create(H5Pcreate(H5P_GROUP_CREATE));
  H5Pset_obj_track_times(create, false);
  // Each missing group by itself: those that the library makes on the way would carry times.
  for (std::size_t slash = group.find('/', 1); group.size() > 1;
       slash = group.find('/', slash + 1)) {
    const std::string prefix = group.substr(0, slash);
    if (!impl_->resolves(prefix)) {
      Id made(H5Gcreate2(impl_->file, prefix.c_str(), H5P_DEFAULT, create, H5P_DEFAULT));
      impl_->require(static_cast<bool>(made), prefix, "cannot be made");
    }
    if (slash == std::string::npos) break;
  }
}

void H5File::create_dataset(const std::string& name, DType dtype, const Shape& shape) {
  Library library;
  impl_->require_open(true);
  elements(shape);
  const std::size_t slash = name.rfind('/');
  VI_CHECK(slash != std::string::npos && slash + 1 < name.size(),
           "'{}' is not the name of a dataset", name);
  if (slash > 0) create_group(name.substr(0, slash));
  Id create(H5Pcreate(H5P_DATASET_CREATE));
  H5Pset_obj_track_times(create, false);
  H5Pset_layout(create, H5D_CONTIGUOUS);
  H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);  // offsets follow the order of creation
  H5Pset_fill_time(create, H5D_FILL_TIME_NEVER);    // the file system's zeros
  const std::vector<hsize_t> dims = dims_of(shape);
  Id space(dims.empty() ? H5Screate(H5S_SCALAR)
                        : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr));
  Id dataset(H5Dcreate2(impl_->file, name.c_str(), hdf5_type(dtype), space, H5P_DEFAULT, create,
                        H5P_DEFAULT));
  impl_->require(static_cast<bool>(dataset), name, "cannot be made");
}

DatasetInfo H5File::Impl::dataset_info(hid_t dataset, const std::string& path) const {
  DatasetInfo info;
  Id type(H5Dget_type(dataset)), space(H5Dget_space(dataset)), create(H5Dget_create_plist(dataset));
  const auto known = std::find_if(std::begin(kAllTypes), std::end(kAllTypes), [&](DType candidate) {
    return H5Tequal(type, hdf5_type(candidate)) > 0;
  });
  if (known == std::end(kAllTypes))
    broken(path, "expected little-endian f16, bf16, f32, f64, i32, i64, u8 or u16");
  info.dtype = *known;
  const H5S_class_t kind = H5Sget_simple_extent_type(space);
  const int rank = kind == H5S_SIMPLE ? H5Sget_simple_extent_ndims(space) : 0;
  if (kind != H5S_SIMPLE && kind != H5S_SCALAR) broken(path, "expected an array");
  std::vector<hsize_t> dims(static_cast<std::size_t>(std::max(rank, 0)));
  if (rank > 0) H5Sget_simple_extent_dims(space, dims.data(), nullptr);
  std::int64_t bytes = static_cast<std::int64_t>(bytes_of(info.dtype));
  for (const hsize_t extent : dims) {
    info.shape.push_back(static_cast<std::int64_t>(extent));
    if (extent > static_cast<hsize_t>(INT64_MAX) ||
        __builtin_mul_overflow(bytes, info.shape.back(), &bytes))
      broken(path, "extents overflow");
  }
  const H5D_layout_t layout = H5Pget_layout(create);
  if ((layout != H5D_CONTIGUOUS && layout != H5D_COMPACT) || H5Pget_nfilters(create) != 0 ||
      H5Pget_external_count(create) != 0)
    broken(path, "expected contiguous, uncompressed data inside this file");
  if (H5Dget_storage_size(dataset) != static_cast<hsize_t>(bytes))
    broken(path, "shape {} needs {} bytes, {} are stored", shape_text(info.shape), bytes,
           H5Dget_storage_size(dataset));
  if (layout == H5D_CONTIGUOUS && bytes > 0 && !writable) {
    const haddr_t offset = H5Dget_offset(dataset);
    if (offset == HADDR_UNDEF || offset > device.size ||
        static_cast<std::uint64_t>(bytes) > device.size - offset)
      broken(path, "data lies outside the file of {} bytes", device.size);
  }
  return info;
}

// The file selection of `slab`, and in `memory` the matching space; n must be its size.
Id H5File::Impl::select(hid_t dataset, const std::string& path, const DatasetInfo& info,
                        const Slab* slab, std::size_t n, Id& memory) const {
  Id space(H5Dget_space(dataset));
  const Shape& count = slab ? slab->count : info.shape;
  if (slab) {
    bool inside = slab->first.size() == info.shape.size() && count.size() == info.shape.size();
    for (std::size_t i = 0; inside && i < count.size(); ++i)
      inside = slab->first[i] >= 0 && count[i] >= 0 && slab->first[i] <= info.shape[i] - count[i];
    VI_CHECK(inside, "{}: {}: the slab {} from {} is not inside {}", name, path, shape_text(count),
             shape_text(slab->first), shape_text(info.shape));
  }
  VI_CHECK(static_cast<std::size_t>(elements(count)) == n, "{}: {}: {} elements for shape {}", name,
           path, n, shape_text(count));
  if (slab && !count.empty() && n > 0)
    H5Sselect_hyperslab(space, H5S_SELECT_SET, dims_of(slab->first).data(), nullptr,
                        dims_of(count).data(), nullptr);
  const hsize_t flat = n;
  memory = Id(H5Screate_simple(1, &flat, nullptr));
  return space;
}

namespace {

bool meets(DType dtype, DType native, bool bits) {
  if (native == DType::f32)
    return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
  if (bits) return dtype == DType::u16 || dtype == DType::f16 || dtype == DType::bf16;
  return dtype == native;
}

constexpr DType kNatives[] = {DType::f32, DType::f64, DType::i32,
                              DType::i64, DType::u8,  DType::u16};

}  // namespace

void H5File::write_any(const std::string& name, const Slab* slab, const void* data, std::size_t n,
                       Native native) {
  Library library;
  impl_->require_open(true);
  const DType type = kNatives[static_cast<int>(native)];
  Id dataset = impl_->open_dataset(name), memory;
  const DatasetInfo info = impl_->dataset_info(dataset, name);
  VI_CHECK(meets(info.dtype, type, native == Native::u16), "{}: {}: {} cannot be written as {}",
           impl_->name, name, name_of(type), name_of(info.dtype));
  Id space = impl_->select(dataset, name, info, slab, n, memory);
  if (n == 0) return;
  std::vector<std::uint16_t> converted;
  if (native == Native::f32 && info.dtype != DType::f32) {
    converted.resize(n);
    const auto* values = static_cast<const float*>(data);
    for (std::size_t i = 0; i < n; ++i)
      converted[i] = info.dtype == DType::f16 ? float_to_half(values[i]) : float_to_bf16(values[i]);
    data = converted.data();
  }
  const herr_t status = H5Dwrite(dataset, hdf5_type(info.dtype), memory, space, H5P_DEFAULT, data);
  impl_->require(status >= 0, name, "cannot be written");
}

std::int64_t H5File::checked_elements(const std::string& name) const {
  return elements(info(name).shape);
}

void H5File::read_any(const std::string& name, const Slab* slab, void* out, std::size_t n,
                      Native native) const {
  Library library;
  const DType type = kNatives[static_cast<int>(native)];
  Id dataset = impl_->open_dataset(name), memory;
  const DatasetInfo info = impl_->dataset_info(dataset, name);
  if (!meets(info.dtype, type, native == Native::u16))
    impl_->broken(name, "expected dtype {}, found {}", name_of(type), name_of(info.dtype));
  Id space = impl_->select(dataset, name, info, slab, n, memory);
  if (n == 0) return;
  if (native == Native::f32 && info.dtype != DType::f32) {
    // The 16-bit values go into the upper half of `out` and are widened from the front: no second
    // buffer.
    auto* values = static_cast<float*>(out);
    auto* bits = reinterpret_cast<unsigned char*>(values) + n * 2;
    if (H5Dread(dataset, hdf5_type(info.dtype), memory, space, H5P_DEFAULT, bits) < 0)
      impl_->broken(name, "cannot be read: {}", library_reason());
    for (std::size_t i = 0; i < n; ++i) {
      std::uint16_t half;
      std::memcpy(&half, bits + 2 * i, 2);
      const float value = info.dtype == DType::f16 ? half_to_float(half) : bf16_to_float(half);
      std::memcpy(values + i, &value, 4);
    }
    return;
  }
  if (H5Dread(dataset, hdf5_type(info.dtype), memory, space, H5P_DEFAULT, out) < 0)
    impl_->broken(name, "cannot be read: {}", library_reason());
}

bool H5File::exists(const std::string& name) const {
  Library library;
  impl_->require_open();
  return impl_->resolves(name);
}

bool H5File::is_group(const std::string& name) const {
  Library library;
  return H5Iget_type(impl_->open_object(name, "a group or dataset")) == H5I_GROUP;
}

std::vector<std::string> H5File::list(const std::string& group) const {
  Library library;
  Id object = impl_->open_object(group, "a group");
  if (H5Iget_type(object) != H5I_GROUP) impl_->broken(group, "expected a group");
  std::vector<std::string> names;
  const herr_t status = H5Literate(
      object, H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t, const char* child, const H5L_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->emplace_back(child);
        return 0;
      },
      &names);
  if (status < 0) impl_->broken(group, "cannot be listed: {}", library_reason());
  std::sort(names.begin(), names.end());
  return names;
}

DatasetInfo H5File::info(const std::string& dataset) const {
  Library library;
  return impl_->dataset_info(impl_->open_dataset(dataset), dataset);
}
}  // namespace vi::artifact
