#include "core/model/adapter.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "core/model/families.h"
#include "kernels/random/philox.h"

namespace infalign::model {
namespace {

constexpr const char* kAllLinear = "all-linear";

/// PEFT's rule: the whole name, or its end after a dot.
bool is_named(const std::string& module, const std::string& target) {
  return target == kAllLinear || module == target || module.ends_with("." + target);
}

/// Last names, each once: "q_proj, k_proj, ...".
std::string last_names(const std::vector<std::string>& modules) {
  std::vector<std::string> names;
  std::string text;
  for (const std::string& module : modules) {
    const std::string name = module.substr(module.rfind('.') + 1);
    if (std::ranges::count(names, name) > 0) continue;
    names.push_back(name);
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

}  // namespace

std::vector<std::string> adaptable_modules(const ModelConfig& config) {
  std::vector<std::string> names;
  for (const Matrix which : kMatrices)
    for (const auto& module : parts_of(config, which).modules) names.push_back(module.name);
  return names;
}

std::int64_t AdapterLayout::add(std::string name, std::vector<std::int64_t> shape) {
  const std::int64_t offset = size_, size = shape[0] * shape[1];
  views_.push_back({"base_model.model." + std::move(name) + ".weight", std::move(shape), offset, size});
  size_ += size;
  return offset;
}

AdapterLayout::AdapterLayout(const ModelConfig& config, AdapterSettings settings)
    : settings_(std::move(settings)) {
  const std::vector<std::string> all = adaptable_modules(config);
  for (const std::string& target : settings_.targets)
    if (std::ranges::none_of(all, [&](const std::string& module) { return is_named(module, target); }))
      throw std::invalid_argument("no module of this model is called " + target + "; there are " +
                                  last_names(all) + ", and " + kAllLinear + " for all of them");
  const auto chosen = [&](const std::string& module) {
    return std::ranges::any_of(settings_.targets,
                               [&](const std::string& target) { return is_named(module, target); });
  };
  std::ranges::copy_if(all, std::back_inserter(modules_), chosen);

  const std::int64_t rank = settings_.rank;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = std::string(traits_of(config.family).names.layers) + std::to_string(i) + ".";
    OfEachMatrix<Update>& layer = updates_.emplace_back();
    for (const Matrix which : kMatrices) {
      const MatrixParts parts = parts_of(config, which);
      Update& update = layer[which];
      update.n = parts.rows();
      update.k = parts.in;
      update.a = size_;
      std::int64_t first = 0;
      for (const auto& [name, rows] : parts.modules) {
        if (chosen(name)) {
          add(prefix + name + ".lora_A", {rank, parts.in});
          update.parts.push_back({first, rows});
        }
        first += rows;
      }
      update.b = size_;
      for (const auto& [name, rows] : parts.modules)
        if (chosen(name)) add(prefix + name + ".lora_B", {rows, rank});
    }
  }
  if (config.score_head) score_ = add("score", {1, config.hidden_size});
}

void AdapterLayout::prepare(const kernels::Stream& on, std::int64_t layer, Matrix which,
                            std::span<const float> adapter, kernels::LowRank& prepared) const {
  const Update& at = update(layer, which);
  prepared.prepare(on, at.n, at.k, settings_.rank, scale(), at.parts, adapter.data() + at.a,
                   adapter.data() + at.b);
}

std::int64_t AdapterLayout::prepared_bytes(kernels::Device device) const {
  std::int64_t bytes = 0;
  for (const auto& layer : updates_)
    for (const Update& update : layer) {
      std::int64_t rows = 0;
      for (const auto& part : update.parts) rows += part.rows;
      if (rows > 0)
        bytes += kernels::LowRank::bytes(update.k, settings_.rank, std::ssize(update.parts), rows, device);
    }
  return bytes;
}

void initialise(const AdapterLayout& adapter, std::uint64_t seed, std::span<const float> score,
                std::span<float> values) {
  const kernels::RandomKey key{seed, kernels::Purpose::kAdapter};
  std::ranges::fill(values, 0.0f);
  for (const ParameterView& view : adapter.views()) {
    if (!view.name.ends_with(".lora_A.weight")) continue;
    const double bound = 1 / std::sqrt(static_cast<double>(view.shape[1]));
    for (std::int64_t i = view.offset; i < view.offset + view.size; ++i)
      values[static_cast<std::size_t>(i)] = static_cast<float>(
          bound * (2 * kernels::random_uniform(key, static_cast<std::uint64_t>(i), 0, 0) - 1));
  }
  if (adapter.score() != kAbsent) std::ranges::copy(score, values.begin() + adapter.score());
}

void merge(const kernels::Stream& on, const ParameterLayout& layout, const AdapterLayout& adapter,
           std::span<const float> values, std::span<float> parameters, std::optional<ParameterRange> part) {
  const ParameterRange held = part.value_or(ParameterRange{0, layout.size()});
  const auto place_of = [&](std::int64_t offset) { return parameters.data() + (offset - held.offset); };
  kernels::LowRank update;
  kernels::Buffer<float> whole;  // a matrix of which a part is held
  for (std::int64_t i = 0; i < layout.layers(); ++i)
    for (const Matrix which : kMatrices) {
      const auto& [parts, n, k, a, b] = adapter.update(i, which);
      const ParameterRange matrix{layout.layer(i).matrix[which].weight, n * k};
      if (parts.empty() || !held.meets(matrix)) continue;
      adapter.prepare(on, i, which, values, update);
      const auto [offset, size] = held.common(matrix);
      if (size == matrix.size) {
        update.add_to(on, place_of(offset));
        continue;
      }
      whole.reserve(on, static_cast<std::size_t>(matrix.size));
      float* const piece = whole.data() + (offset - matrix.offset);
      kernels::copy<float>(on, size, place_of(offset), piece);
      update.add_to(on, whole.data());
      kernels::copy<float>(on, size, piece, place_of(offset));
    }
  if (adapter.score() == kAbsent) return;
  const ParameterRange score{layout.score(), adapter.size() - adapter.score()};
  if (!held.meets(score)) return;
  const auto [offset, size] = held.common(score);
  kernels::copy(on, size, values.data() + adapter.score() + (offset - score.offset), place_of(offset));
}

}  // namespace infalign::model
