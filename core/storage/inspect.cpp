#include "core/storage/inspect.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iomanip>
#include <map>
#include <numeric>
#include <sstream>
#include <tuple>
#include <vector>

#include "core/error.h"
#include "core/storage/calibration_file.h"
#include "core/storage/checkpoint_index.h"
#include "core/storage/durable.h"
#include "core/storage/element_type.h"
#include "core/storage/hdf5_file.h"
#include "core/storage/json_object.h"
#include "core/storage/safetensors.h"

namespace infalign::storage {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAdapterConfig = "adapter_config.json";  // of Hugging Face PEFT

// ---- one description for each kind
// -----------------------------------------------------------------------------------

Json describe_model(const fs::path& path) {
  const bool is_folder = fs::is_directory(path), is_adapter = fs::exists(path / kAdapterConfig);
  Json about = {{"kind", "model"}, {"path", path.string()}, {"tensors", Json::array()}};
  if (is_folder && fs::exists(path / "config.json")) {
    about["config"] = read_json_object(path / "config.json");
    const Json architectures = about["config"].value("architectures", Json::array());
    if (architectures.is_array() && !architectures.empty()) about["architecture"] = architectures.front();
  }
  if (is_adapter) {
    about["kind"] = "adapter";
    about["config"] = read_json_object(path / kAdapterConfig);
  }
  const auto reader = is_adapter  ? SafetensorsReader::open_file(path / "adapter_model.safetensors")
                      : is_folder ? SafetensorsReader::open_folder(path)
                                  : SafetensorsReader::open_file(path);
  std::int64_t parameters = 0, bytes = 0;
  std::map<std::string, std::int64_t> types;
  for (const auto& [name, tensor] : reader.tensors()) {
    const std::string type = element_name(tensor.type);
    about["tensors"].push_back({{"name", name}, {"shape", tensor.shape}, {"dtype", type}});
    parameters += element_count(tensor.shape);
    bytes += static_cast<std::int64_t>(tensor.data.size());
    types[type] += element_count(tensor.shape);
  }
  about["parameters"] = parameters;
  about["bytes"] = bytes;
  about["dtypes"] = types;
  return about;
}

Json describe_checkpoint(const fs::path& folder) {
  const CheckpointIndex index = read_checkpoint_index(folder);
  Json about = {{"kind", "checkpoint"},
                {"path", folder.string()},
                {"format_version", kCheckpointVersion},
                {"step", index.info.step},
                {"world_size", index.info.world_size},
                {"seed", index.info.seed},
                {"git_revision", index.info.git_revision},
                {"configuration", index.info.configuration},
                {"state", index.info.state},
                {"groups", Json::array()},
                {"tensors", Json::array()}};
  for (const auto& [group, tensors] : index.groups) about["groups"].push_back(group);
  // All groups hold the same tensors: parameters, and what the optimizer keeps for each.
  std::int64_t parameters = 0;
  if (!index.groups.empty()) {
    for (const TensorPlace& tensor : index.groups.begin()->second) {
      about["tensors"].push_back({{"name", tensor.name}, {"shape", tensor.shape}, {"dtype", "F32"}});
      parameters += tensor.size;
    }
  }
  about["parameters"] = parameters;
  return about;
}

Json describe_calibration(const fs::path& path) {
  const CalibrationFile file = read_calibration(path);
  const Json sampling = parse_json(file.sampling);
  const double mean = std::accumulate(file.rewards.begin(), file.rewards.end(), 0.0) /
                      static_cast<double>(file.rewards.size());
  const auto [least, largest] = std::minmax_element(file.rewards.begin(), file.rewards.end());
  Json about = {{"kind", "calibration"},
                {"path", path.string()},
                {"prompts", file.prompt_id.size()},
                {"rollouts_per_prompt", file.rollouts},
                {"reward", {{"mean", mean}, {"min", *least}, {"max", *largest}}},
                {"quantiles", Json::array()},
                {"sampling", sampling.is_discarded() ? Json(file.sampling) : sampling},
                {"reference_fingerprint", file.reference_fingerprint},
                {"reward_fingerprint", file.reward_fingerprint},
                {"prompts_fingerprint", file.prompts_fingerprint},
                {"seed", file.seed},
                {"mean_response_length", file.mean_response_length},
                {"drawn_in_table_gap", file.drawn_in_table_gap}};
  for (std::size_t i = 0; i < file.quantile_levels.size(); ++i) {
    about["quantiles"].push_back({{"level", file.quantile_levels[i]}, {"reward", file.quantile_values[i]}});
  }
  return about;
}

// ---- telling the kinds apart
// -----------------------------------------------------------------------------------------

std::string first_bytes(const fs::path& path, std::size_t count) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes(count, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(count));
  bytes.resize(static_cast<std::size_t>(file.gcount()));
  return bytes;
}

bool is_model_folder(const fs::path& path) {
  return fs::exists(path / "config.json") || fs::exists(path / kAdapterConfig) ||
         fs::exists(path / "model.safetensors") || fs::exists(path / "model.safetensors.index.json");
}

/// One that is damaged may be; whoever reads it will tell.
bool may_be_calibration(const fs::path& path) {
  try {
    return Hdf5Reader(path).has("/rewards");
  } catch (const InputError&) {
    return true;
  }
}

[[noreturn]] void refuse(const fs::path& path) {
  throw InputError(
      path.string() + (fs::exists(path) ? ": nothing that can be inspected" : ": does not exist") +
      "; inspect reads a checkpoint folder (step_N), a calibration file (calibration.h5), a model "
      "or adapter folder (config.json or adapter_config.json, *.safetensors) or a .safetensors file");
}

