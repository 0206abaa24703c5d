#include "core/stages/adapter_folder.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/json/json.h"
#include "core/model/families.h"
#include "core/storage/durable.h"
#include "core/storage/json_object.h"

namespace infalign::stages {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kWeights = "adapter_model.safetensors";
constexpr const char* kPrefix = "base_model.model.";
constexpr const char* kA = ".lora_A.weight";

bool is_unset(const Json& value) {
  return value.is_null() || value == false || ((value.is_object() || value.is_array()) && value.empty());
}

/// Refuses what would make another function of the same tensors.
void require_plain_lora(const fs::path& file, const Json& config) {
  const auto refuse = [&](const std::string& what) { throw InputError(file.string() + ": " + what); };
  if (config.value("peft_type", Json()) != "LORA")
    refuse("peft_type is " + json_text(config.value("peft_type", Json())) +
           "; read are adapters of type \"LORA\"");
  if (const Json bias = config.value("bias", Json("none")); bias != "none")
    refuse("bias is " + json_text(bias) + "; adapters that train biases are not read");
  // Some ways to begin change the base model's weights, too, and an adapter saved as it is belongs to those.
  static const std::set<Json> kBegins = {true, false, nullptr, "gaussian", "orthogonal", "eva"};
  if (const Json begin = config.value("init_lora_weights", Json(true)); !kBegins.contains(begin))
    refuse("init_lora_weights is " + json_text(begin) +
           ", which changes the base model; convert the adapter to plain LoRA, or merge it with PEFT");
  static const std::set<std::string> kPlain = {"auto_mapping",
                                               "base_model_name_or_path",
                                               "bias",
                                               "corda_config",
                                               "ensure_weight_tying",
                                               "eva_config",
                                               "exclude_modules",
                                               "fan_in_fan_out",
                                               "inference_mode",
                                               "init_lora_weights",
                                               "layers_pattern",
                                               "loftq_config",
                                               "lora_alpha",
                                               "lora_dropout",
                                               "lora_ga_config",
                                               "megatron_config",
                                               "megatron_core",
                                               "modules_to_save",
                                               "peft_type",
                                               "peft_version",
                                               "qalora_group_size",
                                               "r",
                                               "revision",
                                               "runtime_config",
                                               "target_modules",
                                               "task_type",
                                               "use_rslora"};
  for (const auto& [key, value] : config.items())
    if (!kPlain.contains(key) && !is_unset(value))
      refuse(key + " is " + json_text(value) + ", which is not computed; read is LoRA without it");
  for (const char* key : {"r", "lora_alpha"})
    if (!config.contains(key) || !config[key].is_number() || config[key] <= 0)
      refuse(std::string(key) + " is missing or not a number above 0");
  if (!config["r"].is_number_integer() || config["r"] > 1 << 20) refuse("r is not the rank of a matrix");
}

/// "self_attn.q_proj" of "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"; "" of other names.
std::string module_of(const std::string& tensor, const std::string& layers) {
  const std::string prefix = kPrefix + layers;
  if (!tensor.starts_with(prefix) || !tensor.ends_with(kA)) return "";
  const auto after_number = tensor.find('.', prefix.size());
  const auto end = tensor.size() - std::string(kA).size();
  return after_number == std::string::npos || after_number >= end
             ? ""
             : tensor.substr(after_number + 1, end - after_number - 1);
}

}  // namespace

bool is_adapter_folder(const fs::path& folder) {
  if (!fs::exists(folder / kConfig)) return false;
  if (fs::exists(folder / "model.safetensors") || fs::exists(folder / "model.safetensors.index.json"))
    throw InputError(folder.string() + ": holds both a model and an adapter (" + kConfig +
                     "); keep them in folders of their own");
  return true;
}

fs::path description_folder(const fs::path& folder) {
  if (!is_adapter_folder(folder)) return folder;
  const Json name = storage::read_json_object(folder / kConfig).value("base_model_name_or_path", Json());
  const fs::path base = name.is_string() ? name.get<std::string>() : "";
  for (const fs::path& candidate : {base, folder / base})
    if (!base.empty() && fs::exists(candidate / "config.json")) return candidate;
  throw InputError((folder / kConfig).string() + ": base_model_name_or_path is " + json_text(name) +
                   ", which is no model folder here; write its path there, or name the model and give the "
                   "adapter beside it (--adapter)");
}

