// One checksum over a whole file, as a line after its end, where HDF5 does not look. HDF5 guards its data and
// most of its metadata, but not the heap with strings and virtual mappings, and it trusts what it finds there
// to the point of a segmentation fault: a file with such parts is verified before HDF5 sees it.
#pragma once

#include <filesystem>

#include "core/storage/durable_file.h"

namespace infalign::storage {

/// Appends the checksum of all that was written.
void append_seal(DurableFile& file);

/// Whether the file ends with a seal. Errors: InputError naming the file if it does and the checksum does not
/// fit.
bool check_seal(const std::filesystem::path& path);

}  // namespace infalign::storage
