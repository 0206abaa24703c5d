#include <optional>

#include "core/error.h"
#include "core/storage/hdf5_handle.h"
#include "core/storage/seal.h"

namespace infalign::storage {
namespace {

PropertyHandle access_properties() {
  PropertyHandle access = make_properties(H5P_FILE_ACCESS);
  hdf5_check(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), "H5Pset_fclose_degree");
#if H5_VERSION_GE(1, 10, 7) && !(H5_VERS_MAJOR == 1 && H5_VERS_MINOR == 12 && H5_VERS_RELEASE == 0)
  // What is read here is complete and never written again; network file systems often refuse locks.
  hdf5_check(H5Pset_file_locking(access, false, true), "H5Pset_file_locking");
#endif
  return access;
}

herr_t append_name(hid_t, const char* name, const H5L_info_t*, void* names) noexcept {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

herr_t append_attribute_name(hid_t, const char* name, const H5A_info_t*, void* names) noexcept {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

/// Strings that HDF5 allocated while reading, given back whatever happens.
class VariableStrings {
 public:
  VariableStrings(hid_t type, hid_t space, std::size_t count) : texts(count), type_(type), space_(space) {}
  ~VariableStrings() { H5Dvlen_reclaim(type_, space_, H5P_DEFAULT, texts.data()); }
  VariableStrings(const VariableStrings&) = delete;
  VariableStrings& operator=(const VariableStrings&) = delete;
  std::vector<std::string> take() const {
    std::vector<std::string> strings;
    for (const char* text : texts) strings.emplace_back(text ? text : "");
    return strings;
  }
  std::vector<char*> texts;

 private:
  hid_t type_, space_;
};

Shape shape_of(hid_t space) {
  const int dimensions = hdf5_check(H5Sget_simple_extent_ndims(space), "H5Sget_simple_extent_ndims");
  std::vector<hsize_t> lengths(static_cast<std::size_t>(dimensions));
  hdf5_check(H5Sget_simple_extent_dims(space, lengths.data(), nullptr), "H5Sget_simple_extent_dims");
  return {lengths.begin(), lengths.end()};
}

bool same_type(hid_t a, hid_t b) { return hdf5_check(H5Tequal(a, b), "H5Tequal") > 0; }

/// Fails, naming what was expected, unless the dataset's elements are of `type`.
void require_type(hid_t dataset, hid_t type) {
  const TypeHandle own(H5Dget_type(dataset), "H5Dget_type");
  if (!same_type(own, type)) throw Hdf5Failure("its elements are of another type than expected");
}

Attribute read_attribute(hid_t object, const std::string& name) {
  const AttributeHandle attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT), "H5Aopen " + name);
  const TypeHandle type(H5Aget_type(attribute), "H5Aget_type");
  const SpaceHandle space(H5Aget_space(attribute), "H5Aget_space");
  if (!shape_of(space).empty()) throw Hdf5Failure("attribute " + name + " is not one value");
  const auto number = [&]<typename T>(T value) {
    hdf5_check(H5Aread(attribute, memory_type<T>(), &value), "H5Aread " + name);
    return Attribute(value);
  };
  if (same_type(type, disk_type<std::int64_t>())) return number(std::int64_t{});
  if (same_type(type, disk_type<std::uint64_t>())) return number(std::uint64_t{});
  if (same_type(type, disk_type<double>())) return number(double{});
  const TypeHandle string_type = make_string_type();
  if (!same_type(type, string_type))
    throw Hdf5Failure("attribute " + name + " is of another type than expected");
  VariableStrings strings(string_type, space, 1);
  hdf5_check(H5Aread(attribute, string_type, strings.texts.data()), "H5Aread " + name);
  return strings.take().front();
}

}  // namespace

struct Hdf5Reader::Impl {
  Hdf5Session session;  // first in, last out
  std::filesystem::path path;
  bool sealed = false;
  FileHandle file;

  template <typename Work>
  auto guarded(const std::string& object, Work work) const {
    try {
      return work();
    } catch (const std::exception& failure) {  // a nonsensical shape ends in others than HDF5's
      throw InputError(path.string() + ": cannot read " + object + ": " + failure.what());
    }
  }

  DatasetHandle open(const std::string& dataset) const {
    return {H5Dopen2(file, dataset.c_str(), H5P_DEFAULT), "H5Dopen2"};
  }

  void append_datasets(const std::string& group, std::vector<std::string>& found) const {
    std::vector<std::string> names;
    hdf5_check(H5Literate_by_name(file, group.c_str(), H5_INDEX_NAME, H5_ITER_INC, nullptr, append_name,
                                  &names, H5P_DEFAULT),
               "H5Literate_by_name");
    for (const std::string& name : names) {
      const std::string path_in_file = (group == "/" ? "" : group) + "/" + name;
      const ObjectHandle object(H5Oopen(file, path_in_file.c_str(), H5P_DEFAULT), "H5Oopen");
      if (H5Iget_type(object) == H5I_DATASET) found.push_back(path_in_file);
      if (H5Iget_type(object) == H5I_GROUP) append_datasets(path_in_file, found);
    }
  }
};

Hdf5Reader::Hdf5Reader(const std::filesystem::path& path) : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  if (!std::filesystem::is_regular_file(path)) throw InputError(path.string() + ": there is no such file");
  impl_->sealed = check_seal(path);
  impl_->guarded("the file", [&] {
    const htri_t is_hdf5 = H5Fis_hdf5(path.c_str());
    if (is_hdf5 == 0) throw Hdf5Failure("not an HDF5 file");
    impl_->file = FileHandle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access_properties()), "H5Fopen");
  });
}

