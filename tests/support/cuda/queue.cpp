// The part of the CUDA runtime that kernels/cuda/runtime.cu and NCCL's users call, written against the
// toolkit's own headers, so that the compiler holds its signatures to them. Calls queue; waiting runs. Device
// memory is a mapping that is closed to the CPU's code except while queued work runs, filled with 0xff (NaN)
// when it is asked for and again when it is given back, both in the order of its stream: who uses it too
// early or too late on another stream sees that. Under the address sanitizer it comes from the heap instead,
// whose bounds the sanitizer knows. Memory that other processes open is a file without a name, which they
// map.
#include "support/cuda/queue.h"

#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "support/cuda/block.h"

extern "C" [[gnu::weak]] void __asan_poison_memory_region(const volatile void* address, std::size_t size);

namespace infalign::host_cuda {
namespace {

struct Work {
  std::function<void()> run;  // may be empty
  std::shared_ptr<bool> done = std::make_shared<bool>(false);
  std::shared_ptr<bool> after;          // not before this
  cudaStream_t after_stream = nullptr;  // on which that stands
  std::uint64_t order = 0;              // of work that keeps one across streams; 0: none
};

}  // namespace
}  // namespace infalign::host_cuda

/// Recorded work, and the memory that it asks for: its own from recording to destruction, as addresses are
/// part of what is recorded.
struct CUgraph_st {
  std::vector<std::function<void()>> work;
  std::vector<void*> memory, unreturned;  // of that, what has not been given back within the recording

  void add(void* asked_for) {
    memory.push_back(asked_for);
    unreturned.push_back(asked_for);
  }
};
/// A graph that can be launched owns what the graph did.
struct CUgraphExec_st {
  CUgraph_st graph;
};
struct CUstream_st {
  std::deque<infalign::host_cuda::Work> queue;
  std::unique_ptr<CUgraph_st>
      recording;  // where work goes instead, from the beginning of a capture to its end
};
struct CUevent_st {
  std::shared_ptr<bool> done;  // null before it is recorded
  cudaStream_t stream = nullptr;
};
struct CUmemPoolHandle_st {};

namespace infalign::host_cuda {
namespace {

constexpr std::size_t kArena = std::size_t{4} << 30, kGap = 512;

/// All of the device. Its functions are called under the lock.
class Device {
 public:
  static Device& get() {
    static Device device;
    return device;
  }
  std::recursive_mutex lock;
  cudaError_t last = cudaSuccess;
  Streams streams = Streams::kLazy;
  int fail_allocation = -1, fail_launch = -1;
  bool stalled = false;  // work with an order
  int graph_launches = 0;
  std::size_t memory = std::size_t{1} << 30, in_use = 0;
  std::map<const char*, std::size_t> pinned;

  cudaError_t note(cudaError_t status) {
    if (status != cudaSuccess) last = status;
    return status;
  }
  void seed(std::uint64_t value) { random_ = value * 0x9e3779b97f4a7c15u + 1; }

  // ---- Streams.

  cudaStream_t open() {
    streams_.push_back(std::make_unique<CUstream_st>());
    return streams_.back().get();
  }
  void close(cudaStream_t stream) {
    run_until_empty(stream);
    std::erase_if(streams_, [stream](const auto& known) { return known.get() == stream; });
  }
  bool knows(cudaStream_t stream) const {
    for (const auto& known : streams_)
      if (known.get() == stream) return true;
    return false;
  }

  std::shared_ptr<bool> queue(cudaStream_t stream, Work work) {
    auto done = work.done;
    if (stream->recording)
      stream->recording->work.push_back(std::move(work.run));
    else
      stream->queue.push_back(std::move(work));
    return done;
  }
  std::uint64_t next_order() { return ++last_order_; }

  void run_until(cudaStream_t stream, const std::shared_ptr<bool>& done) {
    const Opened opened(*this);
    while (!*done) step(stream);
  }
  void run_until_empty(cudaStream_t stream) {
    const Opened opened(*this);
    while (!stream->queue.empty()) step(stream);
  }
  void run_everything() {
    for (const auto& stream : streams_) run_until_empty(stream.get());
  }

  bool holds_ordered_work(cudaStream_t stream) const {
    return std::ranges::any_of(stream->queue, [](const Work& work) { return work.order != 0; });
  }
  void drop_ordered_work() {
    for (const auto& stream : streams_)
      for (Work& work : stream->queue)
        if (work.order != 0) work.run = nullptr, work.order = 0;
  }

