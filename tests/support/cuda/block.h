// A block of CUDA threads on the CPU: each thread is a fiber with a stack of its own; what CUDA calls warps,
// barriers, shuffles and shared memory are kept here. A block's fibers run on one thread of the system, one
// until it waits, so that a schedule is a decision that can be repeated: in order, in reverse, or by random
// priorities, which let one warp run far ahead of another and so show barriers that are missing.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>

namespace infalign::host_cuda {

enum class Order {
  kForward,
  kReverse,
  kPriorities,  // of warps, at random, now and then changed (probabilistic concurrency testing, Burckhardt
                // et al. 2010)
};

/// How blocks are run from here on.
struct Schedule {
  Order order = Order::kForward;
  std::uint64_t seed = 1;
};
void set_schedule(const Schedule& schedule);

/// Runs body once for each thread of each block.
/// Errors: std::runtime_error for a deadlock, a barrier that not all threads reach at the same place, a
/// shuffle with lanes that are not there: block, thread, file and line.
void run_grid(dim3 grid, dim3 block, std::size_t dynamic_shared, const std::function<void()>& body);

// ---- For kernels, by language.h.

struct Index {
  unsigned x, y, z;
};
struct Here {
  Index thread, block;
  dim3 block_size, grid_size;
};
/// Of the fiber that is running.
Here& here();
unsigned lane();

struct Site {
  const char* file;
  int line;
};
void sync_threads(Site site);
void sync_warp(Site site);

/// Meets the lanes of `mask`: publishes size <= 64 bytes of this lane, waits for the others, and returns a
/// table [32][64] of what all published, valid until this lane meets the others again.
const unsigned char* meet(unsigned mask, const void* value, std::size_t size, Site site);

template <class T>
T shuffle(unsigned mask, T value, unsigned from, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 64);
  const unsigned char* table = meet(mask, &value, sizeof value, site);
  T result = value;  // of a lane that is not there: one's own
  if (from < 32 && (mask >> from & 1) != 0) __builtin_memcpy(&result, table + 64 * from, sizeof result);
  return result;
}

inline unsigned ballot(unsigned mask, bool holds, Site site) {
  const unsigned char* table = meet(mask, &holds, sizeof holds, site);
  unsigned result = 0;
  for (unsigned i = 0; i < 32; ++i)
    if ((mask >> i & 1) != 0 && table[64 * i] != 0) result |= 1u << i;
  return result;
}

/// A variable of the block, told by the address of its tag; 0xff in every byte at first, which is NaN.
void* shared_memory(const void* tag, std::size_t size);
void* dynamic_shared_memory();

}  // namespace infalign::host_cuda
