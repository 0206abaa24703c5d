// The innermost layer of this room: HDF5's integer handles as owners, its error stack as an exception, its
// global state behind one lock. Included by hdf5_writer.cpp and hdf5_reader.cpp alone.
#pragma once

#include <hdf5.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/storage/hdf5_file.h"

namespace infalign::storage {

/// An HDF5 call that failed; the owner of the file turns it into the exception that names the file.
class Hdf5Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The innermost message of HDF5's error stack.
std::string hdf5_message();

/// Passes the result of an HDF5 call on. Errors: Hdf5Failure naming the call and HDF5's own message.
template <typename Result>
Result hdf5_check(Result result, std::string_view call) {
  if (result < 0) throw Hdf5Failure(std::string(call) + ": " + hdf5_message());
  return result;
}

/// The right to call HDF5: the process-wide lock, and HDF5's printing of errors switched off meanwhile.
class Hdf5Session {
 public:
  Hdf5Session();
  ~Hdf5Session();
  Hdf5Session(const Hdf5Session&) = delete;
  Hdf5Session& operator=(const Hdf5Session&) = delete;

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  H5E_auto2_t printer_ = nullptr;
  void* printer_data_ = nullptr;
};

/// Owns a handle that Close gives back.
template <herr_t (*Close)(hid_t)>
class Hdf5Handle {
 public:
  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, std::string_view call) : id_(hdf5_check(id, call)) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Hdf5Handle() {
    if (id_ >= 0) Close(id_);
  }
  operator hid_t() const { return id_; }
  /// For the one place that must know whether closing worked.
  hid_t release() { return std::exchange(id_, H5I_INVALID_HID); }

 private:
  hid_t id_ = H5I_INVALID_HID;
};

using FileHandle = Hdf5Handle<H5Fclose>;
using DatasetHandle = Hdf5Handle<H5Dclose>;
using ObjectHandle = Hdf5Handle<H5Oclose>;
using SpaceHandle = Hdf5Handle<H5Sclose>;
using TypeHandle = Hdf5Handle<H5Tclose>;
using AttributeHandle = Hdf5Handle<H5Aclose>;
using PropertyHandle = Hdf5Handle<H5Pclose>;

inline PropertyHandle make_properties(hid_t kind) { return {H5Pcreate(kind), "H5Pcreate"}; }

/// The element type in memory and, little-endian everywhere, on disk.
template <typename T>
hid_t memory_type();
template <typename T>
hid_t disk_type();
template <>
inline hid_t memory_type<float>() {
  return H5T_NATIVE_FLOAT;
}
template <>
inline hid_t memory_type<double>() {
  return H5T_NATIVE_DOUBLE;
}
template <>
inline hid_t memory_type<std::int64_t>() {
  return H5T_NATIVE_INT64;
}
template <>
inline hid_t memory_type<std::uint64_t>() {
  return H5T_NATIVE_UINT64;
}
template <>
inline hid_t disk_type<float>() {
  return H5T_IEEE_F32LE;
}
template <>
inline hid_t disk_type<double>() {
  return H5T_IEEE_F64LE;
}
template <>
inline hid_t disk_type<std::int64_t>() {
  return H5T_STD_I64LE;
}
template <>
inline hid_t disk_type<std::uint64_t>() {
  return H5T_STD_U64LE;
}

/// UTF-8 of variable length.
TypeHandle make_string_type();

inline std::vector<hsize_t> extents(const Shape& shape) { return {shape.begin(), shape.end()}; }

/// A dataspace of this shape; scalar for none.
inline SpaceHandle make_space(const Shape& shape) {
  if (shape.empty()) return {H5Screate(H5S_SCALAR), "H5Screate"};
  return {H5Screate_simple(static_cast<int>(shape.size()), extents(shape).data(), nullptr),
          "H5Screate_simple"};
}

/// Selects a box of a dataspace.
inline void select_box(hid_t space, const Box& box) {
  hdf5_check(H5Sselect_hyperslab(space, H5S_SELECT_SET, extents(box.start).data(), nullptr,
                                 extents(box.count).data(), nullptr),
             "H5Sselect_hyperslab");
}

}  // namespace infalign::storage
