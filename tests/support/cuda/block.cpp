// The fibers are Boost.Context's, switched directly from one to the next. This file is compiled without
// sanitizers and tells them by hand what happens: to the thread sanitizer every CUDA thread is a thread whose
// order with others comes from barriers alone, so that it reports two threads which reach the same memory
// without one between, however they were scheduled here; to the address sanitizer, where stacks are and which
// parts of shared memory are a variable's. The sanitizers' functions are weak: they are there when a
// sanitizer is linked.
#include "support/cuda/block.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <boost/context/detail/fcontext.hpp>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

extern "C" {
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void __tsan_destroy_fiber(void* fiber);
[[gnu::weak]] void __tsan_switch_to_fiber(void* fiber, unsigned flags);
[[gnu::weak]] void __tsan_acquire(void* address);
[[gnu::weak]] void __tsan_release(void* address);
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, std::size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, std::size_t* size);
[[gnu::weak]] void __asan_poison_memory_region(const volatile void* address, std::size_t size);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void* address, std::size_t size);
}

namespace infalign::host_cuda {
namespace {

namespace context = boost::context::detail;

constexpr unsigned kWarp = 32, kMostThreads = 1024, kMostWarps = kMostThreads / kWarp;
constexpr std::size_t kStack = std::size_t{256} << 10;
constexpr std::size_t kStaticShared = std::size_t{48} << 10, kMostShared = std::size_t{227} << 10;
constexpr std::size_t kGap = 64;  // between variables

bool under_tsan() { return __tsan_create_fiber != nullptr; }
bool under_asan() { return __asan_poison_memory_region != nullptr; }
void acquire(void* address) {
  if (under_tsan()) __tsan_acquire(address);
}
void release(void* address) {
  if (under_tsan()) __tsan_release(address);
}

/// Copies without a call that a sanitizer would watch.
void copy_quietly(unsigned char* to, const unsigned char* from, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    to[i] = from[i];
    asm volatile("" ::: "memory");
  }
}
void fill_quietly(unsigned char* to, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    to[i] = 0xff;
    asm volatile("" ::: "memory");
  }
}

struct Fiber {
  context::fcontext_t at = nullptr;
  char* stack = nullptr;
  void* tsan = nullptr;
  void* fake_stack = nullptr;
  bool returned = false;
  Index index{};
  unsigned number = 0;  // in the block
  Site site{"the kernel's first line", 0};
};

/// The 32 lanes that meet. There are two tables, used in turns: a lane writes the next while others still
/// read the last, and none can be two ahead.
struct Warp {
  unsigned ready = 0, at_barrier = 0, arrived = 0, returned = 0;  // lanes, as bits
  unsigned turn = 0;
  Site site{};
  alignas(64) unsigned char table[2][kWarp][64];
  char tag[2] = {};  // for the sanitizer
};

struct FreeMemory {
  void operator()(unsigned char* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<unsigned char[], FreeMemory>;
Memory allocate(std::size_t size) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 128, std::max<std::size_t>(size, 1)) != 0) throw std::bad_alloc();
  return Memory(static_cast<unsigned char*>(memory));
}

thread_local Schedule schedule;

/// One thread's place for running blocks.
class Runner {
 public:
  static Runner& of_thread() {
    static thread_local Runner runner;
    return runner;
  }

