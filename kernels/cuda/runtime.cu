// Memory comes from the device's own pool, which is told to keep what is given back: after the first steps of
// a run nothing is asked of the driver. The pool's order is that of the stream, so no call here waits but
// those whose contract says so.
#include "kernels/cuda/runtime.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "kernels/cuda/check.h"
#include "kernels/device.h"
#include "kernels/peer_memory.h"
#include "kernels/trace.h"

namespace infalign::kernels::cuda {
namespace {

cudaStream_t stream_of(void* queue) { return static_cast<cudaStream_t>(queue); }
cudaEvent_t event_of(void* event) { return static_cast<cudaEvent_t>(event); }

/// Bytes in the unit that a person reads.
std::string in_mebibytes(std::size_t bytes) {
  return std::to_string((bytes + (std::size_t{1} << 20) - 1) >> 20) + " MiB";
}

/// `what` was asked for.
[[noreturn]] void refuse(const std::string& what) {
  static_cast<void>(cudaGetLastError());  // taken note of: later launches are not to blame
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  const std::string at = phase();  // what the memory is for
  throw OutOfMemory(
      "the GPU is out of memory" + (at.empty() ? "" : " (" + at + ")") + ": " + what + " asked for, " +
      in_mebibytes(free) + " of " + in_mebibytes(total) +
      " free. Less is needed with smaller micro-batches (distributed.micro_batch_prompts), "
      "memory.recompute_activations: true, shorter or fewer samples, memory.reference: bfloat16, "
      "lora, or a higher distributed.sharding on more ranks");
}

}  // namespace

int device_count() {
  int count = 0;
  // Without a driver the runtime says so by one of several errors, and leaves `count` as it was.
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return 0;
  }
  return count;
}

std::string device_identity(int device) {
  std::string name(64, '\0');
  check(cudaDeviceGetPCIBusId(name.data(), static_cast<int>(name.size()), device), "cudaDeviceGetPCIBusId");
  name.resize(name.find('\0'));
  return name;
}

void* open_queue(int device) {
  const int count = device_count();
  if (device < 0 || device >= count)
    throw std::runtime_error("CUDA: no GPU " + std::to_string(device) + ": this process sees " +
                             std::to_string(count));
  check(cudaSetDevice(device), "cudaSetDevice");
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
  std::uint64_t all = UINT64_MAX;
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), "cudaMemPoolSetAttribute");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return stream;
}

void close_queue(void* queue) { static_cast<void>(cudaStreamDestroy(stream_of(queue))); }

void synchronise(void* queue) { check(cudaStreamSynchronize(stream_of(queue)), "cudaStreamSynchronize"); }

void* allocate(void* queue, std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMallocAsync(&memory, bytes, stream_of(queue));
  if (status == cudaErrorMemoryAllocation) refuse(in_mebibytes(bytes));
  check(status, "cudaMallocAsync");
  return memory;
}

void release(void* queue, void* memory) { static_cast<void>(cudaFreeAsync(memory, stream_of(queue))); }

void* allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes), "cudaMallocHost");
  return memory;
}

void release_pinned(void* memory) { static_cast<void>(cudaFreeHost(memory)); }

void* allocate_shared(std::size_t bytes) {
  void* memory = nullptr;
  cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {  // the pool may keep what nobody uses
    static_cast<void>(cudaGetLastError());
    int device = 0;
    cudaMemPool_t pool = nullptr;
    check(cudaGetDevice(&device), "cudaGetDevice");
    check(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    check(cudaMemPoolTrimTo(pool, 0), "cudaMemPoolTrimTo");
    status = cudaMalloc(&memory, bytes);
  }
  if (status == cudaErrorMemoryAllocation) refuse(in_mebibytes(bytes));
  check(status, "cudaMalloc");
  return memory;
}

void release_shared(void* memory) { static_cast<void>(cudaFree(memory)); }

void handle_of_shared(void* memory, std::byte* handle) {
  static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(PeerHandle));
  cudaIpcMemHandle_t made;
  check(cudaIpcGetMemHandle(&made, memory), "cudaIpcGetMemHandle");
  std::memcpy(handle, &made, sizeof made);
}

void* open_shared(const std::byte* handle) {
  cudaIpcMemHandle_t given;
  std::memcpy(&given, handle, sizeof given);
  void* memory = nullptr;
  const cudaError_t status = cudaIpcOpenMemHandle(&memory, given, cudaIpcMemLazyEnablePeerAccess);
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    throw std::runtime_error(std::string("this GPU cannot read the memory of another rank's (") +
                             cudaGetErrorName(status) +
                             "), which distributed.sharding: 3 needs; use 2, or device: cpu");
  }
  return memory;
}

void close_shared(void* memory) { static_cast<void>(cudaIpcCloseMemHandle(memory)); }

void copy(void* queue, std::size_t bytes, const void* from, void* to) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_of(queue)), "cudaMemcpyAsync");
}

void fill_zero(void* queue, std::size_t bytes, void* to) {
  check(cudaMemsetAsync(to, 0, bytes, stream_of(queue)), "cudaMemsetAsync");
}

void* create_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return event;
}

void destroy_event(void* event) { static_cast<void>(cudaEventDestroy(event_of(event))); }

void record_event(void* queue, void* event) {
  check(cudaEventRecord(event_of(event), stream_of(queue)), "cudaEventRecord");
}

void wait_for_event(void* queue, void* event) {
  check(cudaStreamWaitEvent(stream_of(queue), event_of(event), 0), "cudaStreamWaitEvent");
}

void synchronise_event(void* event) { check(cudaEventSynchronize(event_of(event)), "cudaEventSynchronize"); }

void begin_recording(void* queue) {
  check(cudaStreamBeginCapture(stream_of(queue), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}

void abandon_recording(void* queue) noexcept {
  cudaGraph_t graph = nullptr;
  static_cast<void>(cudaStreamEndCapture(stream_of(queue), &graph));
  static_cast<void>(cudaGraphDestroy(graph));
  static_cast<void>(cudaGetLastError());  // what went wrong is being thrown
}

void* end_recording(void* queue) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream_of(queue), &graph), "cudaStreamEndCapture");
  cudaGraphExec_t recording = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&recording, graph, 0);
  static_cast<void>(cudaGraphDestroy(graph));
  check(status, "cudaGraphInstantiate");
  return recording;
}

void replay(void* queue, void* recording) {
  const cudaError_t status = cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording), stream_of(queue));
  if (status == cudaErrorMemoryAllocation) refuse("memory for recorded work");
  check(status, "cudaGraphLaunch");
}

void destroy_recording(void* recording) {
  static_cast<void>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(recording)));
}

}  // namespace infalign::kernels::cuda
