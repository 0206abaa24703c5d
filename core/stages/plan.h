// What a run would take, told before it starts: sizes of the models, work of each stage, memory per rank,
// disk, floating-point operations. Prompts and preferences are read and tokenized as the run will read them,
// and the order of training is replayed, so that the largest micro-batch is the run's own; of the models only
// config.json is read. The sizes of buffers are told by the classes that own them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/experiment/experiment.h"
#include "core/json/forward.h"
#include "core/model/model_config.h"
#include "kernels/device.h"
#include "kernels/precision.h"

namespace infalign::stages {

struct ModelSizes {
  std::string role;                    // policy | reward | judge | reranker, numbered where there are several
  std::filesystem::path described_by;  // the folder whose config.json was read
  bool made_by_run = false;            // by an earlier stage, which starts from that folder
  model::ModelConfig config;
  std::int64_t parameters = 0;
};

/// A stage, or a part of one, as the ranks share it.
struct StageWork {
  std::string stage;
  std::string item;                // what is worked on: prompts | pairs | sequences
  std::int64_t runs = 1;           // of variants or policies, one after the other
  std::int64_t steps = 1;          // of a run
  std::int64_t items = 0;          // of a step
  std::int64_t samples = 0;        // of a step
  std::int64_t micro_batches = 0;  // of a step; ranks take whole ones
  double tokens = 0;               // of all runs and steps, prompts and responses, at most
  double operations = 0;           // floating-point, of all runs and steps, at most

  /// How often a rank has to work through a micro-batch, as a share of all of them: 1 / ranks where they
  /// divide evenly.
  double share(int ranks) const;
};

/// The numbers of ranks among which micro-batches divide evenly, ascending.
std::vector<std::int64_t> even_shares(std::int64_t micro_batches);

struct Size {
  std::string what;
  std::int64_t bytes = 0;
};
std::int64_t sum(const std::vector<Size>& sizes);

/// Of one rank.
struct StageMemory {
  std::string stage;
  std::vector<Size> parts;   // where it computes
  std::vector<Size> on_cpu;  // besides, where that is a GPU
};

struct Plan {
  int ranks = 1;
  kernels::Device device = kernels::Device::kCpu;
  std::vector<ModelSizes> models;
  std::vector<StageWork> work;
  std::vector<StageMemory> memory;  // what a rank allocates for models and micro-batches
  std::vector<Size> disk;           // when all stages are done
  std::vector<std::string> notes;   // prompts and pairs that are left out or cut, and why
  kernels::Precision precision = kernels::Precision::kFloat32;  // of products
  std::int64_t micro_batch_tokens = 1;  // of the largest one of the last stage that trains

  /// The stage with the most memory where it computes; nullptr where no stage holds a model.
  const StageMemory* largest() const;
};

/// Errors: InputError for a model description, prompts or preferences that the run would refuse.
Plan make_plan(const experiment::Experiment& experiment, int ranks);

/// What the plan alone cannot tell: the machine.
struct Host {
  double operations_per_second = 0;  // 0: not known
  bool measured = true;              // rather than told
  std::int64_t program_bytes = 0;    // libraries, generated code, tokenizers, data: the most this process had
  std::int64_t mpi_bytes = 0;        // what MPI adds where there are several ranks
  /// Of the CPU's memory.
  std::int64_t peak(const Plan& plan) const;
};

/// `gflops`: the speed, when it is known better than by a measurement here, which is made for the CPU alone.
/// To be called after make_plan, since it reports the memory that reading the same data took.
Host measure_host(const Plan& plan, std::optional<double> gflops);

/// For people: lines that each begin with '#', so that they may stand below a YAML file.
std::string plan_comments(const experiment::Experiment& experiment, const Plan& plan, const Host& host);

/// One object: configuration, models, work, memory, disk, cost.
OrderedJson plan_json(const experiment::Experiment& experiment, const Plan& plan, const Host& host);

}  // namespace infalign::stages