  // ---- Memory.

  void* allocate(std::size_t size) {
    if (fail_allocation >= 0 && fail_allocation-- == 0) return nullptr;
    if (in_use + size > memory) {
      run_everything();  // what has been given back comes free in its stream's order
      if (in_use + size > memory) return nullptr;
    }
    char* address = under_asan() ? static_cast<char*>(std::malloc(size)) : place(size);
    if (address == nullptr) return nullptr;
    blocks_.emplace(address, size);
    in_use += size;
    return address;
  }
  /// Gives a block back; false if there is none.
  bool free(void* address) {
    const auto found = blocks_.find(static_cast<char*>(address));
    if (found == blocks_.end()) return false;
    std::memset(address, 0xff, found->second);
    in_use -= found->second;
    blocks_.erase(found);
    if (under_asan()) std::free(address);
    return true;
  }
  void free_all(const std::vector<void*>& addresses) {
    const Opened opened(*this);
    for (void* address : addresses) free(address);
  }
  std::size_t size_of(void* address) const {
    const auto found = blocks_.find(static_cast<char*>(address));
    return found == blocks_.end() ? 0 : found->second;
  }
  bool is_device(const void* address) const {
    const char* at = static_cast<const char*>(address);
    auto beyond = shared_.upper_bound(const_cast<char*>(at));
    if (beyond != shared_.begin() && (--beyond, at < beyond->first + beyond->second.size)) return true;
    if (!under_asan()) return at >= arena_ && at < arena_ + kArena;
    auto after = blocks_.upper_bound(const_cast<char*>(at));
    if (after == blocks_.begin()) return false;
    --after;
    return at < after->first + after->second;
  }
  bool is_pinned(const void* address) const {
    auto after = pinned.upper_bound(static_cast<const char*>(address));
    if (after == pinned.begin()) return false;
    --after;
    return static_cast<const char*>(address) < after->first + after->second;
  }

  // ---- Memory that other processes open.

  struct Shared {
    std::size_t size = 0;
    int file = -1, opened = 0;  // of what is this process's own; else how often it was opened
    std::string name = {};      // of another process's
  };
  void* allocate_shared(std::size_t size) {
    if (fail_allocation >= 0 && fail_allocation-- == 0) return nullptr;
    if (in_use + size > memory) return nullptr;
    const int file = memfd_create("device memory", 0);
    if (file < 0 || ftruncate(file, static_cast<off_t>(size)) != 0) return nullptr;
    char* address = map(file, size, PROT_READ | PROT_WRITE);
    std::memset(address, 0xff, size);
    shared_[address] = {.size = size, .file = file};
    in_use += size;
    close_to_cpu(*shared_.find(address));
    return address;
  }
  /// Another process's memory, by the name of its file.
  void* open_shared(const std::string& name, std::size_t size) {
    for (auto& [address, shared] : shared_)
      if (shared.name == name) return ++shared.opened, address;
    const int file = open_file(name.c_str(), O_RDWR);
    if (file < 0) return nullptr;
    char* address = map(file, size, PROT_READ);
    close(file);
    shared_[address] = {.size = size, .opened = 1, .name = name};
    close_to_cpu(*shared_.find(address));
    return address;
  }
  bool free_shared(void* address, bool own) {
    const auto found = shared_.find(static_cast<char*>(address));
    if (found == shared_.end() || (found->second.file >= 0) != own) return false;
    if (--found->second.opened > 0) return true;
    run_everything();
    munmap(address, found->second.size);
    if (own) close(found->second.file), in_use -= found->second.size;
    shared_.erase(found);
    return true;
  }
  const Shared* shared(void* address) const {
    const auto found = shared_.find(static_cast<char*>(address));
    return found == shared_.end() ? nullptr : &found->second;
  }

 private:
  static int open_file(const char* name, int how) { return ::open(name, how | O_CLOEXEC); }
  static void close(int file) { ::close(file); }
  static char* map(int file, std::size_t size, int protection) {
    void* address = mmap(nullptr, size, protection, MAP_SHARED, file, 0);
    if (address == MAP_FAILED) std::abort();
    return static_cast<char*>(address);
  }
  void close_to_cpu(const std::pair<char* const, Shared>& shared) const {
    if (open_ == 0) mprotect(shared.first, shared.second.size, PROT_NONE);
  }
  void open_all_shared(bool open) const {
    for (const auto& [address, shared] : shared_)
      mprotect(address, shared.size,
               !open              ? PROT_NONE
               : shared.file >= 0 ? PROT_READ | PROT_WRITE
                                  : PROT_READ);
  }

