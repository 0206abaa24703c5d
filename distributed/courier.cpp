#include "distributed/courier.h"

#include <omp.h>
#include <sys/prctl.h>

#include <utility>

#include "distributed/timed.h"
#include "kernels/trace.h"

namespace infalign::distributed {

Courier::Courier(bool has_thread) {
  if (has_thread) thread_ = std::thread([this] { work(); });
}

Courier::~Courier() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard guard(lock_);
    ended_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Courier::send(std::function<void()> job) {
  if (!thread_.joinable()) {
    const Timed timed(waited_);
    return job();
  }
  const std::lock_guard guard(lock_);
  if (failed_) return;
  jobs_.push_back(std::move(job));
  changed_.notify_all();
}

void Courier::wait_until(std::size_t most) {
  std::unique_lock guard(lock_);
  if (jobs_.size() > most) {
    const kernels::Span span("wait for courier");
    const Timed timed(waited_);
    changed_.wait(guard, [&] { return jobs_.size() <= most; });
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Courier::work() {
  omp_set_num_threads(1);                  // the others compute
  prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);  // nanoseconds: short sleeps are to be short
  std::unique_lock guard(lock_);
  for (;;) {
    changed_.wait(guard, [&] { return ended_ || !jobs_.empty(); });
    if (ended_) return;
    const auto& job = jobs_.front();  // a deque keeps it in place
    guard.unlock();
    std::exception_ptr failure;
    try {
      job();
    } catch (...) {
      failure = std::current_exception();
    }
    guard.lock();
    jobs_.pop_front();
    if (failure) {
      failure_ = failure;
      failed_ = true;
      jobs_.clear();
    }
    changed_.notify_all();
  }
}

}  // namespace infalign::distributed
