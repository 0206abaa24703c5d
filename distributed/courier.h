// A thread that carries what ranks send each other while the thread that computes goes on. It does its jobs
// one after the other in the order in which they were given, so that ranks whose jobs are collectives on a
// communicator of the courier's own meet in the same order, whatever their speed. Without a thread (one rank,
// or an MPI that allows one thread only) each job is done where it is given.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace infalign::distributed {

class Courier {
 public:
  explicit Courier(bool has_thread);
  /// Waits for the job in hand; those behind it are not begun.
  ~Courier();
  Courier(const Courier&) = delete;
  Courier& operator=(const Courier&) = delete;

  bool has_thread() const { return thread_.joinable(); }

  /// To be done after all earlier ones. After a job that failed no further one is done.
  void send(std::function<void()> job);
  /// Returns when at most `most` jobs are left. Errors: rethrows what a job failed with, once.
  void wait_until(std::size_t most);
  void wait() { wait_until(0); }

  /// Seconds that the caller spent in wait_until, and in jobs that were done where they were given.
  double waited_seconds() const { return waited_; }

 private:
  void work();

  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;  // the first is in hand
  std::exception_ptr failure_;
  bool failed_ = false, ended_ = false;
  double waited_ = 0;
  std::thread thread_;
};

}  // namespace infalign::distributed