  /// Device memory is open to code as long as this lives.
  struct Opened {
    explicit Opened(Device& of) : device(of) {
      if (++device.open_ > 1) return;
      if (!under_asan()) mprotect(device.arena_, device.reached_, PROT_READ | PROT_WRITE);
      device.open_all_shared(true);
    }
    ~Opened() {
      if (--device.open_ > 0) return;
      if (!under_asan()) mprotect(device.arena_, device.reached_, PROT_NONE);
      device.open_all_shared(false);
    }
    Device& device;
  };

  Device()
      : arena_(static_cast<char*>(
            mmap(nullptr, kArena, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    if (arena_ == MAP_FAILED) std::abort();
    // Of programs that are started as a user starts them.
    if (const char* mebibytes = std::getenv("HOST_CUDA_MIB"))
      memory = static_cast<std::size_t>(std::atoll(mebibytes)) << 20;
    if (const char* given = std::getenv("HOST_CUDA_SEED")) {
      streams = Streams::kRandom;
      seed(static_cast<std::uint64_t>(std::atoll(given)));
      set_schedule({Order::kPriorities, static_cast<std::uint64_t>(std::atoll(given))});
    }
  }
  static bool under_asan() { return __asan_poison_memory_region != nullptr; }

  /// A place in the arena, the first that is large enough.
  char* place(std::size_t size) {
    const std::size_t whole = (size + kGap - 1) / kGap * kGap + kGap;
    char* at = arena_;
    for (const auto& [address, length] : blocks_) {
      if (static_cast<std::size_t>(address - at) >= whole) break;
      at = address + (length + kGap - 1) / kGap * kGap + kGap;
    }
    if (at + whole > arena_ + kArena) return nullptr;
    reached_ = std::max(reached_, static_cast<std::size_t>(at + whole - arena_));
    return at;
  }

  std::uint64_t random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_ >> 16;
  }

  static bool waits(const CUstream_st& stream) {
    return stream.queue.front().after && !*stream.queue.front().after;
  }

  /// Does one piece of work: of this stream, of what it waits for, or (kRandom) of any that can go on. Work
  /// with an order meets that of other processes, and is only done when it is waited for: a process that has
  /// nothing to wait for yet would let the others wait, and a real device does not.
  void step(cudaStream_t stream) {
    while (waits(*stream)) stream = stream->queue.front().after_stream;
    if (streams == Streams::kRandom) {
      std::vector<cudaStream_t> can{stream};
      for (const auto& other : streams_)
        if (other.get() != stream && !other->queue.empty() && !waits(*other) &&
            other->queue.front().order == 0)
          can.push_back(other.get());
      stream = can[random() % can.size()];
    }
    if (const std::uint64_t order = stream->queue.front().order; order != 0)
      for (const auto& other : streams_)
        for (std::size_t i = 0; i < other->queue.size(); ++i)
          if (other->queue[i].order != 0 && other->queue[i].order < order)
            return run_until(other.get(), std::shared_ptr<bool>(other->queue[i].done));
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    *work.done = true;  // also if it throws
    if (work.run) work.run();
  }

  std::vector<std::unique_ptr<CUstream_st>> streams_;
  std::map<char*, std::size_t> blocks_;
  std::map<char*, Shared> shared_;
  char* arena_;
  std::size_t reached_ = 0;  // the part of the arena that has been used
  int open_ = 0;
  std::uint64_t random_ = 1, last_order_ = 0;
};

using Guard = std::lock_guard<std::recursive_mutex>;

Work work_of(std::function<void()> run) {
  Work work;
  work.run = std::move(run);
  return work;
}

}  // namespace

void set_streams(Streams streams, std::uint64_t seed) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  device.streams = streams;
  device.seed(seed);
}
void fail_allocation(int calls) { Device::get().fail_allocation = calls; }
void fail_launch(int calls) { Device::get().fail_launch = calls; }
std::size_t memory_in_use() {
  Device& device = Device::get();
  const Guard guard(device.lock);
  device.run_everything();
  return device.in_use;
}
void set_memory(std::size_t bytes) { Device::get().memory = bytes; }
int graph_launches() { return Device::get().graph_launches; }

cudaError_t queue_kernel(cudaStream_t stream, dim3 grid, dim3 block, std::size_t shared,
                         std::function<void()> body) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (!device.knows(stream)) return device.note(cudaErrorInvalidResourceHandle);
  if (device.fail_launch >= 0 && device.fail_launch-- == 0) return device.note(cudaErrorLaunchFailure);
  device.queue(stream, work_of([=, body = std::move(body)] { run_grid(grid, block, shared, body); }));
  return cudaSuccess;
}

