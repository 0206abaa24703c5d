#include "kernels/trace.h"

#include <chrono>
#include <memory>
#include <mutex>
#include <thread>

namespace infalign::kernels {
namespace {

/// What one thread recorded; others read it only under its lock.
struct Recorder {
  std::mutex lock;
  std::int32_t thread = 0;
  std::vector<TraceEvent> events;
};

std::mutex all_lock;
std::vector<std::shared_ptr<Recorder>> all;  // outlive their threads

Recorder& own_recorder() {
  static thread_local const std::shared_ptr<Recorder> own = [] {
    auto recorder = std::make_shared<Recorder>();
    const std::lock_guard guard(all_lock);
    recorder->thread = static_cast<std::int32_t>(all.size());
    all.push_back(recorder);
    return recorder;
  }();
  return *own;
}

/// What one thread is in, for others to read.
struct Followed {
  std::mutex lock;
  std::thread::id thread;
  std::string phase;
};
Followed followed;

}  // namespace

namespace internal {

std::atomic<bool> tracing{false};
std::atomic<std::uint64_t> pulses{0};
std::atomic<bool> following{false};

std::string enter(std::string_view name) {
  const std::lock_guard guard(followed.lock);
  std::string outer = followed.phase;
  if (followed.thread == std::this_thread::get_id() && !name.starts_with("ranks:")) followed.phase = name;
  return outer;
}

void leave(std::string outer) {
  const std::lock_guard guard(followed.lock);
  if (followed.thread == std::this_thread::get_id()) followed.phase = std::move(outer);
}

std::int64_t trace_clock() {
  using std::chrono::system_clock;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(system_clock::now().time_since_epoch()).count();
}

void record_span(std::string_view name, std::int64_t begin) {
  Recorder& own = own_recorder();
  const std::lock_guard guard(own.lock);
  own.events.push_back({std::string(name), begin, trace_clock(), own.thread});
}

}  // namespace internal

void follow_this_thread() {
  const std::lock_guard guard(followed.lock);
  followed.thread = std::this_thread::get_id();
  followed.phase.clear();
  internal::following = true;
}

std::string phase() {
  const std::lock_guard guard(followed.lock);
  return followed.phase;
}

void start_trace() { internal::tracing = true; }

std::vector<TraceEvent> take_trace() {
  std::vector<TraceEvent> events;
  const std::lock_guard guard(all_lock);
  for (const auto& recorder : all) {
    const std::lock_guard own(recorder->lock);
    events.insert(events.end(), std::make_move_iterator(recorder->events.begin()),
                  std::make_move_iterator(recorder->events.end()));
    recorder->events.clear();
  }
  return events;
}

}  // namespace infalign::kernels
