#include "core/stages/child_process.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>

namespace infalign::stages {
namespace {

constexpr std::size_t kStackBytes = 256 << 10;  // execvp puts the paths it tries there
constexpr int kCannotStart = 127;

struct Pipe {
  Descriptor read, write;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot make a pipe");
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

void do_not_block(const Descriptor& end) {
  fcntl(end.number(), F_SETFL, fcntl(end.number(), F_GETFL) | O_NONBLOCK);
}

/// What the child needs between clone and exec, when it shares our memory and may call only the kernel.
struct Start {
  char* const* arguments;
  char* const* environment;
  std::array<int, 3> descriptors;  // its standard input, output and error
  pid_t parent;
  int error = 0;  // written by the child
};

int child_main(void* argument) {
  auto& start = *static_cast<Start*>(argument);
  const auto fail = [&] {
    start.error = errno;
    _exit(kCannotStart);
  };
  // Our handlers, on memory that is ours, must not run here.
  struct sigaction ours {
  }, by_default{};
  by_default.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal)
    if (sigaction(signal, nullptr, &ours) == 0 && ours.sa_handler != SIG_DFL)
      sigaction(signal, &by_default, nullptr);
  if (setpgid(0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail();
  if (getppid() != start.parent) _exit(kCannotStart);  // it has ended already
  // dup2 leaves a descriptor alone that has its number already, and with it close-on-exec: so in two steps.
  constexpr int kAbove = 3;
  for (int& descriptor : start.descriptors) {
    descriptor = fcntl(descriptor, F_DUPFD, kAbove);
    if (descriptor < 0) fail();
  }
  for (int standard = 0; standard < kAbove; ++standard)
    if (dup2(start.descriptors[static_cast<std::size_t>(standard)], standard) < 0) fail();
  if (close_range(kAbove, ~0U, CLOSE_RANGE_CLOEXEC) != 0) fail();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execvpe(start.arguments[0], start.arguments, start.environment);
  fail();
  return kCannotStart;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (auto& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

/// Without these a program that happens to use MPI, or looks whether it runs below it, runs alone.
std::vector<std::string> environment_of_child() {
  std::vector<std::string> kept;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (!text.starts_with("OMPI_") && !text.starts_with("PMIX_") && !text.starts_with("PMI_"))
      kept.emplace_back(text);
  }
  return kept;
}

std::string exit_text(int status) { return "exit status " + std::to_string(status); }
std::string signal_text(int signal) {
  return "signal " + std::to_string(signal) + " (" + sigdescr_np(signal) + ")";
}

sigset_t broken_pipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  return set;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) close();
  std::swap(number_, other.number_);
  return *this;
}

void Descriptor::close() {
  if (number_ >= 0) ::close(number_);
  number_ = -1;
}

ChildProcess::ChildProcess(const std::vector<std::string>& command) {
  auto to_child = make_pipe(), from_child = make_pipe(), errors_of_child = make_pipe();
  auto words = command, variables = environment_of_child();
  const auto arguments = pointers(words), environment = pointers(variables);
  Start start{arguments.data(),
              environment.data(),
              {to_child.read.number(), from_child.write.number(), errors_of_child.write.number()},
              getpid()};
  std::vector<std::max_align_t> stack(kStackBytes / sizeof(std::max_align_t));

  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  id_ = clone(child_main, stack.data() + stack.size(), CLONE_VM | CLONE_VFORK | SIGCHLD, &start);
  const int clone_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);

  const int error = id_ < 0 ? clone_error : start.error;
  if (error != 0) {
    if (id_ > 0) waitpid(id_, nullptr, 0);
    throw std::runtime_error("cannot start " + command.front() + ": " +
                             std::generic_category().message(error));
  }
  input = std::move(to_child.write);
  output = std::move(from_child.read);
  errors = std::move(errors_of_child.read);
  for (const auto* end : {&input, &output, &errors}) do_not_block(*end);
}

ChildProcess::~ChildProcess() {
  input.close();
  output.close();
  errors.close();
  wait(kGrace);
  kill();
}

void ChildProcess::kill() {
  if (ended_) return;
  ::kill(-id_, SIGKILL);
  int status = 0;
  while (waitpid(id_, &status, 0) < 0 && errno == EINTR) continue;
  ended_ = WIFSIGNALED(status) ? signal_text(WTERMSIG(status)) : exit_text(WEXITSTATUS(status));
}

std::optional<std::string> ChildProcess::wait(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!ended_) {
    // The head stays a zombie until its group is killed, so that the group's number is not another's by then.
    siginfo_t state{};
    if (waitid(P_PID, static_cast<id_t>(id_), &state, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        state.si_pid == id_)
      kill();
    else if (std::chrono::steady_clock::now() >= deadline)
      return std::nullopt;
    else
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return ended_;
}

WithoutBrokenPipeSignal::WithoutBrokenPipeSignal() {
  sigset_t pending, before;
  const sigset_t signal = broken_pipe();
  sigpending(&pending);
  was_pending_ = sigismember(&pending, SIGPIPE) == 1;
  pthread_sigmask(SIG_BLOCK, &signal, &before);
  was_blocked_ = sigismember(&before, SIGPIPE) == 1;
}

WithoutBrokenPipeSignal::~WithoutBrokenPipeSignal() {
  const sigset_t signal = broken_pipe();
  const timespec at_once{};
  if (!was_pending_) sigtimedwait(&signal, nullptr, &at_once);
  if (!was_blocked_) pthread_sigmask(SIG_UNBLOCK, &signal, nullptr);
}

}  // namespace infalign::stages
