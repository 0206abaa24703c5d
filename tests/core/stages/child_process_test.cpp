// What a child inherits, and that it ends when we do.
#include "core/stages/child_process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <sstream>
#include <thread>

namespace infalign::stages {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

std::string all_of(const Descriptor& from) {
  fcntl(from.number(), F_SETFL, 0);  // wait for it
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t n = 0; (n = ::read(from.number(), buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(n));
  return text;
}

/// The state of a process, as /proc tells it: 'S', 'R', 'Z', ...; 0 when there is none.
char state_of(pid_t id) {
  std::string text;
  std::getline(std::ifstream("/proc/" + std::to_string(id) + "/stat"), text);
  const auto name_end = text.rfind(')');
  return name_end == std::string::npos ? '\0' : text.at(name_end + 2);
}

bool ends_soon(pid_t id) {
  for (int i = 0; i < 1000; ++i) {
    const char state = state_of(id);
    if (state == '\0' || state == 'Z') return true;  // a zombie where nobody above adopts it
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST(ChildProcess, InheritsItsThreePipesAndNoMore) {
  const int ours = open("/dev/null", O_RDONLY);  // without close-on-exec
  ChildProcess other({"cat"});
  ChildProcess child({"sh", "-c", "ls /proc/self/fd | wc -l"});
  EXPECT_EQ(all_of(child.output), "4\n") << "0, 1, 2, and the folder that ls reads";
  close(ours);
}

TEST(ChildProcess, EndsWithItsInputAlthoughAnotherChildWasStartedMeanwhile) {
  ChildProcess first({"cat"});
  ChildProcess second({"cat"});
  first.input.close();
  EXPECT_EQ(first.wait(seconds(30)), "exit status 0") << "the second holds no end of its pipe";
}

TEST(ChildProcess, StartsWithoutOurSignalMaskAndIgnoredSignals) {
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto handler = std::signal(SIGPIPE, SIG_IGN);
  {
    ChildProcess child({"grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"});
    EXPECT_EQ(all_of(child.output), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
  }
  std::signal(SIGPIPE, handler);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST(ChildProcess, IsNotTakenForARank) {
  setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
  setenv("PMIX_RANK", "1", 1);
  setenv("INFALIGN_TEST_VARIABLE", "kept", 1);
  ChildProcess child({"env"});
  const auto environment = all_of(child.output);
  EXPECT_THAT(environment, HasSubstr("INFALIGN_TEST_VARIABLE=kept\n"));
  EXPECT_THAT(environment, Not(HasSubstr("OMPI_")));
  EXPECT_THAT(environment, Not(HasSubstr("PMIX_")));
  for (const auto* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "INFALIGN_TEST_VARIABLE"}) unsetenv(name);
}

TEST(ChildProcess, TellsHowItEnded) {
  EXPECT_EQ(ChildProcess({"sh", "-c", "exit 3"}).wait(seconds(30)), "exit status 3");
  EXPECT_EQ(ChildProcess({"sh", "-c", "kill -15 $$"}).wait(seconds(30)), "signal 15 (Terminated)");
  ChildProcess lasting({"sleep", "600"});
  EXPECT_EQ(lasting.wait(std::chrono::milliseconds(1)), std::nullopt);
  lasting.kill();
  EXPECT_EQ(lasting.wait(seconds(30)), "signal 9 (Killed)");
}

TEST(ChildProcess, CannotStartWhatIsNotThere) {
  try {
    ChildProcess child({"no-such-program-anywhere"});
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "cannot start no-such-program-anywhere: No such file or directory");
  }
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "no zombie is left";
}

TEST(ChildProcess, WhatItHasStartedEndsWithIt) {
  pid_t grandchild = 0;
  {
    ChildProcess child({"sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"});
    std::istringstream(all_of(child.output)) >> grandchild;
    ASSERT_GT(grandchild, 0);
    EXPECT_EQ(child.wait(seconds(30)), "exit status 0");
  }
  EXPECT_TRUE(ends_soon(grandchild));
}

TEST(ChildProcess, EndsWhenWeAreKilled) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  const pid_t us = fork();
  if (us == 0) {
    ChildProcess child({"sleep", "600"});  // which does not look at its input
    const auto id = child.id();
    if (::write(ends[1], &id, sizeof id) != sizeof id) _exit(1);
    for (;;) pause();
  }
  pid_t id = 0;
  ASSERT_EQ(::read(ends[0], &id, sizeof id), static_cast<ssize_t>(sizeof id));
  EXPECT_NE(state_of(id), '\0');
  ::kill(us, SIGKILL);
  waitpid(us, nullptr, 0);
  EXPECT_TRUE(ends_soon(id));
  for (const int end : ends) close(end);
}

TEST(WithoutBrokenPipeSignal, AWriteFailsInstead) {
  ChildProcess child({"true"});
  ASSERT_TRUE(child.wait(seconds(30)));
  {
    const WithoutBrokenPipeSignal guard;
    EXPECT_EQ(write(child.input.number(), "x", 1), -1);
    EXPECT_EQ(errno, EPIPE);
  }
  sigset_t pending, blocked;
  sigpending(&pending);
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  EXPECT_EQ(sigismember(&pending, SIGPIPE), 0) << "nothing comes later";
  EXPECT_EQ(sigismember(&blocked, SIGPIPE), 0);
}

}  // namespace
}  // namespace infalign::stages