  void run(dim3 grid, dim3 block, std::size_t dynamic_shared, const std::function<void()>& body) {
    const std::size_t threads = std::size_t{block.x} * block.y * block.z;
    const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
    if (threads == 0 || threads > kMostThreads || threads % kWarp != 0)
      throw std::runtime_error("a block of " + std::to_string(threads) +
                               " threads; whole warps are asked for, 1024 threads at most");
    if (dynamic_shared > kMostShared)
      throw std::runtime_error(std::to_string(dynamic_shared) +
                               " bytes of shared memory, more than a block has");
    if (grid.y > 65535 || grid.z > 65535) throw std::runtime_error("a grid's y and z end at 65535");
    body_ = &body;
    random_ = schedule.seed * 0x9e3779b97f4a7c15u + 1;
    std::vector<std::size_t> order(blocks);
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (schedule.order == Order::kReverse) std::reverse(order.begin(), order.end());
    if (schedule.order == Order::kPriorities)
      for (std::size_t i = blocks; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
    if (main_.tsan == nullptr && under_tsan()) main_.tsan = __tsan_get_current_fiber();
    release(&start_tag_);
    for (const std::size_t number : order) {
      here().block_size = block;
      here().grid_size = grid;
      here().block = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                      static_cast<unsigned>(number / grid.x / grid.y)};
      run_block(block, static_cast<unsigned>(threads), dynamic_shared);
      if (!failure_.empty()) break;
    }
    acquire(&end_tag_);  // only now: blocks have no order among each other
    kept_.clear();
    if (!failure_.empty()) throw std::runtime_error(std::exchange(failure_, ""));
  }

  void sync_threads(Site site) {
    Fiber& me = *current_;
    me.site = site;
    if (waiting_ == 0)
      barrier_site_ = site;
    else if (!same(barrier_site_, site))
      return fail("threads of a block at two barriers: " + described(me) + ", others at " +
                  described(barrier_site_));
    char* tag = &barrier_tag_[phase_];
    release(tag);
    warps_[me.number / kWarp].at_barrier |= 1u << me.number % kWarp;
    ++waiting_;
    if (waiting_ == live_) open_barrier();
    jump_to_next();
    acquire(tag);
  }

  void sync_warp(Site site) {
    Warp& warp = warps_[current_->number / kWarp];
    char* tag = &warp.tag[warp.turn];
    release(tag);
    meet(0xffffffffu, nullptr, 0, site);
    acquire(tag);
  }

  const unsigned char* meet(unsigned mask, const void* value, std::size_t size, Site site) {
    Fiber& me = *current_;
    me.site = site;
    const unsigned lane = me.number % kWarp;
    Warp& warp = warps_[me.number / kWarp];
    if (mask != 0xffffffffu) fail("a shuffle that does not name all lanes: " + described(me));
    if (warp.arrived == 0)
      warp.site = site;
    else if (!same(warp.site, site))
      fail("lanes of a warp at two places: " + described(me) + ", others at " + described(warp.site));
    if (warp.returned != 0) fail("a shuffle with a lane that has returned: " + described(me));
    const unsigned turn = warp.turn;
    copy_quietly(warp.table[turn][lane], static_cast<const unsigned char*>(value), size);
    warp.arrived |= 1u << lane;
    if (warp.arrived == 0xffffffffu) {
      warp.arrived = 0;
      warp.turn ^= 1;
      warp.ready = 0xffffffffu;
    }
    jump_to_next();
    return &warp.table[turn][0][0];
  }

  void* shared(const void* tag, std::size_t size) {
    for (std::size_t i = 0; i < variables_; ++i)
      if (variable_[i].tag == tag) return variable_[i].memory;
    const std::size_t at = used_;
    used_ += (size + kGap + 63) / 64 * 64;
    if (used_ > kStaticShared || variables_ == variable_.size()) {
      fail("more than 48 KiB of static shared memory");
      return nullptr;
    }
    unsigned char* memory = arena_.get() + at;
    if (under_asan()) __asan_unpoison_memory_region(memory, size);
    fill_quietly(memory, size);
    variable_[variables_++] = {tag, memory};
    return memory;
  }

  void* dynamic_shared() const { return dynamic_.get(); }

 private:
  static bool same(Site a, Site b) {
    return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
  }
  static std::string described(Site site) { return std::string(site.file) + ":" + std::to_string(site.line); }
  std::string described(const Fiber& fiber) const {
    const Index& block = here().block;
    return "thread " + std::to_string(fiber.number) + " of block (" + std::to_string(block.x) + ", " +
           std::to_string(block.y) + ", " + std::to_string(block.z) + ") at " + described(fiber.site);
  }

