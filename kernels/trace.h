// What is done and when, on the threads of this process: spans of time with names, nested as the calls are.
// Recording them is off until started; then a span costs two readings of the clock and a few stores. Spans
// are also how a watchdog knows what a rank is at, and that it is at something.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace infalign::kernels {

struct TraceEvent {
  std::string name;
  std::int64_t begin = 0, end = 0;  // nanoseconds since 1970
  std::int32_t thread = 0;          // counted from 0 in the order of their first spans
};

/// From here on, spans are recorded.
void start_trace();
/// What all threads recorded so far, in the order in which spans ended on each; they start anew.
std::vector<TraceEvent> take_trace();

/// From here on, phase() tells what the calling thread is in.
void follow_this_thread();
/// The innermost span that the followed thread is in; "" outside of all. Spans whose name begins with
/// "ranks:" are a wait for the others, not a phase. From any thread.
std::string phase();
/// Work goes on: for loops that may run long inside one span. From any thread.
void pulse();
/// How often there was a pulse or a span began, so far.
std::uint64_t pulses();

namespace internal {
extern std::atomic<bool> tracing;
extern std::atomic<std::uint64_t> pulses;
extern std::atomic<bool> following;
/// The phase so far, of a span that begins; `name` is the phase now.
std::string enter(std::string_view name);
void leave(std::string outer);
std::int64_t trace_clock();
void record_span(std::string_view name, std::int64_t begin);
}  // namespace internal

/// The time from here to the end of the scope.
class Span {
 public:
  explicit Span(std::string_view name)
      : name_(name),
        begin_(internal::tracing.load(std::memory_order_relaxed) ? internal::trace_clock() : 0),
        followed_(internal::following.load(std::memory_order_relaxed)) {
    pulse();
    if (followed_) outer_ = internal::enter(name);
  }
  ~Span() {
    if (followed_) internal::leave(std::move(outer_));
    if (begin_ != 0) internal::record_span(name_, begin_);
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  std::string_view name_;
  std::int64_t begin_;
  bool followed_;
  std::string outer_;  // the phase around this one
};

inline void pulse() { internal::pulses.fetch_add(1, std::memory_order_relaxed); }
inline std::uint64_t pulses() { return internal::pulses.load(std::memory_order_relaxed); }

}  // namespace infalign::kernels
