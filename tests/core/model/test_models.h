// Models for tests: tiny ones with random weights, and those of the shared test data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/model/model_config.h"
#include "core/model/transformer.h"
#include "support/tiny_safetensors.h"

namespace infalign::model::testing {

using Tokens = std::vector<std::int32_t>;

inline Tokens joined(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// A model with its weights.
struct Model {
  Transformer transformer;
  std::vector<float> parameters;

  /// The parameters as they are now, ready for every pass.
  Weights weights(kernels::Precision precision = kernels::Precision::kFloat32) const {
    return transformer.prepare({}, parameters, kernels::Use::kTraining, precision);
  }
};

/// Two layers in which every size differs from every other, and head_dim from hidden_size / heads.
inline ModelConfig tiny_config() {
  ModelConfig config;
  config.vocab_size = 13;
  config.hidden_size = 8;
  config.intermediate_size = 10;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 6;
  config.max_positions = 32;
  return config;
}

/// The same as a reward model.
inline ModelConfig with_score_head(ModelConfig config) {
  config.score_head = true;
  config.tie_word_embeddings = false;
  return config;
}

inline std::vector<float> normal_values(std::int64_t size, unsigned seed, float deviation) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values;
  for (std::int64_t i = 0; i < size; ++i) values.push_back(normal(generator));
  return values;
}

/// Weights far from the start of training: deviation 0.4 about 0, norms about what changes no scale, so that
/// every term counts.
inline Model random_model(const ModelConfig& config, unsigned seed) {
  Model model{Transformer(config), {}};
  const ParameterLayout& layout = model.transformer.layout();
  model.parameters = normal_values(layout.size(), seed, 0.4f);
  for (const ParameterView& view : layout.views()) {
    if (view.role == Role::kHeadNormWeight ||
        (view.role == Role::kNormWeight && config.norm != Norm::kRmsPlusOne))
      for (std::int64_t i = 0; i < view.size; ++i)
        model.parameters[static_cast<std::size_t>(view.offset + i)] += 1.0f;
  }
  return model;
}

/// The model of a Hugging Face folder with one float32 file.
inline Model load_model(const std::filesystem::path& folder) {
  const auto path = folder / "config.json";
  Model model{Transformer(ModelConfig::from_json(infalign::read_json(path), path.string())), {}};
  const auto tensors = infalign::read_safetensors(folder / "model.safetensors");
  for (const ParameterView& view : model.transformer.layout().views()) {
    const infalign::TinyTensor& tensor = tensors.at(view.name);
    if (tensor.shape != view.shape)
      throw std::runtime_error(view.name + ": the shape differs from the file's");
    model.parameters.insert(model.parameters.end(), tensor.values.begin(), tensor.values.end());
  }
  return model;
}

}  // namespace infalign::model::testing
