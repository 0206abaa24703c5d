// When what was done, on the threads of this process: spans of time with names, nested as the calls are. Off
// until started; then a span costs two readings of the clock and a few stores.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
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

namespace internal {
extern std::atomic<bool> tracing;
std::int64_t trace_clock();
void record_span(std::string_view name, std::int64_t begin);
}  // namespace internal

/// The time from here to the end of the scope.
class Span {
 public:
  explicit Span(std::string_view name)
      : name_(name),
        begin_(internal::tracing.load(std::memory_order_relaxed) ? internal::trace_clock() : 0) {}
  ~Span() {
    if (begin_ != 0) internal::record_span(name_, begin_);
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  std::string_view name_;
  std::int64_t begin_;
};

}  // namespace infalign::kernels