// ---- plain text
// ------------------------------------------------------------------------------------------------------

/// 134515008 -> "134,515,008".
std::string with_commas(std::int64_t number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

/// A JSON value as one would write it down: text without quotes.
std::string plain(const Json& value) {
  return value.is_string() ? value.get<std::string>() : json_text(value);
}

void print_row(std::ostream& out, const std::string& name, const std::string& value) {
  out << "  " << std::left << std::setw(24) << name << value << '\n';
}

void print_rows(std::ostream& out, const Json& about, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (about.contains(key)) print_row(out, key, plain(about[key]));
  }
}

/// Splits "model.layers.12.mlp.weight" at its first whole number: "model.layers.", 12, ".mlp.weight"; no
/// number: -1.
std::tuple<std::string, std::int64_t, std::string> split_at_number(const std::string& name) {
  for (std::size_t begin = 0; begin < name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool digits =
        !part.empty() && part.size() < 10 &&
        std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c); });
    if (digits) return {name.substr(0, begin), std::stoll(part), name.substr(end)};
    begin = end + 1;
  }
  return {name, -1, ""};
}

void print_tensors(std::ostream& out, const Json& tensors) {
  struct Line {
    std::int64_t first = 0, last = 0, count = 0;
  };
  std::map<std::tuple<std::string, std::string, std::string>, Line>
      lines;  // before, after the number; shape and type
  for (const Json& tensor : tensors) {
    const auto [before, number, after] = split_at_number(tensor["name"]);
    const std::string kind =
        shape_text(tensor["shape"].get<Shape>()) + " " + tensor["dtype"].get<std::string>();
    Line& line = lines.try_emplace({before, after, kind}, Line{number, number, 0}).first->second;
    line = {std::min(line.first, number), std::max(line.last, number), line.count + 1};
  }
  out << "tensors\n";
  for (const auto& [key, line] : lines) {
    const auto& [before, after, kind] = key;
    std::string name = before;
    if (line.first >= 0) name += std::to_string(line.first);
    if (line.last > line.first) name += ".." + std::to_string(line.last);
    name += after;
    out << "  " << std::left << std::setw(56) << name << ' ' << kind;
    if (line.count > 1) out << " (" << line.count << " of them)";
    out << '\n';
  }
}

void print_model(std::ostream& out, const Json& about) {
  print_rows(out, about, {"architecture"});
  if (about.contains("config")) {
    print_rows(out, about["config"],
               {"model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                "num_key_value_heads", "vocab_size", "max_position_embeddings", "tie_word_embeddings",
                "base_model_name_or_path", "r", "lora_alpha", "target_modules"});
  }
  print_row(out, "parameters", with_commas(about["parameters"]));
  print_row(out, "bytes", with_commas(about["bytes"]));
  for (const auto& [type, count] : about["dtypes"].items())
    print_row(out, "of type " + type, with_commas(count));
  print_tensors(out, about["tensors"]);
}

void print_checkpoint(std::ostream& out, const Json& about) {
  print_rows(out, about, {"format_version", "step", "world_size", "seed", "git_revision"});
  print_row(out, "parameters", with_commas(about["parameters"]));
  for (const Json& group : about["groups"]) print_row(out, "group", "/" + plain(group));
  for (const auto& [name, value] : about["state"].items()) print_row(out, "state " + name, plain(value));
  print_tensors(out, about["tensors"]);
  out << "configuration\n";
  std::istringstream lines(about["configuration"].get<std::string>());
  for (std::string line; std::getline(lines, line);) out << "  " << line << '\n';
}

void print_calibration(std::ostream& out, const Json& about) {
  print_rows(out, about,
             {"prompts", "rollouts_per_prompt", "sampling", "seed", "reference_fingerprint",
              "reward_fingerprint", "prompts_fingerprint", "mean_response_length", "drawn_in_table_gap"});
  for (const auto& [name, value] : about["reward"].items()) print_row(out, "reward " + name, plain(value));
  out << "pooled quantiles\n";
  for (const Json& quantile : about["quantiles"]) {
    print_row(out, plain(quantile["level"]), plain(quantile["reward"]));
  }
}

}  // namespace

Kind kind_of(const fs::path& path) {
  if (fs::is_directory(path)) {
    if (fs::exists(path / kCheckpointFile)) return Kind::kCheckpoint;
    if (is_model_folder(path)) return Kind::kModel;
  } else if (fs::is_regular_file(path)) {
    const std::string bytes = first_bytes(path, 9);
    if (path.filename() == kCheckpointFile) return Kind::kCheckpoint;
    if (bytes.starts_with("\x89HDF\r\n\x1a\n") && may_be_calibration(path)) return Kind::kCalibration;
    if (path.extension() == ".safetensors" || bytes.ends_with('{')) return Kind::kModel;
  }
  refuse(path);
}

Json describe_json(const fs::path& path) {
  switch (kind_of(path)) {
    case Kind::kCheckpoint:
      return describe_checkpoint(fs::is_directory(path) ? path : fs::absolute(path).parent_path());
    case Kind::kCalibration:
      return describe_calibration(path);
    case Kind::kModel:
      return describe_model(path);
  }
  return {};
}

std::string describe(const fs::path& path) {
  const Json about = describe_json(path);
  std::ostringstream out;
  const std::string kind = about["kind"];
  out << kind << ' ' << plain(about["path"]) << '\n';
  if (kind == "model" || kind == "adapter") print_model(out, about);
  if (kind == "checkpoint") print_checkpoint(out, about);
  if (kind == "calibration") print_calibration(out, about);
  return out.str();
}

}  // namespace infalign::storage
