#include "core/stages/model_folder.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/json/json.h"
#include "core/model/families.h"
#include "core/stages/adapter_folder.h"
#include "core/stages/closing_token.h"
#include "core/stages/model_weights.h"
#include "core/storage/durable.h"
#include "core/storage/json_object.h"

namespace infalign::stages {
namespace {

/// Weights of a model, or of an adapter's base with the adapter added; as read_weights. Of an adapter's, all
/// are read wherever some are.
storage::DataType read_parameters(const std::filesystem::path& folder, const model::Transformer& transformer,
                                  Require require, std::span<float> parameters,
                                  std::optional<distributed::Interval> part = std::nullopt) {
  if (!is_adapter_folder(folder)) return read_weights(folder, transformer, require, parameters, part);
  const auto base = description_folder(folder);
  if (adds_score_head(folder) && !read_model_config(base).score_head) require = Require::kAllButScore;
  if (part && part->size() == 0) return read_weights(base, transformer, require, parameters, part);
  const auto type = read_weights(base, transformer, require, parameters);
  add_adapter(folder, transformer, parameters);
  return type;
}

/// What a rank has to read of a model that is divided among ranks.
std::optional<distributed::Interval> own_part(const ParameterShards* shards,
                                              const model::Transformer& transformer) {
  if (shards == nullptr) return std::nullopt;
  return shards->held(transformer.layout().size());
}

/// Has the ranks of a machine, if they are to, hold `values` once. fill(part) is to read the model: `part` of
/// it, which is nothing of it, but of its description, on ranks that have it from another. Returns what fill
/// does.
template <class T, class Fill>
auto fill_held(const Holders& holders, std::span<T> values, std::optional<distributed::Interval> part,
               Fill&& fill) {
  if (holders.machine == nullptr) return fill(part);
  const auto bytes = std::as_writable_bytes(values);
  const bool is_filler = holders.machine->hold(bytes);
  const auto filled = fill(is_filler ? part : distributed::Interval{});
  holders.machine->filled(bytes);
  return filled;
}

std::optional<model::ParameterRange> range(const std::optional<distributed::Interval>& part) {
  if (!part) return std::nullopt;
  return model::ParameterRange{part->begin, part->size()};
}

/// Makes a configuration that of the first `layers` of its model `whole`.
void keep_layers(Json& config, const model::ModelConfig& whole, std::int64_t layers) {
  config[model::traits_of(whole.family).keys.layers] = layers;
  for (const char* list : {"layer_types", "no_rope_layers"})  // an entry for each layer
    if (config.contains(list) && std::ssize(config[list]) > layers)
      config[list].erase(config[list].begin() + layers, config[list].end());
}

}  // namespace

model::ModelConfig read_model_config(const std::filesystem::path& folder, std::int64_t layers) {
  if (!std::filesystem::is_directory(folder)) throw InputError(folder.string() + ": no such model folder");
  const auto base = description_folder(folder);
  auto json = storage::read_json_object(base / "config.json");
  const auto file = (base / "config.json").string();
  auto config = model::ModelConfig::from_json(json, file);
  if (layers > config.layers)
    throw InputError(file + ": the model has " + std::to_string(config.layers) + " layers, not " +
                     std::to_string(layers));
  if (layers > 0 && layers < config.layers) {
    keep_layers(json, config, layers);
    config = model::ModelConfig::from_json(json, file);
  }
  return is_adapter_folder(folder) && adds_score_head(folder) ? as_reward_model(config) : config;
}

model::ModelConfig as_reward_model(model::ModelConfig backbone) {
  backbone.score_head = true;
  backbone.tie_word_embeddings = false;
  return backbone;
}

void ModelFolder::shard(ParameterShards* shards) {
  if (shards == nullptr) return;
  const std::int64_t size = transformer.layout().size();
  held = shards->held(size);
  const auto divide = [&]<class T>(std::span<const T> all) {
    gathering = shards->hold<T>(size);
    kernels::upload(shards->stream(),
                    all.subspan(static_cast<std::size_t>(held.begin), static_cast<std::size_t>(held.size())),
                    gathering.own<T>().data());
  };
  if (narrow.empty())
    divide(std::as_const(parameters).span());
  else
    divide(std::as_const(narrow).matrices());
  parameters = {};
  narrow.drop_matrices();
  shards->meet();
}

ModelFolder ModelFolder::load(const std::filesystem::path& path, const std::filesystem::path& adapter,
                              const Holders& holders) {
  auto config = read_model_config(path);
  const bool adds_head = !adapter.empty() && is_adapter_folder(adapter) && adds_score_head(adapter);
  const auto require = adds_head && !config.score_head ? Require::kAllButScore : Require::kAll;
  model::Transformer transformer(adds_head ? as_reward_model(config) : config);
  kernels::Buffer<float> parameters(static_cast<std::size_t>(transformer.layout().size()));
  if (!adapter.empty() && !is_adapter_folder(adapter))
    throw InputError(adapter.string() + ": not the folder of an adapter: it has no adapter_config.json");
  const auto own = adapter.empty() ? own_part(holders.shards, transformer) : std::nullopt;
  const auto type = fill_held(holders, parameters.span(), own, [&](const auto& part) {
    const auto stored = read_parameters(path, transformer, require, parameters.span(), part);
    if (!adapter.empty() && !part) add_adapter(adapter, transformer, parameters.span());
    return stored;
  });
  ModelFolder folder{path, std::move(transformer), std::move(parameters),
                     text::Tokenizer::load(description_folder(path)), type};
  folder.shard(holders.shards);
  return folder;
}

void ModelFolder::move_to(const kernels::Stream& on) {
  parameters = kernels::moved_to(on, std::move(parameters));
  narrow.move_to(on);
}

ModelFolder ModelFolder::load_frozen(const std::filesystem::path& path, kernels::Precision stored,
                                     const std::filesystem::path& adapter, const Holders& holders,
                                     const kernels::Stream& on) {
  if (stored == kernels::Precision::kFloat32) {
    auto folder = load(path, adapter, holders);
    folder.move_to(on);
    return folder;
  }
  if (is_adapter_folder(path) || !adapter.empty()) {
    auto folder = load(path, adapter);
    const auto& layout = folder.transformer.layout();
    folder.narrow = model::NarrowParameters(layout);
    for (const auto& view : layout.views())
      folder.narrow.set({}, view,
                        folder.parameters.span().subspan(static_cast<std::size_t>(view.offset),
                                                         static_cast<std::size_t>(view.size)));
    folder.parameters = {};
    folder.shard(holders.shards);
    folder.move_to(on);
    return folder;
  }
  model::Transformer transformer(read_model_config(path));
  model::NarrowParameters narrow(transformer.layout());
  const auto type = fill_held(
      holders, narrow.matrices(), own_part(holders.shards, transformer),
      [&](const auto& part) { return read_weights(path, transformer, Require::kAll, narrow, part); });
  ModelFolder folder{path, std::move(transformer), {}, text::Tokenizer::load(path), type, std::move(narrow)};
  folder.shard(holders.shards);
  folder.move_to(on);
  return folder;
}

model::Weights ModelFolder::prepare(const kernels::Stream& on, kernels::Use use,
                                    kernels::Precision precision) const {
  model::Weights weights;
  prepare(on, use, precision, weights);
  return weights;
}

void ModelFolder::prepare(const kernels::Stream& on, kernels::Use use, kernels::Precision precision,
                          model::Weights& weights) const {
  const auto& layout = transformer.layout();
  const auto& config = transformer.config();
  if (is_sharded() && narrow.empty())
    weights.prepare(on, layout, config, gathering, use, precision);
  else if (is_sharded())
    weights.prepare(on, layout, config, narrow, gathering, use, precision);
  else if (narrow.empty())
    weights.prepare(on, layout, config, parameters.span(), use, precision);
  else
    weights.prepare(on, layout, config, narrow, use, precision);
}

void ModelFolder::merge(const kernels::Stream& on, const model::AdapterLayout& adapter,
                        std::span<const float> values) {
  model::merge(on, transformer.layout(), adapter, values, own(), part());
  if (is_sharded()) on.synchronise();  // before ranks meet
}

void ModelFolder::copy_to(const kernels::Stream& on, distributed::Interval interval,
                          std::span<float> to) const {
  const auto first = static_cast<std::size_t>(interval.begin - part().offset),
             size = static_cast<std::size_t>(interval.size());
  if (narrow.empty()) return kernels::copy(on, interval.size(), own().subspan(first, size).data(), to.data());
  const auto matrices = is_sharded() ? gathering.own<kernels::Bfloat16>() : narrow.matrices();
  narrow.copy_to(on, transformer.layout(), {interval.begin, interval.size()}, matrices.subspan(first, size),
                 to);
}

void ModelFolder::gather_to(const kernels::Stream& on, std::span<float> all) const {
  if (!is_sharded()) return copy_to(on, all);
  const auto& layout = transformer.layout();
  if (narrow.empty()) return gather(gathering, {0, layout.size()}, all);
  kernels::Buffer<kernels::Bfloat16> matrix;  // a tensor at a time
  for (const auto& view : layout.views()) {
    const auto size = static_cast<std::size_t>(view.size);
    if (model::NarrowParameters::is_narrow(view)) {
      matrix.reserve(on, size);
      gather(gathering, {view.offset, view.offset + view.size}, matrix.span().first(size));
    }
    narrow.copy_to(on, view, matrix.span(), all.subspan(static_cast<std::size_t>(view.offset), size));
  }
}

ValuesOf ModelFolder::values(const kernels::Stream& on) const {
  if (!is_sharded() && on.device() == kernels::Device::kCpu) return values_in(parameters.span());
  return [this, on, tensor = std::vector<float>()](const model::ParameterView& view) mutable {
    tensor.resize(static_cast<std::size_t>(view.size));
    if (!is_sharded()) {
      kernels::download(on, parameters.data() + view.offset, std::span(tensor));
    } else {
      kernels::Returned<float> there(on, tensor);
      gather(gathering, {view.offset, view.offset + view.size}, std::span(there.data(), tensor.size()));
      there.fetch();
    }
    return std::span<const float>(tensor);
  };
}

ModelFolder ModelFolder::fresh(const std::filesystem::path& path, std::uint64_t seed,
                               ParameterShards* shards) {
  model::Transformer transformer(read_model_config(path));
  kernels::Buffer<float> parameters(static_cast<std::size_t>(transformer.layout().size()));
  model::initialise(transformer.config(), transformer.layout(), seed, parameters.span(),
                    range(own_part(shards, transformer)));
  ModelFolder folder{path, std::move(transformer), std::move(parameters),
                     text::Tokenizer::load(description_folder(path))};
  folder.shard(shards);
  return folder;
}

ModelFolder load_as_reward_model(const std::filesystem::path& backbone, std::uint64_t seed,
                                 std::int64_t layers, ParameterShards* shards) {
  const auto config = as_reward_model(read_model_config(backbone, layers));
  model::Transformer transformer(config);
  kernels::Buffer<float> parameters(static_cast<std::size_t>(transformer.layout().size()));
  const auto part = own_part(shards, transformer);
  model::initialise(config, transformer.layout(), seed, parameters.span(), range(part));
  const auto type = read_parameters(backbone, transformer, Require::kAllButScore, parameters.span(), part);
  ModelFolder folder{backbone, std::move(transformer), std::move(parameters),
                     text::Tokenizer::load(description_folder(backbone)), type};
  folder.shard(shards);
  return folder;
}

void save_model_folder(const std::filesystem::path& folder, const std::filesystem::path& target,
                       const model::Transformer& transformer, const ValuesOf& values_of,
                       storage::DataType data_type, const std::string& read_at) {
  namespace fs = std::filesystem;
  const fs::path source = description_folder(folder);
  const fs::path temporary = target.string() + ".tmp";
  fs::remove_all(temporary);
  fs::create_directories(temporary);
  for (const auto& entry : fs::directory_iterator(source)) {
    const auto name = entry.path().filename().string();
    if (!entry.is_regular_file() || name.ends_with(".safetensors") || name == "model.safetensors.index.json")
      continue;
    fs::copy_file(entry.path(), temporary / name);
  }
  auto config = storage::read_json_object(source / "config.json");
  const std::string reward_model(model::traits_of(transformer.config().family).reward_model);
  const bool becomes_reward_model =
      transformer.config().score_head && config["architectures"] != Json{reward_model};
  if (becomes_reward_model) {
    config["architectures"] = {reward_model};
    if (const auto whole = read_model_config(source); whole.layers != transformer.config().layers)
      keep_layers(config, whole, transformer.config().layers);
    config["num_labels"] = 1;
    config["id2label"] = {{"0", "LABEL_0"}};
    config["label2id"] = {{"LABEL_0", 0}};
    config["tie_word_embeddings"] = false;
    // transformers reads the reward at the last token that is not this one: without it a batch is refused,
    // and with another than the tokenizer pads with, the reward is that of the padding.
    const auto special = text::Tokenizer::load(source).special();
    const bool names_padding = config.contains("pad_token_id") && !config["pad_token_id"].is_null();
    if (const auto padding = special.pad ? special.pad : special.eos; padding && !names_padding)
      config["pad_token_id"] = *padding;
    storage::write_file_durably(temporary / "config.json", json_text(config, 2) + "\n");
    fs::remove(temporary / "generation_config.json");
  }
  write_read_at(temporary, read_at);
  write_weights(temporary / "model.safetensors", transformer, values_of, data_type);
  for (const auto& entry : fs::directory_iterator(temporary)) storage::sync_path(entry.path());
  fs::remove_all(target);
  storage::rename_durably(temporary, target);
}

std::string fingerprint_folder(const std::filesystem::path& path) {
  std::set<std::filesystem::path> files;
  if (!std::filesystem::is_directory(path)) throw InputError(path.string() + ": no such model folder");
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const auto extension = entry.path().extension();
    if (entry.is_regular_file() && (extension == ".json" || extension == ".safetensors"))
      files.insert(entry.path());
  }
  storage::Fingerprint fingerprint;
  for (const auto& file : files) fingerprint.add(file.filename().string()).add_file(file);
  if (is_adapter_folder(path)) fingerprint.add(fingerprint_folder(description_folder(path)));
  return fingerprint.hex();
}

