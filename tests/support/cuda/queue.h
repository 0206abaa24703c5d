// CUDA's streams and memory on the CPU. A stream is a queue that does nothing until somebody waits, and then
// only as much as it must: in that order work is least likely to be done by chance before it is asked for. Or
// streams are run against each other at random. Device memory cannot be touched by the CPU between.
#pragma once

#include <driver_types.h>
#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace infalign::host_cuda {

enum class Streams {
  kLazy,    // work is done when it is waited for
  kRandom,  // when somebody waits, any stream may go on first, by the seed
};
void set_streams(Streams streams, std::uint64_t seed = 1);

/// The call number `calls` from now (0: the next) to a function that allocates memory fails; -1: none does.
void fail_allocation(int calls);
/// The same for the launch of a kernel.
void fail_launch(int calls);
/// How often recorded work (a CUDA graph) has been queued.
int graph_launches();
/// Device memory in use, in bytes.
std::size_t memory_in_use();
/// Device memory there is, in bytes; 1 GiB at first. Programs that call none of these are told by the
/// environment: HOST_CUDA_SEED (streams and warps by a seed), HOST_CUDA_MIB (memory), HOST_CUDA_IDENTITY (the
/// device's name, which is else the process's own).
void set_memory(std::size_t bytes);

// ---- For language.h and the stand-ins.

/// Queues a kernel.
cudaError_t queue_kernel(cudaStream_t stream, dim3 grid, dim3 block, std::size_t shared,
                         std::function<void()> body);
/// Queues anything else that a device does. `order`: runs before all work queued later with an order,
/// whatever their streams, as NCCL's collectives must.
void queue_work(cudaStream_t stream, std::function<void()> work, bool ordered = false);
/// While stalled, work with an order does not run, and a stream that holds some is never done.
void set_stalled(bool stalled);
/// Forgets all work with an order that has not run.
void drop_ordered_work();
bool is_device_memory(const void* address);
/// Words of a kernel's argument that look like addresses of the CPU's heap or stack are refused: abort with a
/// message. Device memory, null and plain numbers pass.
void check_argument(const void* value, std::size_t size);

}  // namespace infalign::host_cuda
