#include <limits>
#include <optional>

#include "core/storage/durable_file.h"
#include "core/storage/hdf5_driver.h"
#include "core/storage/hdf5_handle.h"
#include "core/storage/seal.h"

namespace infalign::storage {
namespace {

constexpr std::int64_t kLargestChunk =
    1 << 20;  // bytes: what one checksum guards, and one read of a slice costs

/// Whole trailing dimensions as far as they fit, the next one cut into even parts.
std::vector<hsize_t> chunk_extents(const Shape& shape, std::size_t element_size) {
  std::vector<hsize_t> chunk(shape.size(), 1);
  std::int64_t room = kLargestChunk / static_cast<std::int64_t>(element_size);
  for (std::size_t d = shape.size(); d-- > 0;) {
    const std::int64_t parts = (shape[d] + room - 1) / room;
    chunk[d] = static_cast<hsize_t>((shape[d] + parts - 1) / parts);
    if (parts > 1) break;
    room /= shape[d];
  }
  return chunk;
}

PropertyHandle writing_to(const std::shared_ptr<DurableFile>& target) {
  PropertyHandle access = make_properties(H5P_FILE_ACCESS);
  // The 1.10 format has checksums on all its metadata, and virtual datasets.
  hdf5_check(H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110), "H5Pset_libver_bounds");
  hdf5_check(set_durable_driver(access, &target), "H5Pset_driver");
  return access;
}

/// In chunks that carry a checksum; without elements there is nothing to check.
void set_checked_chunks(hid_t properties, const Shape& shape, std::size_t element_size) {
  if (shape.empty() || element_count(shape) == 0) return;
  const auto chunk = chunk_extents(shape, element_size);
  hdf5_check(H5Pset_chunk(properties, static_cast<int>(chunk.size()), chunk.data()), "H5Pset_chunk");
  hdf5_check(H5Pset_fletcher32(properties), "H5Pset_fletcher32");
}

/// Without times: the same content is the same file.
PropertyHandle timeless(hid_t kind) {
  PropertyHandle properties = make_properties(kind);
  hdf5_check(H5Pset_obj_track_times(properties, false), "H5Pset_obj_track_times");
  return properties;
}

void require_whole(const std::string& string) {
  if (string.find('\0') != std::string::npos) {
    throw std::invalid_argument("HDF5 cannot hold a string with a zero byte: " + string.substr(0, 80));
  }
}

}  // namespace

struct Hdf5Writer::Impl {
  Hdf5Session session;  // first in, last out
  std::shared_ptr<DurableFile> target;
  FileHandle file;

  explicit Impl(const std::filesystem::path& path) : target(std::make_shared<DurableFile>(path)) {
    guarded("/", [&] {
      file = FileHandle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, timeless(H5P_FILE_CREATE), writing_to(target)),
                        "H5Fcreate");
    });
  }

  /// Runs `work`; the disk's error goes before HDF5's, of which it is the cause.
  template <typename Work>
  void guarded(const std::string& object, Work work) {
    try {
      work();
    } catch (const Hdf5Failure& failure) {
      target->throw_if_failed();
      throw std::runtime_error(target->path().string() + ": cannot write " + object + ": " + failure.what());
    }
    target->throw_if_failed();
  }

  /// Makes the groups that lead to `path`.
  void make_groups(const std::string& path) {
    for (std::size_t slash = path.find('/', 1); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
      const std::string group = path.substr(0, slash);
      if (hdf5_check(H5Lexists(file, group.c_str(), H5P_DEFAULT), "H5Lexists") > 0) continue;
      Hdf5Handle<H5Gclose>(
          H5Gcreate2(file, group.c_str(), H5P_DEFAULT, timeless(H5P_GROUP_CREATE), H5P_DEFAULT),
          "H5Gcreate2");
    }
  }

  DatasetHandle make_dataset(const std::string& path, hid_t type, hid_t space, hid_t properties) {
    make_groups(path);
    return {H5Dcreate2(file, path.c_str(), type, space, H5P_DEFAULT, properties, H5P_DEFAULT), "H5Dcreate2"};
  }

  void set_attribute(hid_t object, const std::string& name, hid_t disk, hid_t memory, const void* value) {
    const AttributeHandle attribute(
        H5Acreate2(object, name.c_str(), disk, make_space({}), H5P_DEFAULT, H5P_DEFAULT), "H5Acreate2");
    hdf5_check(H5Awrite(attribute, memory, value), "H5Awrite");
  }

  void set_attribute(hid_t object, const std::string& name, const Attribute& value) {
    require_whole(name);
    if (const auto* string = std::get_if<std::string>(&value)) {
      require_whole(*string);
      const TypeHandle type = make_string_type();
      const char* text = string->c_str();
      set_attribute(object, name, type, type, &text);
    } else {
      std::visit(
          [&](const auto& number) {
            using T = std::decay_t<decltype(number)>;
            if constexpr (!std::is_same_v<T, std::string>) {
              set_attribute(object, name, disk_type<T>(), memory_type<T>(), &number);
            }
          },
          value);
    }
  }
};

