#include "core/stages/trainee.h"

#include <stdexcept>

#include "core/error.h"
#include "core/stages/precision.h"
#include "core/stages/training.h"

namespace infalign::stages {

std::optional<model::AdapterLayout> make_adapter(const std::string& path, const model::ModelConfig& config,
                                                 const experiment::Lora& lora) try {
  if (!lora.enabled()) return std::nullopt;
  const double alpha = lora.alpha.value_or(2 * static_cast<double>(lora.rank));
  return model::AdapterLayout(config, {lora.rank, static_cast<float>(alpha), lora.targets});
} catch (const std::invalid_argument& error) {
  throw ConfigurationError(path + ".targets: " + error.what());
}

std::string to_text(const experiment::Lora& lora) {
  if (!lora.enabled()) return "";
  std::string text = "lora";
  for (const auto& target : lora.targets) text += " " + target;
  return text + " " + to_text(std::vector{static_cast<double>(lora.rank), lora.alpha.value_or(0)});
}

Trainee::Trainee(const Run& run, const std::string& path, ModelFolder& folder, const experiment::Lora& lora,
                 std::uint64_t seed, ParameterShards* shards)
    : on_(run.on),
      folder_(folder),
      precision_(precision(run.experiment)),
      adapter_(make_adapter(path, folder.transformer.config(), lora)),
      rounding_seed_(rounding_seed(run.experiment)),
      is_sharded_(folder.is_sharded() && !adapter_) {
  if (!adapter_ && stored_in(run.experiment.memory.policy) == kernels::Precision::kBfloat16) {
    narrow_.emplace(on_, folder_.transformer, shards);
    return;
  }
  folder_.move_to(on_);
  if (!adapter_) return;
  const auto& layout = folder_.transformer.layout();
  const auto values_of = folder_.values(on_);
  const auto score = layout.score() >= 0 ? values_of(layout.views().back()) : std::span<const float>();
  kernels::Buffer<float> values(static_cast<std::size_t>(adapter_->size()));
  model::initialise(*adapter_, seed, score, values.span());
  values_ = kernels::moved_to(on_, std::move(values));
  base_ = folder_.prepare(on_, kernels::Use::kTraining, precision_);
}

std::vector<storage::TensorPlace> Trainee::tensors() const {
  return tensor_places(adapter_ ? adapter_->views() : folder_.transformer.layout().views());
}

std::vector<distributed::GradientPart> Trainee::gradient_parts() const {
  if (adapter_) return {};
  return stages::gradient_parts(folder_.transformer.layout());
}

Trainable Trainee::trainable() {
  if (!narrow_) return {adapter_ ? values_.span() : folder_.own()};
  const auto start = [this](distributed::Interval interval, std::span<float> to) {
    const auto from = std::as_const(folder_).own().subspan(
        static_cast<std::size_t>(interval.begin - folder_.part().offset), to.size());
    if (is_sharded_)
      kernels::copy(on_, interval.size(), from.data(), to.data());
    else
      kernels::upload(on_, from, to.data());
    on_.synchronise();
    folder_.give_back();  // nobody reads it from here on
  };
  return {{}, narrow_->copy(rounding_seed_), start};
}

const model::Weights& Trainee::prepare() {
  if (narrow_)
    narrow_->prepare(precision_, weights_);
  else if (adapter_)
    weights_.adapt(on_, base_, *adapter_, values_.span());
  else
    folder_.prepare(on_, kernels::Use::kTraining, precision_, weights_);
  return weights_;
}

ValuesOf Trainee::finish(const std::filesystem::path& checkpoints) {
  if (!narrow_) {
    if (adapter_) folder_.merge(on_, *adapter_, values_.span());
    adapter_.reset();
    return folder_.values(on_);
  }
  return [tensors = tensors(), checkpoints,
          values = std::vector<float>()](const model::ParameterView& view) mutable {
    values.resize(static_cast<std::size_t>(view.size));
    const storage::CheckpointReader reader(storage::list_checkpoints(checkpoints).back());
    reader.read("model", tensors, {view.offset, view.offset + view.size}, values);
    return std::span<const float>(values);
  };
}

}  // namespace infalign::stages
