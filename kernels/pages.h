// Memory that is addressed whole and held in part. A flat buffer of parameters or gradients keeps its
// addresses, while what lies outside the part in use takes no memory: the system gives pages when they are
// written to, and takes them back here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace infalign::kernels {

/// `bytes` of memory from allocate_zeroed are no longer needed: they read as zero, and the whole pages among
/// them take no memory until they are written to again.
void give_back(std::span<std::byte> bytes);

template <class T>
void give_back(std::span<T> values) {
  give_back(std::as_writable_bytes(values));
}

/// Bytes of the whole pages that hold some of `bytes` and are in memory now.
std::int64_t resident_bytes(std::span<const std::byte> bytes);

}  // namespace infalign::kernels