Hdf5Writer::Hdf5Writer(const std::filesystem::path& path) : impl_(std::make_unique<Impl>(path)) {}

Hdf5Writer::~Hdf5Writer() { impl_->target->discard(); }

void Hdf5Writer::set_attributes(const std::string& object, const Attributes& attributes) {
  impl_->guarded(object, [&] {
    const ObjectHandle handle(H5Oopen(impl_->file, object.c_str(), H5P_DEFAULT), "H5Oopen");
    for (const auto& [name, value] : attributes) impl_->set_attribute(handle, name, value);
  });
}

template <typename T>
void Hdf5Writer::write(const std::string& path, const Shape& shape, std::span<const T> values) {
  if (static_cast<std::size_t>(element_count(shape)) != values.size()) {
    throw std::invalid_argument(path + " has " + std::to_string(values.size()) + " values for the shape " +
                                shape_text(shape));
  }
  impl_->guarded(path, [&] {
    const PropertyHandle properties = timeless(H5P_DATASET_CREATE);
    set_checked_chunks(properties, shape, sizeof(T));
    const DatasetHandle dataset = impl_->make_dataset(path, disk_type<T>(), make_space(shape), properties);
    hdf5_check(H5Dwrite(dataset, memory_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "H5Dwrite");
  });
}

template void Hdf5Writer::write(const std::string&, const Shape&, std::span<const float>);
template void Hdf5Writer::write(const std::string&, const Shape&, std::span<const double>);
template void Hdf5Writer::write(const std::string&, const Shape&, std::span<const std::int64_t>);
template void Hdf5Writer::write(const std::string&, const Shape&, std::span<const std::uint64_t>);

void Hdf5Writer::write_strings(const std::string& path, std::span<const std::string> strings) {
  std::vector<const char*> texts;
  for (const std::string& string : strings) {
    require_whole(string);
    texts.push_back(string.c_str());
  }
  impl_->guarded(path, [&] {
    const TypeHandle type = make_string_type();
    // Contiguous: HDF5 has no checksum for strings of variable length. The seal guards them.
    const DatasetHandle dataset = impl_->make_dataset(
        path, type, make_space({static_cast<std::int64_t>(strings.size())}), timeless(H5P_DATASET_CREATE));
    hdf5_check(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts.data()), "H5Dwrite");
  });
}

void Hdf5Writer::write_virtual(const std::string& path, const Shape& shape,
                               std::span<const VirtualPiece> pieces) {
  if (shape.empty()) throw std::invalid_argument(path + ": HDF5 has no virtual dataset without dimensions");
  impl_->guarded(path, [&] {
    PropertyHandle properties = timeless(H5P_DATASET_CREATE);
    const float absent = std::numeric_limits<float>::quiet_NaN();
    hdf5_check(H5Pset_fill_value(properties, H5T_NATIVE_FLOAT, &absent), "H5Pset_fill_value");
    const SpaceHandle space = make_space(shape);
    for (const VirtualPiece& piece : pieces) {
      const SpaceHandle source = make_space({piece.size});
      std::int64_t done = 0;
      for (const Box& box : boxes_of_interval(shape, piece.begin, piece.begin + piece.size)) {
        select_box(space, box);
        select_box(source, {{done}, {box.size()}});
        hdf5_check(H5Pset_virtual(properties, space, piece.file.c_str(), piece.dataset.c_str(), source),
                   "H5Pset_virtual");
        done += box.size();
      }
    }
    hdf5_check(H5Sselect_all(space), "H5Sselect_all");
    impl_->make_dataset(path, H5T_IEEE_F32LE, space, properties);
  });
}

void Hdf5Writer::commit(Seal seal) {
  impl_->guarded("/", [&] { hdf5_check(H5Fclose(impl_->file.release()), "H5Fclose"); });
  if (seal == Seal::kYes) append_seal(*impl_->target);
  impl_->target->commit();
}

}  // namespace infalign::storage
