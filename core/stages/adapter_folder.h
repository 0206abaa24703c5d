// Adapters as Hugging Face PEFT keeps them: a folder of `adapter_config.json` and
// `adapter_model.safetensors` that names the folder of the model it belongs to. Written for others to load;
// read wherever a model folder is read, and added to that model's weights.
#pragma once

#include <filesystem>
#include <span>

#include "core/model/adapter.h"
#include "core/model/transformer.h"
#include "core/storage/safetensors.h"

namespace infalign::stages {

/// Whether a folder is an adapter rather than a model.
bool is_adapter_folder(const std::filesystem::path& folder);

/// Where config.json, tokenizer and templates of a model are: its folder, or for an adapter that of its base
/// model: `base_model_name_or_path`, as it is or counted from the adapter's folder. Errors: InputError for a
/// base that is no folder here.
std::filesystem::path description_folder(const std::filesystem::path& folder);

/// Whether the adapter turns a language model into a reward model (task_type SEQ_CLS).
bool adds_score_head(const std::filesystem::path& adapter);

/// Adds the adapter to the model's `parameters` [layout.size()]. Errors: InputError naming the file for
/// anything missing, surplus, of wrong shape, and for kinds of adapters that are not LoRA as we compute it.
void add_adapter(const std::filesystem::path& adapter, const model::Transformer& transformer,
                 std::span<float> parameters);

/// Writes the adapter of a model whose folder is `base` into `target`.
void save_adapter_folder(const std::filesystem::path& base, const std::filesystem::path& target,
                         const model::Transformer& transformer, const model::AdapterLayout& adapter,
                         std::span<const float> values);

}  // namespace infalign::stages
