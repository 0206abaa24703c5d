#include "core/stages/trainee.h"

#include <stdexcept>

#include "core/error.h"
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

Trainee::Trainee(const std::string& path, const kernels::Stream& on, ModelFolder& folder,
                 const experiment::Lora& lora, std::uint64_t seed, kernels::Precision precision)
    : on_(on),
      folder_(folder),
      precision_(precision),
      adapter_(make_adapter(path, folder.transformer.config(), lora)) {
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

std::span<float> Trainee::parameters() { return adapter_ ? values_.span() : folder_.own(); }

const model::Weights& Trainee::prepare() {
  if (adapter_)
    weights_.adapt(on_, base_, *adapter_, values_.span());
  else
    folder_.prepare(on_, kernels::Use::kTraining, precision_, weights_);
  return weights_;
}

void Trainee::finish() {
  if (adapter_) folder_.merge(on_, *adapter_, values_.span());
  adapter_.reset();
}

}  // namespace infalign::stages