std::vector<storage::TensorPlace> tensor_places(const std::vector<model::ParameterView>& views) {
  std::vector<storage::TensorPlace> places;
  for (const auto& view : views) places.push_back({view.name, view.shape, view.offset, view.size});
  return places;
}

std::vector<distributed::GradientPart> gradient_parts(const model::ParameterLayout& layout) {
  const auto begin_of = [&](std::int64_t i) {
    return i < layout.layers() ? layout.layer(i).input_norm.weight : layout.final_norm().weight;
  };
  // A head that is the embedding has its gradient from the pass's beginning to its end.
  const std::size_t under = 2, above = layout.head() == layout.embedding() ? 3 : under;
  std::vector<distributed::GradientPart> parts = {{{0, begin_of(0)}, under}};
  for (std::int64_t i = 0; i < layout.layers(); ++i)
    parts.push_back({{begin_of(i), begin_of(i + 1)}, static_cast<std::size_t>(i % 2)});
  parts.push_back({{begin_of(layout.layers()), layout.size()}, above});
  return parts;
}

std::vector<distributed::Interval> decayed_intervals(const std::vector<storage::TensorPlace>& tensors) {
  std::vector<distributed::Interval> intervals;
  for (const auto& tensor : tensors)
    if (tensor.shape.size() >= 2) intervals.push_back({tensor.offset, tensor.offset + tensor.size});
  return intervals;
}

}  // namespace infalign::stages
