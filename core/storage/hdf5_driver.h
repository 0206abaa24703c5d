// Lets HDF5 write through a DurableFile. HDF5 flushes from caches when a file closes, and when that write
// fails it can neither close the file nor forget it. This driver therefore takes every write, and the
// DurableFile remembers the first cause, which the writer reports: a full disk ends in one clear message and
// no open handle.
#pragma once

#include <hdf5.h>

#include <memory>

#include "core/storage/durable_file.h"

namespace infalign::storage {

/// Makes files created with the property list `file_access` go to `*target`; the pointer must live until
/// H5Fcreate returns. Call it under the lock of hdf5_file.h. Negative on failure, as HDF5 does.
herr_t set_durable_driver(hid_t file_access, const std::shared_ptr<DurableFile>* target);

}  // namespace infalign::storage