void queue_work(cudaStream_t stream, std::function<void()> run, bool ordered) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  Work work = work_of(std::move(run));
  if (ordered) work.order = device.next_order();
  device.queue(stream, std::move(work));
}

void set_stalled(bool stalled) { Device::get().stalled = stalled; }
void drop_ordered_work() {
  Device& device = Device::get();
  const Guard guard(device.lock);
  device.drop_ordered_work();
}

bool is_device_memory(const void* address) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  return device.is_device(address);
}

void check_argument(const void* value, std::size_t size) {
  static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  for (std::size_t at = 0; at + sizeof(std::uintptr_t) <= size; at += sizeof(std::uintptr_t)) {
    std::uintptr_t word = 0;
    std::memcpy(&word, static_cast<const char*>(value) + at, sizeof word);
    if (word < 0x500000000000u || word > 0x7fffffffffffu) continue;  // where programs and their heaps lie
    // NOLINTBEGIN(performance-no-int-to-ptr): it may be one, which is the question
    if (is_device_memory(reinterpret_cast<const void*>(word))) continue;
    unsigned char resident = 0;
    if (mincore(reinterpret_cast<void*>(word / page * page), 1, &resident) != 0) continue;  // not mapped
    // NOLINTEND(performance-no-int-to-ptr)
    std::fprintf(stderr, "a kernel was given an address of the CPU's memory, %#zx\n", word);
    std::abort();
  }
}

}  // namespace infalign::host_cuda

