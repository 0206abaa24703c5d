// The ranks of one machine: which they are, and memory that they hold once among them.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "distributed/communicator.h"

namespace infalign::distributed {

/// The number of ranks before this one on the same machine: which GPU is this rank's. A collective.
int rank_on_machine(Communicator& ranks);

/// Whether two ranks on one machine give the same name. A collective.
bool same_on_a_machine(Communicator& ranks, const std::string& name);

/// What the ranks of a machine would each hold alike, such as weights that are never trained, held once among
/// those of each machine. One of them fills it, and then all read it where they would have read their own.
class MachineMemory {
 public:
  /// Both calls below are collectives of all of `ranks`, which has to outlive this. A collective itself.
  explicit MachineMemory(Communicator& ranks);

  /// Has the ranks of each machine hold `memory`, from allocate_zeroed and untouched, as one. Returns whether
  /// this rank is the one to fill it. Where that cannot be, as where it is too small for pages of its own,
  /// every rank is.
  bool hold(std::span<std::byte> memory);
  /// What the last hold() was given is filled, on all ranks; what is one is only to be read from here on.
  void filled(std::span<std::byte> memory);

 private:
  std::unique_ptr<Communicator> here_;
  bool is_one_ = false;  // of what hold() was given last
};

}  // namespace infalign::distributed
