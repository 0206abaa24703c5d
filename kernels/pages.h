// Memory that is addressed whole and held in part, or by several processes at once. A flat buffer of
// parameters or gradients keeps its addresses, while what lies outside the part in use takes no memory: the
// system gives pages when they are written to, and takes them back here. So too may one that processes of a
// machine would each fill alike be the same pages in all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace infalign::kernels {

/// Whether allocate_zeroed gives memory of so many bytes as whole pages, which it shares with no other.
bool has_own_pages(std::size_t bytes);

/// `bytes` of memory from allocate_zeroed are no longer needed: they read as zero, and the whole pages among
/// them take no memory until they are written to again.
void give_back(std::span<std::byte> bytes);

template <class T>
void give_back(std::span<T> values) {
  give_back(std::as_writable_bytes(values));
}

/// Bytes of the whole pages that hold some of `bytes` and are in memory now.
std::int64_t resident_bytes(std::span<const std::byte> bytes);

/// Memory, zero at first, of any processes of a machine. It is there as long as one of them has it open, or
/// in the place of its own.
class SharedPages {
 public:
  /// What another process opens it by, while this one has it open.
  struct Name {
    std::int64_t process = 0, file = 0, bytes = 0;
    std::uint64_t device = 0, inode = 0;  // so that no other is taken for it
  };

  /// Errors: std::system_error, as for all below.
  explicit SharedPages(std::size_t bytes);
  explicit SharedPages(const Name& name);

  Name name() const;
  /// From here on `memory`, as large, from allocate_zeroed, and with own pages, is these pages.
  void put_in_place_of(std::span<std::byte> memory) const;

 private:
  SharedPages(int file, std::size_t bytes);

  std::shared_ptr<const int> file_;  // an anonymous one, closed by the last copy
  std::size_t bytes_;
};

/// Memory with own pages that is never to be written again.
void make_read_only(std::span<std::byte> memory);

}  // namespace infalign::kernels
