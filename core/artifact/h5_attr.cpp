// The attributes of H5File.
#include <algorithm>

#include "core/artifact/h5_impl.h"

namespace vi::artifact {
namespace {

constexpr std::size_t kMaxAttrBytes = std::size_t{1} << 24;

}  // namespace

void H5File::Impl::write_attr(const std::string& object, const std::string& attr, hid_t type,
                              hid_t space, const void* data) {
  require_open(true);
  Id holder = open_object(object, "a group or dataset");
  if (H5Aexists(holder, attr.c_str()) > 0) H5Adelete(holder, attr.c_str());
  Id attribute(H5Acreate2(holder, attr.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT));
  const std::string place = object + "@" + attr;
  require(static_cast<bool>(attribute), place, "cannot be made");
  if (H5Sget_simple_extent_npoints(space) > 0)
    require(H5Awrite(attribute, type, data) >= 0, place, "cannot be written");
}

namespace {

Id text_type(std::size_t bytes) {
  Id type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type, std::max<std::size_t>(bytes, 1));
  H5Tset_cset(type, H5T_CSET_UTF8);
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  return type;
}

Id list_space(std::size_t n) {
  const hsize_t extent = n;
  return Id(H5Screate_simple(1, &extent, nullptr));
}

}  // namespace

void H5File::set_attr(const std::string& object, const std::string& attr, std::string_view value) {
  Library library;
  const std::string text = value.empty() ? std::string(1, '\0') : std::string(value);
  impl_->write_attr(object, attr, text_type(text.size()), Id(H5Screate(H5S_SCALAR)), text.data());
}

void H5File::set_attr(const std::string& object, const std::string& attr, std::int64_t value) {
  Library library;
  impl_->write_attr(object, attr, H5T_STD_I64LE, Id(H5Screate(H5S_SCALAR)), &value);
}

void H5File::set_attr(const std::string& object, const std::string& attr, double value) {
  Library library;
  impl_->write_attr(object, attr, H5T_IEEE_F64LE, Id(H5Screate(H5S_SCALAR)), &value);
}

void H5File::set_attr(const std::string& object, const std::string& attr,
                      const std::vector<std::string>& values) {
  Library library;
  std::size_t width = 1;
  for (const std::string& value : values) width = std::max(width, value.size());
  std::string packed;
  for (const std::string& value : values) packed += value + std::string(width - value.size(), '\0');
  impl_->write_attr(object, attr, text_type(width), list_space(values.size()), packed.data());
}

void H5File::set_attr(const std::string& object, const std::string& attr,
                      const std::vector<std::int64_t>& values) {
  Library library;
  impl_->write_attr(object, attr, H5T_STD_I64LE, list_space(values.size()), values.data());
}

Id H5File::Impl::open_attr(const std::string& object, const std::string& attr, Id& holder) const {
  holder = open_object(object, "a group or dataset");
  const std::string place = object + "@" + attr;
  if (H5Aexists(holder, attr.c_str()) <= 0) broken(place, "missing attribute");
  Id attribute(H5Aopen(holder, attr.c_str(), H5P_DEFAULT));
  if (!attribute) broken(place, "cannot be read: {}", library_reason());
  return attribute;
}

std::size_t H5File::Impl::attr_elements(hid_t attribute, const std::string& place,
                                        bool list) const {
  Id space(H5Aget_space(attribute));
  const hssize_t n = H5Sget_simple_extent_npoints(space);
  const int rank = H5Sget_simple_extent_ndims(space);
  if (n < 0 || static_cast<std::uint64_t>(n) > kMaxAttrBytes || (list ? rank != 1 : n != 1))
    broken(place, "expected {}", list ? "a list" : "one value");
  return static_cast<std::size_t>(n);
}