Hdf5Reader::~Hdf5Reader() = default;

const std::filesystem::path& Hdf5Reader::path() const { return impl_->path; }

void Hdf5Reader::refuse(const std::string& object, const std::string& what) const {
  throw InputError(impl_->path.string() + ": " + object + " " + what);
}

bool Hdf5Reader::has(const std::string& object) const {
  return impl_->guarded(object, [&] {
    // HDF5 answers with an error, not with no, when a group on the way is absent.
    for (std::size_t slash = object.find('/', 1);; slash = object.find('/', slash + 1)) {
      if (hdf5_check(H5Lexists(impl_->file, object.substr(0, slash).c_str(), H5P_DEFAULT), "H5Lexists") == 0)
        return false;
      if (slash == std::string::npos) return true;
    }
  });
}

void Hdf5Reader::require_version(std::int64_t version, const std::string& what) const {
  const auto found = impl_->guarded("format_version", [&]() -> std::optional<Attribute> {
    if (hdf5_check(H5Aexists(impl_->file, "format_version"), "H5Aexists") == 0) return std::nullopt;
    return read_attribute(impl_->file, "format_version");
  });
  if (!found || !std::holds_alternative<std::int64_t>(*found)) {
    refuse("/", "has no format_version: not " + what);
  }
  if (std::get<std::int64_t>(*found) != version) {
    refuse("/", "has format_version " + std::to_string(std::get<std::int64_t>(*found)) + ", of " + what +
                    " this program reads " + std::to_string(version));
  }
  if (!impl_->sealed) refuse("/", "has no checksum behind it: cut off, or changed by another program");
}

Attributes Hdf5Reader::attributes(const std::string& object) const {
  return impl_->guarded(object, [&] {
    const ObjectHandle handle(H5Oopen(impl_->file, object.c_str(), H5P_DEFAULT), "H5Oopen");
    std::vector<std::string> names;
    hdf5_check(H5Aiterate2(handle, H5_INDEX_NAME, H5_ITER_INC, nullptr, append_attribute_name, &names),
               "H5Aiterate2");
    Attributes attributes;
    for (const std::string& name : names) attributes[name] = read_attribute(handle, name);
    return attributes;
  });
}

std::vector<std::string> Hdf5Reader::datasets(const std::string& group) const {
  return impl_->guarded(group, [&] {
    std::vector<std::string> found;
    impl_->append_datasets(group, found);
    return found;
  });
}

Shape Hdf5Reader::shape(const std::string& dataset) const {
  return impl_->guarded(
      dataset, [&] { return shape_of(SpaceHandle(H5Dget_space(impl_->open(dataset)), "H5Dget_space")); });
}

template <typename T>
std::vector<T> Hdf5Reader::read(const std::string& dataset) const {
  return impl_->guarded(dataset, [&] {
    const DatasetHandle handle = impl_->open(dataset);
    require_type(handle, disk_type<T>());
    const SpaceHandle space(H5Dget_space(handle), "H5Dget_space");
    std::vector<T> values(static_cast<std::size_t>(element_count(shape_of(space))));
    hdf5_check(H5Dread(handle, memory_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "H5Dread");
    return values;
  });
}

template std::vector<float> Hdf5Reader::read(const std::string&) const;
template std::vector<double> Hdf5Reader::read(const std::string&) const;
template std::vector<std::int64_t> Hdf5Reader::read(const std::string&) const;
template std::vector<std::uint64_t> Hdf5Reader::read(const std::string&) const;

void Hdf5Reader::read_interval(const std::string& dataset, std::int64_t begin, std::span<float> out) const {
  impl_->guarded(dataset, [&] {
    const DatasetHandle handle = impl_->open(dataset);
    require_type(handle, disk_type<float>());
    const SpaceHandle space(H5Dget_space(handle), "H5Dget_space");
    const auto size = static_cast<std::int64_t>(out.size());
    const Shape own = shape_of(space);
    if (own.size() != 1 || begin + size > own[0]) {
      throw Hdf5Failure("its shape is " + shape_text(own) + ", elements " + std::to_string(begin) + " to " +
                        std::to_string(begin + size) + " are wanted");
    }
    select_box(space, {{begin}, {size}});
    hdf5_check(H5Dread(handle, H5T_NATIVE_FLOAT, make_space({size}), space, H5P_DEFAULT, out.data()),
               "H5Dread");
  });
}

std::vector<std::string> Hdf5Reader::read_strings(const std::string& dataset) const {
  return impl_->guarded(dataset, [&] {
    const DatasetHandle handle = impl_->open(dataset);
    const TypeHandle type = make_string_type();
    require_type(handle, type);
    const SpaceHandle space(H5Dget_space(handle), "H5Dget_space");
    VariableStrings read(type, space, static_cast<std::size_t>(element_count(shape_of(space))));
    hdf5_check(H5Dread(handle, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, read.texts.data()), "H5Dread");
    return read.take();
  });
}

template <typename T>
const T& attribute(const std::filesystem::path& file, const Attributes& attributes, const std::string& name) {
  const auto found = attributes.find(name);
  const T* value = found == attributes.end() ? nullptr : std::get_if<T>(&found->second);
  if (!value) throw InputError(file.string() + ": attribute " + name + " is missing or of another type");
  return *value;
}

template const std::int64_t& attribute(const std::filesystem::path&, const Attributes&, const std::string&);
template const std::uint64_t& attribute(const std::filesystem::path&, const Attributes&, const std::string&);
template const double& attribute(const std::filesystem::path&, const Attributes&, const std::string&);
template const std::string& attribute(const std::filesystem::path&, const Attributes&, const std::string&);

}  // namespace infalign::storage
