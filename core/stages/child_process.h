// A program of somebody else's, started beside us, with pipes to its standard input, output and error. It
// works beside MPI: the program is started without a copy of our memory (clone with CLONE_VFORK, as
// posix_spawn does), which MPI's registered pages would not survive. posix_spawn itself cannot ask the kernel
// to end the child with us (PR_SET_PDEATHSIG), and Boost.Process forks.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace infalign::stages {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : number_(other.number_) { other.number_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const { return number_; }
  bool is_open() const { return number_ >= 0; }
  void close();

 private:
  int number_ = -1;
};

/// The child inherits the three pipes and no other descriptor, default signal handling, and the environment
/// without the variables by which an MPI library would take it for a rank. It is the head of a process group
/// of its own. It is killed when the thread that started it ends, however that comes about.
class ChildProcess {
 public:
  /// Starts command[0] (looked for in PATH if it has no slash) with the other words as its arguments. Errors:
  /// std::runtime_error naming program and cause.
  explicit ChildProcess(const std::vector<std::string>& command);

  /// Closes the child's input, gives it `kGrace` to end by itself, then kills it and its group.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t id() const { return id_; }

  // Our ends of the pipes; reading and writing them does not block.
  Descriptor input;           // what is written here it reads
  Descriptor output, errors;  // what it writes

  /// Kills the child at once, and what it has started in its group.
  void kill();

  /// "exit status 3" or "signal 9 (Killed)" once the child has ended; waits for that at most `limit`. What
  /// the child has left running in its group is killed then.
  std::optional<std::string> wait(std::chrono::milliseconds limit);

  static constexpr std::chrono::milliseconds kGrace{2000};

 private:
  pid_t id_ = -1;
  std::optional<std::string> ended_;
};

/// While it lives, a write to a pipe that nobody reads fails with EPIPE in this thread and raises no SIGPIPE.
class WithoutBrokenPipeSignal {
 public:
  WithoutBrokenPipeSignal();
  ~WithoutBrokenPipeSignal();
  WithoutBrokenPipeSignal(const WithoutBrokenPipeSignal&) = delete;
  WithoutBrokenPipeSignal& operator=(const WithoutBrokenPipeSignal&) = delete;

 private:
  bool was_pending_ = false, was_blocked_ = false;
};

}  // namespace infalign::stages
