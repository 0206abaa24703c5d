// Machines are told apart by the kernel's boot id, which containers of one machine share and which, unlike
// host names, nobody sets.
#include "distributed/machine.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>
#include <system_error>
#include <vector>

#include "kernels/pages.h"

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

/// The ranks on this machine, in rising order. A collective.
std::vector<int> ranks_here(Communicator& ranks) {
  const std::string mine = this_machine();
  const auto here = std::as_bytes(std::span(mine));
  const auto all = ranks.all_gather_bytes(here);
  std::vector<int> found;
  for (int rank = 0; rank < ranks.size(); ++rank)
    if (std::ranges::equal(all[static_cast<std::size_t>(rank)], here)) found.push_back(rank);
  return found;
}

/// What `make` returns; nothing where the system refuses.
template <class Make>
auto if_possible(Make&& make) -> std::optional<decltype(make())> {
  try {
    return make();
  } catch (const std::system_error&) {
    return std::nullopt;
  }
}

}  // namespace

int rank_on_machine(Communicator& ranks) {
  const auto here = ranks_here(ranks);
  return static_cast<int>(std::ranges::find(here, ranks.rank()) - here.begin());
}

bool same_on_a_machine(Communicator& ranks, const std::string& name) {
  const std::string mine = this_machine() + " " + name;
  auto all = ranks.all_gather_bytes(std::as_bytes(std::span(mine)));
  std::ranges::sort(all);
  return std::ranges::adjacent_find(all) != all.end();
}

MachineMemory::MachineMemory(Communicator& ranks)
    : here_(ranks.regroup(ranks_here(ranks).front(), ranks.rank())) {}

bool MachineMemory::hold(std::span<std::byte> memory) {
  is_one_ = false;
  if (!kernels::has_own_pages(memory.size())) return true;
  std::optional<kernels::SharedPages> pages;
  kernels::SharedPages::Name name;
  if (here_->root()) {
    pages = if_possible([&] { return kernels::SharedPages(memory.size()); });
    if (pages) name = pages->name();
  }
  here_->broadcast(std::as_writable_bytes(std::span(&name, 1)), 0);
  if (!here_->root()) pages = if_possible([&] { return kernels::SharedPages(name); });
  std::array<double, 1> lacking{pages ? 0.0 : 1.0};
  here_->all_reduce_max(lacking);  // and the first keeps its own until all have opened them
  if (lacking[0] > 0 || here_->size() == 1) return true;
  pages->put_in_place_of(memory);
  is_one_ = true;
  return here_->root();
}

void MachineMemory::filled(std::span<std::byte> memory) {
  here_->barrier();
  if (is_one_) kernels::make_read_only(memory);
}

}  // namespace infalign::distributed
