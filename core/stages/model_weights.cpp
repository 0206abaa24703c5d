#include "core/stages/model_weights.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/model/families.h"

namespace infalign::stages {
namespace {

constexpr const char* kScore = "score.weight";
constexpr const char* kHead = "lm_head.weight";
// Ends of names of what older models carry beside their weights and that says nothing: rotary tables, and
// GPT-2's causal masks (of which one is called a bias).
constexpr const char* kIgnoredTensors[] = {"rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"};

bool ignored(const std::string& tensor) {
  return std::any_of(std::begin(kIgnoredTensors), std::end(kIgnoredTensors),
                     [&](const char* suffix) { return tensor.ends_with(suffix); });
}

/// The tensor's name in the file: ours, or without the prefix that older files of its family leave out.
std::string name_in_file(const storage::SafetensorsReader& reader, const model::Transformer& transformer,
                         const std::string& name) {
  const auto prefix = model::traits_of(transformer.config().family).names.surplus_prefix;
  const bool older = !prefix.empty() && name.starts_with(prefix) && !reader.tensors().contains(name);
  return older ? name.substr(prefix.size()) : name;
}

/// to [columns, rows] = from [rows, columns].
void transpose(std::int64_t rows, std::int64_t columns, const float* from, float* to) {
  constexpr std::int64_t kBlock = 32;
  for (std::int64_t i0 = 0; i0 < rows; i0 += kBlock)
    for (std::int64_t j0 = 0; j0 < columns; j0 += kBlock)
      for (std::int64_t i = i0; i < std::min(rows, i0 + kBlock); ++i)
        for (std::int64_t j = j0; j < std::min(columns, j0 + kBlock); ++j)
          to[j * rows + i] = from[i * columns + j];
}

std::vector<std::int64_t> shape_in_file(const model::ParameterView& view) {
  return view.transposed ? std::vector{view.shape[1], view.shape[0]} : view.shape;
}

void read_tensor(const storage::SafetensorsReader& reader, const std::string& name,
                 const model::ParameterView& view, std::span<float> values) {
  const auto shape = shape_in_file(view);
  if (!view.transposed) return reader.read(name, shape, values);
  std::vector<float> in_file(values.size());
  reader.read(name, shape, in_file);
  transpose(shape[0], shape[1], in_file.data(), values.data());
}

bool is_left_out(const model::ParameterView& view, const std::optional<distributed::Interval>& part) {
  return part && (view.offset >= part->end || view.offset + view.size <= part->begin);
}

/// The narrowest of the formats that holds values of both exactly.
storage::DataType common_type(storage::DataType a, storage::DataType b) {
  return a == b ? a : storage::DataType::kFloat32;
}

/// Whether a tensor belongs to a layer of the backbone above those that the transformer has.
bool is_above(const std::string& name, const model::Transformer& transformer) {
  const auto& names = model::traits_of(transformer.config().family).names;
  std::string prefix(names.layers);
  if (!name.starts_with(prefix)) prefix.erase(0, names.surplus_prefix.size());
  return name.starts_with(prefix) && std::atoll(name.c_str() + prefix.size()) >= transformer.config().layers;
}

/// Calls read(reader, name in the file, view) for every tensor, and returns the type that holds all of them.
template <class Read>
storage::DataType read_each(const std::filesystem::path& folder, const model::Transformer& transformer,
                            Require require, Read&& read) {
  const auto reader = storage::SafetensorsReader::open_folder(folder);
  const bool backbone = require == Require::kAllButScore;
  const auto& views = transformer.layout().views();
  std::set<std::string> known;
  for (const auto& view : views) known.insert(name_in_file(reader, transformer, view.name));
  const bool spare_head = backbone || !known.contains(kHead);
  std::optional<storage::DataType> type;
  for (const auto& view : views) {
    const std::string name = name_in_file(reader, transformer, view.name);
    if (backbone && name == kScore && !reader.tensors().contains(kScore)) continue;
    read(reader, name, view);
    const auto stored = reader.tensors().at(name).type;
    type = type ? common_type(*type, stored) : stored;
  }
  for (const auto& [name, tensor] : reader.tensors()) {
    if (known.contains(name) || ignored(name) || (name == kHead && spare_head)) continue;
    if (backbone && is_above(name, transformer)) continue;
    throw InputError(folder.string() + ": surplus tensor " + name + " that this architecture does not have");
  }
  return type.value_or(storage::DataType::kFloat32);
}

}  // namespace

storage::DataType read_weights(const std::filesystem::path& folder, const model::Transformer& transformer,
                               Require require, std::span<float> parameters,
                               std::optional<distributed::Interval> part) {
  return read_each(folder, transformer, require, [&](const auto& reader, const auto& name, const auto& view) {
    if (is_left_out(view, part)) return reader.require(name, shape_in_file(view));
    read_tensor(
        reader, name, view,
        parameters.subspan(static_cast<std::size_t>(view.offset), static_cast<std::size_t>(view.size)));
  });
}

storage::DataType read_weights(const std::filesystem::path& folder, const model::Transformer& transformer,
                               Require require, model::NarrowParameters& parameters,
                               std::optional<distributed::Interval> part) {
  return read_each(folder, transformer, require, [&](const auto& reader, const auto& name, const auto& view) {
    const auto size = static_cast<std::size_t>(view.size);
    if (!model::NarrowParameters::is_narrow(view))
      return read_tensor(reader, name, view, std::span(parameters.vector(view.offset), size));
    if (is_left_out(view, part)) return reader.require(name, shape_in_file(view));
    if (!view.transposed)
      return reader.read(name, view.shape, std::span(parameters.matrix(view.offset), size));
    std::vector<float> values(size);
    read_tensor(reader, name, view, values);
    parameters.set({}, view, values);
  });
}

ValuesOf values_in(std::span<const float> parameters) {
  return [parameters](const model::ParameterView& view) {
    return parameters.subspan(static_cast<std::size_t>(view.offset), static_cast<std::size_t>(view.size));
  };
}

void write_weights(const std::filesystem::path& file, const model::Transformer& transformer,
                   const ValuesOf& values_of, storage::DataType type) {
  const auto& views = transformer.layout().views();
  std::vector<storage::TensorToCome> tensors;
  for (const auto& view : views) tensors.push_back({view.name, shape_in_file(view)});
  std::vector<float> transposed;
  storage::write_safetensors(file, tensors, type, [&](std::size_t i) {
    const auto& view = views[i];
    const auto values = values_of(view);
    if (!view.transposed) return values;
    transposed.resize(values.size());
    transpose(view.shape[0], view.shape[1], values.data(), transposed.data());
    return std::span<const float>(transposed);
  });
}

}  // namespace infalign::stages
