// Machines are told apart by the kernel's boot id, which containers of one machine share and which, unlike
// host names, nobody sets.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <span>
#include <string>

#include "distributed/device_collectives.h"

namespace infalign::distributed {
namespace {

std::string this_machine() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  if (!id.empty()) return id;
  std::array<char, 256> name{};
  static_cast<void>(gethostname(name.data(), name.size() - 1));
  return name.data();
}

}  // namespace

int rank_on_machine(Communicator& ranks) {
  const std::string mine = this_machine();
  const auto all = ranks.all_gather_bytes(std::as_bytes(std::span(mine)));
  const auto here = std::as_bytes(std::span(mine));
  return static_cast<int>(std::count_if(all.begin(), all.begin() + ranks.rank(), [&](const auto& machine) {
    return std::ranges::equal(machine, here);
  }));
}

bool same_on_a_machine(Communicator& ranks, const std::string& name) {
  const std::string mine = this_machine() + " " + name;
  auto all = ranks.all_gather_bytes(std::as_bytes(std::span(mine)));
  std::ranges::sort(all);
  return std::ranges::adjacent_find(all) != all.end();
}

}  // namespace infalign::distributed
