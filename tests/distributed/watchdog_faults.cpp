// Run under mpirun: ranks that meet in a barrier again and again, until the one that is told to commits a
// fault in the middle of its work.
//
//   watchdog_faults SECONDS FAULT RANK [courier]
//
// With `courier` they meet in couriers, for which they wait.
//
// Faults: throw, kill, abort, stop, stop_at_the_end (its work is done),
// stop_at_the_start (of MPI), sleep, spin, leave; and what is none:
// work (with signs of progress) and read (a long file), for twice SECONDS.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/courier.h"
#include "distributed/watchdog.h"
#include "kernels/trace.h"

namespace {

using namespace infalign;
using Clock = std::chrono::steady_clock;

void commit(const std::string& fault, double seconds) {
  const kernels::Span span("mischief");
  std::this_thread::sleep_for(std::chrono::milliseconds(700));  // so that it is known
  const auto end = Clock::now() + std::chrono::duration<double>(2 * seconds);
  if (fault == "throw") throw std::runtime_error("this is the cause");
  if (fault == "kill") kill(getpid(), SIGKILL);
  if (fault == "abort") std::abort();
  if (fault == "stop") kill(getpid(), SIGSTOP);
  if (fault == "sleep") std::this_thread::sleep_for(std::chrono::hours(1));
  if (fault == "spin")
    for (volatile std::uint64_t turns = 0;;) turns = turns + 1;
  if (fault == "work")
    for (; Clock::now() < end; kernels::pulse()) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  if (fault == "read") {
    std::ifstream zeros("/dev/zero");
    std::vector<char> piece(1 << 12);
    for (; Clock::now() < end; std::this_thread::sleep_for(std::chrono::milliseconds(100)))
      zeros.read(piece.data(), std::ssize(piece));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const double seconds = std::atof(argv[1]);
  const std::string fault = argv[2];
  const int who = std::atoi(argv[3]);
  const bool by_courier = argc > 4 && std::string(argv[4]) == "courier";
  std::optional<distributed::StartLimit> start_limit(seconds);
  std::optional<distributed::Watchdog> watchdog;
  if (fault == "stop_at_the_start" && distributed::launcher_rank() == who) kill(getpid(), SIGSTOP);
  const auto ranks = distributed::make_mpi(&argc, &argv);
  watchdog.emplace(*ranks, seconds);
  start_limit.reset();
  const auto couriers = ranks->split(0);
  distributed::Courier courier(by_courier);
  try {
    for (int step = 1; step <= 20; ++step) {
      watchdog->at("step " + std::to_string(step));
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      const bool now = step == 10 && ranks->rank() == who;
      if (now && fault == "leave") break;
      if (now) commit(fault, seconds);
      if (by_courier)
        courier.send([&] { couriers->barrier(); });
      else
        ranks->barrier();
      courier.wait();
    }
  } catch (const std::exception& error) {
    watchdog->fail(3, error.what());
  }
  watchdog->release();
  if (ranks->rank() == who && fault == "stop_at_the_end") {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    kill(getpid(), SIGSTOP);
  }
  return 0;
}