bool adds_score_head(const fs::path& adapter) {
  return storage::read_json_object(adapter / kConfig).value("task_type", Json()) == "SEQ_CLS";
}

void add_adapter(const fs::path& folder, const model::Transformer& transformer, std::span<float> parameters) {
  const Json config = storage::read_json_object(folder / kConfig);
  require_plain_lora(folder / kConfig, config);
  const auto reader = storage::SafetensorsReader::open_file(folder / kWeights);
  const std::string layers(model::traits_of(transformer.config().family).names.layers);

  model::AdapterSettings settings;
  settings.rank = config["r"];
  settings.alpha = config["lora_alpha"];
  if (!is_unset(config.value("use_rslora", Json())))
    settings.alpha *= std::sqrt(static_cast<float>(settings.rank));  // alpha / sqrt(r) rather than alpha / r
  const auto modules = model::adaptable_modules(transformer.config());
  std::set<std::string> targets;
  for (const auto& [name, tensor] : reader.tensors())
    if (const std::string module = module_of(name, layers); std::ranges::count(modules, module) > 0)
      targets.insert(module);
  settings.targets.assign(targets.begin(), targets.end());
  const model::AdapterLayout layout(transformer.config(), settings);

  std::vector<float> values(static_cast<std::size_t>(layout.size()));
  const auto& own = transformer.layout();
  std::set<std::string> known;
  for (const auto& view : layout.views()) {
    known.insert(view.name);
    const auto place =
        std::span(values).subspan(static_cast<std::size_t>(view.offset), static_cast<std::size_t>(view.size));
    if (view.offset == layout.score() && !reader.tensors().contains(view.name) &&
        !adds_score_head(folder)) {  // an adapter of the base's layers alone
      std::copy(parameters.begin() + own.score(), parameters.end(), place.begin());
      continue;
    }
    reader.read(view.name, view.shape, place);
  }
  for (const auto& [name, tensor] : reader.tensors())
    if (!known.contains(name))
      throw InputError((folder / kWeights).string() + ": tensor " + name +
                       " belongs to no matrix of this model's layers, and is not read");
  model::merge({}, own, layout, values, parameters);
}

void save_adapter_folder(const fs::path& base, const fs::path& target, const model::Transformer& transformer,
                         const model::AdapterLayout& adapter, std::span<const float> values) {
  const fs::path temporary = target.string() + ".tmp";
  fs::remove_all(temporary);
  fs::create_directories(temporary);
  std::vector<storage::NamedTensor> tensors;
  for (const auto& view : adapter.views())
    tensors.push_back(
        {view.name, view.shape,
         values.subspan(static_cast<std::size_t>(view.offset), static_cast<std::size_t>(view.size))});
  storage::write_safetensors(temporary / kWeights, tensors, storage::DataType::kFloat32);

  const bool scores = transformer.config().score_head;
  const auto& settings = adapter.settings();
  // What names several modules in our configuration names the same ones for PEFT, but for all-linear.
  auto targets = settings.targets;
  if (std::ranges::count(targets, "all-linear") > 0) targets = adapter.modules();
  const OrderedJson config{{"peft_type", "LORA"},
                           {"task_type", scores ? "SEQ_CLS" : "CAUSAL_LM"},
                           {"base_model_name_or_path", fs::absolute(base).lexically_normal().string()},
                           {"r", settings.rank},
                           {"lora_alpha", settings.alpha},
                           {"lora_dropout", 0.0},
                           {"target_modules", targets},
                           {"modules_to_save", scores ? Json({"score"}) : Json()},
                           {"fan_in_fan_out", model::traits_of(transformer.config().family).names.transposed},
                           {"bias", "none"},
                           {"use_rslora", false},
                           {"use_dora", false},
                           {"init_lora_weights", true},
                           {"inference_mode", true}};
  storage::write_file_durably(temporary / kConfig, json_text(config, 2) + "\n");
  fs::remove_all(target);
  storage::rename_durably(temporary, target);
}

}  // namespace infalign::stages
