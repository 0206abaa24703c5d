// What a long run stands on, looked at before it begins, on all ranks: the same program everywhere, the
// processors, how fast ranks exchange and the disk takes what they write, clocks, and whether `output` is one
// folder that all can write to.
#pragma once

#include <filesystem>
#include <string>

#include "core/json/json.h"
#include "distributed/communicator.h"

namespace infalign::stages {

struct DoctorOptions {
  std::filesystem::path output;  // made where it is not there
  std::string version;           // of the program, with its revision
  std::int64_t threads = 1;      // of each rank
  std::int64_t disk_bytes = 0;   // what the run will leave in `output`; 0: not known
};

/// The same on all ranks: `ranks`, an object for each with `rank`, `host`, `version`, `processor`, `cores`,
/// `threads`, `clock_skew` (seconds against rank 0), `write_megabytes_per_second`, `free_bytes`; `all_reduce`
/// with `bytes`, `gigabytes_per_second` (that each rank moves: 2 (R - 1) / R of the data) and
/// `latency_microseconds`; `problems`, a sentence for each thing that is wrong. Collective.
OrderedJson examine(distributed::Communicator& ranks, const DoctorOptions& options);

/// For people.
std::string doctor_table(const OrderedJson& findings);

/// The problems that follow from what the ranks say of themselves.
std::vector<std::string> problems_of(const OrderedJson& ranks, std::int64_t disk_bytes);

}  // namespace infalign::stages
