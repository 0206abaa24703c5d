// Sees to it that no rank waits for one that will not come. Each rank has a thread that gives signs of life
// over connections of its own, not MPI's: neither MPI nor mpirun notices a stopped process, a rank that turns
// in a circle, or a link that is down, and they would wait for ever.
//
// Up to three ranks, on as many hosts as there are, are judges; every rank reports to all of them, and each
// judge knows what all ranks are at (judge() in verdict.h says who is lost). The lowest judge that is alive
// passes the verdict: it prints the one message, tells everybody, and every process ends with _exit. So a
// rank that hangs may be any, a judge too: its thread goes on while its work does not, and when the whole
// process is stopped the next judge misses it. A rank that hears of no judge any more ends by itself.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "distributed/communicator.h"

namespace infalign::distributed {

class Watchdog {
 public:
  /// Where its one message goes, besides standard error, and how the process ends. Tests put their own there.
  struct Ending {
    std::function<void(const std::string& message)> print;
    std::function<void(int exit_code)> exit;
    /// Standard error, behind "infalign: "; _exit. Where INFALIGN_VERDICT_FILE names an existing file, the
    /// message goes there too: launch/mpirun learns from it that its ranks are gone.
    static Ending of_process();
  };

  /// Collective, and to be constructed on the thread that does the work: its spans are the phases. `seconds`
  /// after a rank gave its last sign of life or of progress all have ended (it is given up after three
  /// quarters of that). Does nothing for a single rank, or where `seconds` is 0. `ranks` has to outlive
  /// release(). Errors: std::runtime_error on all ranks where one cannot reach a judge, naming both and the
  /// addresses tried.
  Watchdog(Communicator& ranks, double seconds, Ending ending = Ending::of_process());
  /// This rank's end is no fault.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  bool active() const { return impl_ != nullptr; }

  /// Stage, variant and step, for the message.
  void at(const std::string& where);

  /// This rank has failed: all ranks end with this code, one of them prints `cause`. Does not return where
  /// active.
  void fail(int exit_code, const std::string& cause);

  /// This rank has done its work, and the communicator is about to be finalised; it is not asked again. Until
  /// it is destroyed the watchdog goes on: the others may hang, and this rank may be stopped.
  void release();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// For the time before a Watchdog is there: neither MPI nor mpirun notices that a rank is stopped, or cannot
/// be reached, while MPI starts, and the others would wait for it for ever.
class StartLimit {
 public:
  /// Where this is not destroyed within `seconds`, the process says so and ends with exit code 1; ranks one
  /// after the other, so that as a rule one of them says it. Does nothing for a process that is not one of
  /// several ranks, or where `seconds` is 0.
  explicit StartLimit(double seconds, Watchdog::Ending ending = Watchdog::Ending::of_process());

 private:
  std::jthread thread_;
};

}  // namespace infalign::distributed