std::vector<std::string> H5File::Impl::read_texts(const std::string& object,
                                                  const std::string& attr, bool list) const {
  Id holder, attribute = open_attr(object, attr, holder);
  const std::string place = object + "@" + attr;
  Id type(H5Aget_type(attribute)), space(H5Aget_space(attribute));
  if (H5Tget_class(type) != H5T_STRING) broken(place, "expected text");
  const std::size_t n = attr_elements(attribute, place, list);
  std::vector<std::string> values;
  if (n == 0) return values;
  if (H5Tis_variable_str(type) > 0) {
    std::vector<char*> pointers(n, nullptr);
    if (H5Aread(attribute, type, pointers.data()) < 0)
      broken(place, "cannot be read: {}", library_reason());
    for (const char* text : pointers) values.emplace_back(text ? text : "");
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, pointers.data());
    return values;
  }
  const std::size_t width = H5Tget_size(type);
  if (width == 0 || width > kMaxAttrBytes / n) broken(place, "text too long");
  const bool spaces = H5Tget_strpad(type) == H5T_STR_SPACEPAD;
  std::string packed(n * width, '\0');
  if (H5Aread(attribute, type, packed.data()) < 0)
    broken(place, "cannot be read: {}", library_reason());
  for (std::size_t i = 0; i < n; ++i) {
    std::string text = packed.substr(i * width, width);
    text.resize(std::min(text.find('\0'), text.size()));
    while (spaces && !text.empty() && text.back() == ' ') text.pop_back();
    values.push_back(std::move(text));
  }
  return values;
}

bool H5File::has_attr(const std::string& object, const std::string& attr) const {
  Library library;
  return H5Aexists(impl_->open_object(object, "a group or dataset"), attr.c_str()) > 0;
}

std::vector<std::string> H5File::attrs(const std::string& object) const {
  Library library;
  Id holder = impl_->open_object(object, "a group or dataset");
  std::vector<std::string> names;
  const herr_t status = H5Aiterate2(
      holder, H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t, const char* attr, const H5A_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->emplace_back(attr);
        return 0;
      },
      &names);
  if (status < 0) impl_->broken(object, "attributes cannot be listed: {}", library_reason());
  std::sort(names.begin(), names.end());
  return names;
}

std::string H5File::attr_text(const std::string& object, const std::string& attr) const {
  Library library;
  return impl_->read_texts(object, attr, false).front();
}

std::vector<std::string> H5File::attr_texts(const std::string& object,
                                            const std::string& attr) const {
  Library library;
  return impl_->read_texts(object, attr, true);
}

namespace {

bool is_whole(hid_t type) { return H5Tget_class(type) == H5T_INTEGER && H5Tget_size(type) <= 8; }

}  // namespace

std::int64_t H5File::attr_int(const std::string& object, const std::string& attr) const {
  Library library;
  Id holder, attribute = impl_->open_attr(object, attr, holder);
  const std::string place = object + "@" + attr;
  std::int64_t value = 0;
  if (!is_whole(Id(H5Aget_type(attribute)))) impl_->broken(place, "expected a whole number");
  impl_->attr_elements(attribute, place, false);
  if (H5Aread(attribute, H5T_NATIVE_INT64, &value) < 0)
    impl_->broken(place, "cannot be read: {}", library_reason());
  return value;
}

std::vector<std::int64_t> H5File::attr_ints(const std::string& object,
                                            const std::string& attr) const {
  Library library;
  Id holder, attribute = impl_->open_attr(object, attr, holder);
  const std::string place = object + "@" + attr;
  if (!is_whole(Id(H5Aget_type(attribute)))) impl_->broken(place, "expected whole numbers");
  std::vector<std::int64_t> values(impl_->attr_elements(attribute, place, true));
  if (!values.empty() && H5Aread(attribute, H5T_NATIVE_INT64, values.data()) < 0)
    impl_->broken(place, "cannot be read: {}", library_reason());
  return values;
}

double H5File::attr_real(const std::string& object, const std::string& attr) const {
  Library library;
  Id holder, attribute = impl_->open_attr(object, attr, holder);
  const std::string place = object + "@" + attr;
  Id type(H5Aget_type(attribute));
  if (H5Tget_class(type) != H5T_FLOAT && !is_whole(type)) impl_->broken(place, "expected a number");
  impl_->attr_elements(attribute, place, false);
  double value = 0;
  if (H5Tget_size(type) > 8 || H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) < 0)
    impl_->broken(place, "cannot be read: {}", library_reason());
  return value;
}

}  // namespace vi::artifact
