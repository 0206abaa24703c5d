// Hugging Face model folders in and out: weights into the flat buffer and back, everything else carried
// through unchanged.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/model/transformer.h"
#include "core/stages/model_weights.h"
#include "core/stages/parameter_shards.h"
#include "core/storage/checkpoint.h"
#include "core/storage/safetensors.h"
#include "core/text/tokenizer.h"
#include "distributed/communicator.h"
#include "distributed/gradient_sum.h"

namespace infalign::stages {

/// A model folder in memory: in the CPU's as it is read, or on the device that it was moved to.
struct ModelFolder {
  std::filesystem::path path;
  model::Transformer transformer;
  kernels::Buffer<float> parameters;  // [transformer.layout().size()]; none where they are sharded
  text::Tokenizer tokenizer;
  storage::DataType data_type = storage::DataType::kFloat32;  // in which the files store the weights
  model::NarrowParameters narrow = {};  // in the place of `parameters` where they are held in bfloat16
  // Where they are sharded, this rank's interval of them (of matrices in bfloat16, or of all in float32), and
  // how the rest is gathered; else empty.
  model::Gathering gathering = {};
  distributed::Interval held = {};

  /// The model of a folder, or an adapter's with the adapter added; with `adapter`, a folder too, that is
  /// added. With `shards` it is divided among their ranks, and loading it is collective; of a model's files
  /// a rank then reads its own part alone, where an adapter is added all of it first. Errors: InputError
  /// naming the file for anything missing, surplus, of wrong shape or not supported.
  static ModelFolder load(const std::filesystem::path& path, const std::filesystem::path& adapter = {},
                          ParameterShards* shards = nullptr) {
    return load(path, adapter, Holders{shards});
  }

  /// The same of a model that is never trained, whose weights are held in `stored`. A model's files go to
  /// bfloat16 without a copy of the whole; an adapter is added in float32 first. They end on the device of
  /// `on`. Collective where there are holders.
  static ModelFolder load_frozen(const std::filesystem::path& path, kernels::Precision stored,
                                 const std::filesystem::path& adapter = {}, const Holders& holders = {},
                                 const kernels::Stream& on = {});

  /// Brings the weights from the CPU to the device of `on`; what is sharded is there from the beginning.
  void move_to(const kernels::Stream& on);

  /// The folder's configuration and tokenizer with weights drawn anew; it need not hold any.
  static ModelFolder fresh(const std::filesystem::path& path, std::uint64_t seed,
                           ParameterShards* shards = nullptr);

  /// Gives the weights back; what is left is what the folder says beside them.
  void give_back() {
    parameters = {};
    narrow = {};
    gathering = {};
  }

  bool is_sharded() const { return gathering.source != nullptr; }
  /// What this rank holds, all where they are not sharded.
  model::ParameterRange part() const {
    return is_sharded() ? model::ParameterRange{held.begin, held.size()}
                        : model::ParameterRange{0, transformer.layout().size()};
  }
  /// Its values [part().size] of float32 parameters.
  std::span<float> own() { return is_sharded() ? gathering.own<float>() : parameters.span(); }
  std::span<const float> own() const { return is_sharded() ? gathering.own<float>() : parameters.span(); }
  /// Weights for passes, in whichever way they are held.
  model::Weights prepare(const kernels::Stream& on, kernels::Use use, kernels::Precision precision) const;
  /// The same into `weights`, whose memory is used again.
  void prepare(const kernels::Stream& on, kernels::Use use, kernels::Precision precision,
               model::Weights& weights) const;
  /// Adds an adapter to what is held of float32 parameters.
  void merge(const kernels::Stream& on, const model::AdapterLayout& adapter, std::span<const float> values);
  /// What is held of the parameters, as float32, to `to` [part().size], or an interval of it.
  void copy_to(const kernels::Stream& on, std::span<float> to) const {
    copy_to(on, {part().offset, part().offset + part().size}, to);
  }
  void copy_to(const kernels::Stream& on, distributed::Interval interval, std::span<float> to) const;
  /// All parameters, gathered where they are sharded, into memory of the device.
  void gather_to(const kernels::Stream& on, std::span<float> all) const;
  /// The values of float32 parameters one tensor after another, whoever holds them, for the CPU.
  ValuesOf values(const kernels::Stream& on) const;

 private:
  static ModelFolder load(const std::filesystem::path& path, const std::filesystem::path& adapter,
                          const Holders& holders);
  friend ModelFolder load_as_reward_model(const std::filesystem::path&, std::uint64_t, std::int64_t,
                                          ParameterShards*);
  /// Divides what was loaded: brings this rank's own part to where all ranks read it, and leaves the rest.
  /// Collective.
  void shard(ParameterShards* shards);
};

/// The model that a folder's config.json describes, or that of an adapter, or the first `layers` of it (0:
/// all); the weights are not read. Errors: InputError, also where there are not so many layers.
model::ModelConfig read_model_config(const std::filesystem::path& folder, std::int64_t layers = 0);

/// What a reward model grown from this backbone looks like.
model::ModelConfig as_reward_model(model::ModelConfig backbone);

/// A backbone, or the first `layers` of it (0: all), with a fresh score head (weights from `seed`), ready to
/// become a reward model. A folder that has a score head keeps it.
ModelFolder load_as_reward_model(const std::filesystem::path& backbone, std::uint64_t seed,
                                 std::int64_t layers = 0, ParameterShards* shards = nullptr);

/// Writes weights into `target`, a model folder like `folder` (an adapter's base, where that is one): every
/// file of it but its weights is copied as it is; for a reward model made of a language model, config.json is
/// rewritten to say so: one label, as many layers as it has, and as pad_token_id, where it names none, the
/// tokenizer's padding token or else the one that ends a sequence. `parameters` are in the CPU's memory;
/// `read_at` as write_read_at() takes it. `target` is complete or absent.
void save_model_folder(const std::filesystem::path& folder, const std::filesystem::path& target,
                       const model::Transformer& transformer, const ValuesOf& values_of,
                       storage::DataType data_type, const std::string& read_at = "as_saved");

/// A hash of what makes the folder behave as it does: configuration, tokenizer, weights.
std::string fingerprint_folder(const std::filesystem::path& path);

/// The layout in the terms of storage and of distributed.
std::vector<storage::TensorPlace> tensor_places(const std::vector<model::ParameterView>& views);
std::vector<distributed::Interval> decayed_intervals(const std::vector<storage::TensorPlace>& tensors);
/// The parts in which a backward pass computes the gradient of all parameters: what lies under the layers,
/// which take turns in two slots, each layer, and what stands on them.
std::vector<distributed::GradientPart> gradient_parts(const model::ParameterLayout& layout);

}  // namespace infalign::stages
