#include "core/storage/hdf5_driver.h"

#if H5_VERSION_GE(1, 14, 0)
#include <H5FDdevelop.h>
#endif

#include <algorithm>
#include <new>
#include <span>

namespace infalign::storage {
namespace {

using Target = const std::shared_ptr<DurableFile>*;

/// What HDF5 holds for an open file. It shares the target, so that no order of destruction leaves it
/// dangling.
struct DriverFile : H5FD_t {
  explicit DriverFile(std::shared_ptr<DurableFile> file) : H5FD_t{}, target(std::move(file)) {}
  std::shared_ptr<DurableFile> target;
  haddr_t end_of_allocation = 0;
  haddr_t end_of_file = 0;
};

DriverFile& as_driver_file(H5FD_t* file) { return *static_cast<DriverFile*>(file); }
const DriverFile& as_driver_file(const H5FD_t* file) { return *static_cast<const DriverFile*>(file); }

H5FD_t* open_file(const char*, unsigned, hid_t file_access, haddr_t) {
  const auto* target = static_cast<const Target*>(H5Pget_driver_info(file_access));
  return target ? new (std::nothrow) DriverFile(**target) : nullptr;
}

herr_t close_file(H5FD_t* file) {
  delete &as_driver_file(file);
  return 0;
}

herr_t query(const H5FD_t*, unsigned long* flags) {
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
           H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

haddr_t get_end_of_allocation(const H5FD_t* file, H5FD_mem_t) {
  return as_driver_file(file).end_of_allocation;
}

herr_t set_end_of_allocation(H5FD_t* file, H5FD_mem_t, haddr_t address) {
  as_driver_file(file).end_of_allocation = address;
  return 0;
}

haddr_t get_end_of_file(const H5FD_t* file, H5FD_mem_t) { return as_driver_file(file).end_of_file; }

herr_t read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, size_t size, void* buffer) {
  as_driver_file(file).target->read_at(address, {static_cast<std::byte*>(buffer), size});
  return 0;
}

herr_t write(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, size_t size, const void* buffer) {
  DriverFile& own = as_driver_file(file);
  own.target->write_at(address, {static_cast<const std::byte*>(buffer), size});
  own.end_of_file = std::max<haddr_t>(own.end_of_file, address + size);
  return 0;
}

herr_t truncate(H5FD_t* file, hid_t, hbool_t) {
  DriverFile& own = as_driver_file(file);
  if (own.end_of_file != own.end_of_allocation) own.target->resize(own.end_of_allocation);
  own.end_of_file = own.end_of_allocation;
  return 0;
}

H5FD_class_t driver_class() {
  constexpr H5FD_mem_t kKinds[] = H5FD_FLMAP_DICHOTOMY;
  H5FD_class_t driver{};
#if H5_VERSION_GE(1, 14, 0)
  driver.version = H5FD_CLASS_VERSION;
  driver.value = 511;  // of the range left to unregistered drivers
#endif
  driver.name = "infalign_durable";
  driver.maxaddr = static_cast<haddr_t>(INT64_MAX);
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(Target);
  driver.open = open_file;
  driver.close = close_file;
  driver.query = query;
  driver.get_eoa = get_end_of_allocation;
  driver.set_eoa = set_end_of_allocation;
  driver.get_eof = get_end_of_file;
  driver.read = read;
  driver.write = write;
  driver.truncate = truncate;
  std::copy(std::begin(kKinds), std::end(kKinds), driver.fl_map);
  return driver;
}

}  // namespace

herr_t set_durable_driver(hid_t file_access, Target target) {
  static const H5FD_class_t driver = driver_class();
  static const hid_t identifier = H5FDregister(&driver);
  return identifier < 0 ? -1 : H5Pset_driver(file_access, identifier, &target);
}

}  // namespace infalign::storage