using infalign::host_cuda::Device;
using infalign::host_cuda::Guard;
using infalign::host_cuda::work_of;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
/// Every process has a device of its own, or all have one of this name.
cudaError_t cudaDeviceGetPCIBusId(char* name, int size, int device) {
  if (device != 0) return Device::get().note(cudaErrorInvalidDevice);
  const char* given = std::getenv("HOST_CUDA_IDENTITY");
  if (given != nullptr)
    std::snprintf(name, static_cast<std::size_t>(size), "%s", given);
  else
    std::snprintf(name, static_cast<std::size_t>(size), "stand-in of %d", static_cast<int>(getpid()));
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : Device::get().note(cudaErrorInvalidDevice);
}
cudaError_t cudaGetLastError() { return std::exchange(Device::get().last, cudaSuccess); }
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaSuccess                 ? "cudaSuccess"
         : error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
                                              : "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation        ? "out of memory"
         : error == cudaErrorLaunchFailure         ? "unspecified launch failure"
         : error == cudaErrorInvalidValue          ? "invalid argument"
         : error == cudaErrorInvalidResourceHandle ? "invalid resource handle"
                                                   : "an error of the stand-in";
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  *total = device.memory;
  *free = device.memory - device.in_use;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  static CUmemPoolHandle_st only;
  *pool = &only;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  *stream = device.open();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  device.close(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (stream->recording) return device.note(cudaErrorStreamCaptureUnsupported);
  device.run_until_empty(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (device.stalled && device.holds_ordered_work(stream)) return cudaErrorNotReady;
  device.run_until_empty(stream);  // as if it had been running all along
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** address, std::size_t size, cudaStream_t stream) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  *address = device.allocate(size);
  if (*address == nullptr) return device.note(cudaErrorMemoryAllocation);
  void* memory = *address;
  if (stream->recording) stream->recording->add(memory);
  device.queue(stream, work_of([memory, size] { std::memset(memory, 0xff, size); }));
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* address, cudaStream_t stream) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  const std::size_t size = device.size_of(address);
  if (size == 0) return device.note(cudaErrorInvalidValue);
  if (!stream->recording) {
    device.queue(stream, work_of([&device, address] { device.free(address); }));
  } else if (std::erase(stream->recording->unreturned, address) == 1) {
    device.queue(stream, work_of([address, size] { std::memset(address, 0xff, size); }));
  } else {
    return device.note(
        cudaErrorStreamCaptureUnsupported);  // memory from before: once only, not at each launch
  }
  return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  Device& device = Device::get();
  const Guard guard(device.lock);
  device.run_everything();
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** address, std::size_t size) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  *address = device.allocate_shared(size);
  return *address == nullptr ? device.note(cudaErrorMemoryAllocation) : cudaSuccess;
}
cudaError_t cudaFree(void* address) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  return device.free_shared(address, true) ? cudaSuccess : device.note(cudaErrorInvalidValue);
}
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* address) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  const auto* shared = device.shared(address);
  if (shared == nullptr || shared->file < 0) return device.note(cudaErrorInvalidValue);
  std::snprintf(handle->reserved, sizeof handle->reserved, "%zu /proc/%d/fd/%d", shared->size,
                static_cast<int>(getpid()), shared->file);
  return cudaSuccess;
}
cudaError_t cudaIpcOpenMemHandle(void** address, cudaIpcMemHandle_t handle, unsigned) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  char* name = nullptr;
  const std::size_t size = std::strtoull(handle.reserved, &name, 10);
  *address = device.open_shared(name + 1, size);
  return *address == nullptr ? device.note(cudaErrorInvalidValue) : cudaSuccess;
}
cudaError_t cudaIpcCloseMemHandle(void* address) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  return device.free_shared(address, false) ? cudaSuccess : device.note(cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void** address, std::size_t size) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  *address = device.fail_allocation >= 0 && device.fail_allocation-- == 0 ? nullptr : std::malloc(size);
  if (*address == nullptr) return device.note(cudaErrorMemoryAllocation);
  std::memset(*address, 0xff, size);
  device.pinned.emplace(static_cast<char*>(*address), size);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* address) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  device.run_everything();
  device.pinned.erase(static_cast<char*>(address));
  std::free(address);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  const bool to_device = device.is_device(to), from_device = device.is_device(from);
  if (kind != cudaMemcpyDefault || (!to_device && !from_device)) return device.note(cudaErrorInvalidValue);
  if (stream->recording && !(to_device && from_device)) return device.note(cudaErrorStreamCaptureUnsupported);
  if (!from_device && !device.is_pinned(from)) {  // pageable: read before the call returns
    const char* bytes = static_cast<const char*>(from);
    device.queue(stream, work_of([to, staged = std::vector<char>(bytes, bytes + size)] {
                   std::memcpy(to, staged.data(), staged.size());
                 }));
    return cudaSuccess;
  }
  const auto done = device.queue(stream, work_of([=] { std::memmove(to, from, size); }));
  if (!to_device && !device.is_pinned(to))
    device.run_until(stream, done);  // pageable: written before it does
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t size, cudaStream_t stream) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (!device.is_device(to)) return device.note(cudaErrorInvalidValue);
  device.queue(stream, work_of([=] { std::memset(to, value, size); }));
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (stream->recording) return device.note(cudaErrorStreamCaptureUnsupported);
  event->done = device.queue(stream, {});
  event->stream = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (stream->recording) return device.note(cudaErrorStreamCaptureUnsupported);
  if (!event->done) return cudaSuccess;
  infalign::host_cuda::Work work;
  work.after = event->done;
  work.after_stream = event->stream;
  device.queue(stream, std::move(work));
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (event->done) device.run_until(event->stream, event->done);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (stream->recording) return device.note(cudaErrorIllegalState);
  stream->recording = std::make_unique<CUgraph_st>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (!stream->recording) return device.note(cudaErrorIllegalState);
  *graph = stream->recording.release();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* runnable, cudaGraph_t graph, unsigned long long) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (!graph->unreturned.empty()) return device.note(cudaErrorInvalidValue);  // could be launched only once
  *runnable = new CUgraphExec_st{std::exchange(*graph, {})};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (graph != nullptr) device.free_all(graph->memory);
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t runnable, cudaStream_t stream) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  if (device.fail_launch >= 0 && device.fail_launch-- == 0) return device.note(cudaErrorLaunchFailure);
  for (const auto& work : runnable->graph.work) device.queue(stream, work_of(work));
  ++device.graph_launches;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t runnable) {
  Device& device = Device::get();
  const Guard guard(device.lock);
  device.run_everything();
  device.free_all(runnable->graph.memory);
  delete runnable;
  return cudaSuccess;
}

}  // extern "C"