  std::uint64_t random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_ >> 16;
  }

  /// Gives up the block: its fibers are left where they stand.
  void fail(const std::string& why) {
    if (failure_.empty()) failure_ = why;
    jump(main_);
  }

  void jump(Fiber& to) {
    Fiber& from = *current_;
    if (&from == &to) return;
    current_ = &to;
    here().thread = to.index;
    if (under_asan())
      __sanitizer_start_switch_fiber(from.returned ? nullptr : &from.fake_stack, to.stack,
                                     &to == &main_ ? main_size_ : kStack);
    if (under_tsan()) __tsan_switch_to_fiber(to.tsan, 1);  // 1: a switch puts nothing in order
    const context::transfer_t came = context::jump_fcontext(to.at, &from);
    landed(came);
  }

  /// What every fiber does when it goes on: keeps where the one before it stopped.
  void landed(context::transfer_t came) {
    static_cast<Fiber*>(came.data)->at = came.fctx;
    if (under_asan()) {
      const void* bottom = nullptr;
      std::size_t size = 0;
      __sanitizer_finish_switch_fiber(current_->fake_stack, &bottom, &size);
      if (static_cast<Fiber*>(came.data) == &main_) {
        main_.stack = static_cast<char*>(const_cast<void*>(bottom));
        main_size_ = size;
      }
    }
  }

  void jump_to_next() {
    if (schedule.order == Order::kPriorities && random() % 64 == 0)
      std::swap(warp_order_[random() % warp_count_], warp_order_[random() % warp_count_]);
    for (unsigned i = 0; i < warp_count_; ++i) {
      const unsigned number = warp_order_[i];
      Warp& warp = warps_[number];
      if (warp.ready == 0) continue;
      unsigned lane = static_cast<unsigned>(__builtin_ctz(warp.ready));
      if (schedule.order == Order::kReverse) lane = 31u - static_cast<unsigned>(__builtin_clz(warp.ready));
      if (schedule.order == Order::kPriorities) {
        const unsigned turn = static_cast<unsigned>(salt_ + number) % kWarp;
        const unsigned turned = turn == 0 ? warp.ready : warp.ready >> turn | warp.ready << (kWarp - turn);
        lane = (static_cast<unsigned>(__builtin_ctz(turned)) + turn) % kWarp;
      }
      warp.ready &= ~(1u << lane);
      return jump(fibers_[number * kWarp + lane]);
    }
    jump(main_);
  }

  void open_barrier() {
    waiting_ = 0;
    phase_ ^= 1;
    for (unsigned i = 0; i < warp_count_; ++i) warps_[i].ready |= std::exchange(warps_[i].at_barrier, 0u);
  }

  static void start(context::transfer_t came) {
    Runner& runner = of_thread();
    runner.landed(came);
    acquire(&runner.start_tag_);
    (*runner.body_)();
    release(&runner.end_tag_);
    Fiber& me = *runner.current_;
    me.returned = true;
    runner.warps_[me.number / kWarp].returned |= 1u << me.number % kWarp;
    --runner.live_;
    if (runner.live_ > 0 && runner.waiting_ == runner.live_) runner.open_barrier();
    runner.jump_to_next();
    std::abort();
  }

  void prepare(Fiber& fiber, dim3 block, unsigned number) {
    const auto map = [](void* at, int flags) {
      void* memory = mmap(at, kStack, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
      if (memory == MAP_FAILED) throw std::bad_alloc();
      return static_cast<char*>(memory);
    };
    if (fiber.stack == nullptr)
      fiber.stack = map(nullptr, 0);
    else if (under_tsan())
      map(fiber.stack, MAP_FIXED);  // forget who used it before
    if (under_asan()) __asan_unpoison_memory_region(fiber.stack, kStack);
    fiber.number = number;
    fiber.index = {number % block.x, number / block.x % block.y, number / (block.x * block.y)};
    fiber.returned = false;
    fiber.fake_stack = nullptr;
    fiber.site = {"the kernel's first line", 0};
    // Stacks that lie a power of two apart would compete for the same sets of the cache.
    fiber.at = context::make_fcontext(fiber.stack + kStack - (number * 832 & 0x3fc0), kStack - 16384, start);
    if (under_tsan()) fiber.tsan = __tsan_create_fiber(0);
  }

  void run_block(dim3 block, unsigned threads, std::size_t dynamic_shared) {
    warp_count_ = threads / kWarp;
    live_ = threads;
    waiting_ = 0;
    salt_ = random();
    for (unsigned i = 0; i < warp_count_; ++i) {
      warps_[i].ready = 0xffffffffu;
      warps_[i].at_barrier = warps_[i].arrived = warps_[i].returned = 0;
      warp_order_[i] = schedule.order == Order::kReverse ? warp_count_ - 1 - i : i;
    }
    if (schedule.order == Order::kPriorities)
      for (unsigned i = warp_count_; i > 1; --i) std::swap(warp_order_[i - 1], warp_order_[random() % i]);
    prepare_shared(dynamic_shared);
    for (unsigned i = 0; i < threads; ++i) prepare(fibers_[i], block, i);
    current_ = &main_;
    jump_to_next();  // and back when nobody can go on
    if (under_tsan())
      for (unsigned i = 0; i < threads; ++i) __tsan_destroy_fiber(fibers_[i].tsan);
    if (failure_.empty() && live_ > 0) failure_ = deadlock(threads);
  }

  void prepare_shared(std::size_t dynamic_shared) {
    variables_ = 0;
    used_ = kGap;
    if (under_tsan()) {  // fresh addresses for each block, which the sanitizer knows nothing of
      kept_.push_back(std::move(arena_));
      kept_.push_back(std::move(dynamic_));
    }
    if (!arena_) arena_ = allocate(kStaticShared);
    if (under_asan()) __asan_poison_memory_region(arena_.get(), kStaticShared);
    dynamic_ = allocate(dynamic_shared);  // of this very size: the heap's own redzone follows it
    fill_quietly(dynamic_.get(), dynamic_shared);
  }

  std::string deadlock(unsigned threads) const {
    std::string text = std::to_string(live_) + " of " + std::to_string(threads) + " threads wait for ever:";
    const Fiber* told = nullptr;
    for (unsigned i = 0; i < threads; ++i)
      if (!fibers_[i].returned && (told == nullptr || !same(told->site, fibers_[i].site))) {
        told = &fibers_[i];
        text += " " + described(*told) + ";";
      }
    return text;
  }

  std::array<Fiber, kMostThreads> fibers_;
  std::array<Warp, kMostWarps> warps_;
  std::array<unsigned, kMostWarps> warp_order_{};
  Fiber main_;
  std::size_t main_size_ = 0;
  Fiber* current_ = &main_;
  unsigned warp_count_ = 0, live_ = 0, waiting_ = 0, phase_ = 0;
  Site barrier_site_{};
  char barrier_tag_[2] = {}, start_tag_ = 0, end_tag_ = 0;
  std::uint64_t random_ = 1, salt_ = 0;
  const std::function<void()>* body_ = nullptr;
  std::string failure_;
  struct Variable {
    const void* tag;
    unsigned char* memory;
  };
  std::array<Variable, 32> variable_{};
  std::size_t variables_ = 0, used_ = 0;
  Memory arena_, dynamic_;
  std::vector<Memory> kept_;
};

}  // namespace

Here& here() {
  static thread_local Here of_thread{};
  return of_thread;
}
unsigned lane() {
  const Here& at = here();
  return (at.thread.x + at.block_size.x * (at.thread.y + at.block_size.y * at.thread.z)) % kWarp;
}

void set_schedule(const Schedule& wanted) { schedule = wanted; }
void run_grid(dim3 grid, dim3 block, std::size_t dynamic_shared, const std::function<void()>& body) {
  Runner::of_thread().run(grid, block, dynamic_shared, body);
}
void sync_threads(Site site) { Runner::of_thread().sync_threads(site); }
void sync_warp(Site site) { Runner::of_thread().sync_warp(site); }
const unsigned char* meet(unsigned mask, const void* value, std::size_t size, Site site) {
  return Runner::of_thread().meet(mask, value, size, site);
}
void* shared_memory(const void* tag, std::size_t size) { return Runner::of_thread().shared(tag, size); }
void* dynamic_shared_memory() { return Runner::of_thread().dynamic_shared(); }

}  // namespace infalign::host_cuda
