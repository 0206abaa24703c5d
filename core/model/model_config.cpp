// Reads and writes `config.json`. Every key is accounted for: those that describe the model are read, those
// that do not touch the numbers are listed as harmless, and any other is refused by name, so that a model of
// a family we do not compute correctly is never run as if it were one that we do.
#include "core/model/model_config.h"

#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_set>

#include "core/error.h"

namespace infalign::model {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kCausalLm = "LlamaForCausalLM";
constexpr std::string_view kRewardModel = "LlamaForSequenceClassification";

/// Keys that change no number of ours: bookkeeping, other programs' switches, token ids (the tokenizer's
/// matter).
const std::unordered_set<std::string_view>& harmless_keys() {
  static const std::unordered_set<std::string_view> keys = {
      "_attn_implementation_autoset",
      "_name_or_path",
      "attention_dropout",
      "bos_token_id",
      "dtype",
      "eos_token_id",
      "is_decoder",
      "is_llama_config",
      "output_attentions",
      "output_hidden_states",
      "pad_token_id",
      "problem_type",
      "return_dict",
      "tokenizer_class",
      "torch_dtype",
      "transformers.js_config",
      "transformers_version",
      "unk_token_id",
      "use_cache",
  };
  return keys;
}

/// The JSON of one file, which remembers the keys that were asked for.
class Reader {
 public:
  Reader(const Json& json, const std::string& where) : json_(json), where_(where) {
    if (!json.is_object()) throw InputError(where + ": expected a JSON object that describes a model");
  }

  [[noreturn]] void fail(std::string_view key, const std::string& what) const {
    throw InputError(where_ + ": " + std::string(key) + ": " + what);
  }

  /// The value of `key`, or nullptr where it is absent or null.
  const Json* find(std::string_view key) {
    read_.insert(key);
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }

  const Json& require(std::string_view key) {
    if (const Json* value = find(key)) return *value;
    fail(key, "missing");
  }

  std::int64_t positive_integer(std::string_view key) { return as_positive_integer(key, require(key)); }

  std::int64_t positive_integer(std::string_view key, std::int64_t otherwise) {
    const Json* value = find(key);
    return value ? as_positive_integer(key, *value) : otherwise;
  }

  float positive_number(std::string_view key, const Json& value) const {
    const bool positive = value.is_number() && value.get<float>() > 0 && std::isfinite(value.get<float>());
    if (!positive) fail(key, "expected a positive number, found " + value.dump());
    return value.get<float>();
  }

  bool boolean(std::string_view key, bool otherwise) {
    const Json* value = find(key);
    if (!value) return otherwise;
    if (!value->is_boolean()) fail(key, "expected true or false, found " + value->dump());
    return value->get<bool>();
  }

  /// Where `key` is given at all, it has to have the one value that is supported.
  void only(std::string_view key, const Json& supported) {
    const Json* value = find(key);
    if (value && *value != supported)
      fail(key, value->dump() + " is not supported, only " + supported.dump());
  }

  /// To be called last: refuses what nobody asked for and what is not known to be harmless.
  void refuse_unread() const {
    for (const auto& [key, value] : json_.items()) {
      if (!read_.contains(key) && !harmless_keys().contains(key) && !value.is_null()) {
        fail(key, "not understood, and it could change the model's results (supported: plain Llama)");
      }
    }
  }

 private:
  std::int64_t as_positive_integer(std::string_view key, const Json& value) const {
    constexpr std::int64_t kLargest = std::int64_t{1} << 30;
    const bool sensible =
        value.is_number_integer() && value.get<std::int64_t>() > 0 && value.get<std::int64_t>() <= kLargest;
    if (!sensible) fail(key, "expected a positive integer, found " + value.dump());
    return value.get<std::int64_t>();
  }

  const Json& json_;
  const std::string& where_;
  std::unordered_set<std::string_view> read_;
};

bool read_architecture(Reader& reader) {
  const Json& architectures = reader.require("architectures");
  const std::string supported =
      std::string(kCausalLm) + " and " + std::string(kRewardModel) + " are supported";
  if (!architectures.is_array() || architectures.size() != 1 || !architectures[0].is_string()) {
    reader.fail("architectures",
                "expected a list of one name, found " + architectures.dump() + "; " + supported);
  }
  const auto name = architectures[0].get<std::string>();
  if (name != kCausalLm && name != kRewardModel) reader.fail("architectures", name + " is not; " + supported);
  reader.only("model_type", "llama");
  return name == kRewardModel;
}

/// A score head has one label. The labels' names say nothing; how many there are does. (Where neither key
/// stands, the shape of score.weight is what tells.)
void check_labels(Reader& reader, bool score_head) {
  const Json* count = reader.find("num_labels");
  const Json* names = reader.find("id2label");
  reader.find("label2id");
  if (!score_head) return;
  if (count && *count != 1) reader.fail("num_labels", count->dump() + " labels; a reward model has 1");
  if (names && names->size() != 1) reader.fail("id2label", names->dump() + "; a reward model has one label");
}

/// rope_scaling (transformers 4) or rope_parameters (5): nothing but the default kind of rotation.
void check_rope_type(const Reader& reader, std::string_view key, const Json& rope) {
  if (!rope.is_object()) reader.fail(key, "expected an object, found " + rope.dump());
  for (const auto& [name, value] : rope.items()) {
    if (name == "rope_type" || name == "type") {
      if (value != "default") {
        reader.fail(key, name + " " + value.dump() + " is not supported, only \"default\"");
      }
    }
  }
  for (const auto& [name, value] : rope.items()) {
    const bool known = name == "rope_type" || name == "type" || name == "rope_theta";
    if (!known && !value.is_null()) reader.fail(key, name + " is not understood");
  }
}

float read_rope_theta(Reader& reader) {
  constexpr float kDefaultTheta = 10000.0f;
  const Json* top = reader.find("rope_theta");
  const Json* inner = nullptr;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json* rope = reader.find(key);
    if (!rope) continue;
    check_rope_type(reader, key, *rope);
    if (rope->contains("rope_theta")) inner = &rope->at("rope_theta");
  }
  if (top && inner && *top != *inner) reader.fail("rope_theta", "disagrees with rope_parameters");
  const Json* theta = top ? top : inner;
  return theta ? reader.positive_number("rope_theta", *theta) : kDefaultTheta;
}

void check_layer_types(Reader& reader) {
  const Json* types = reader.find("layer_types");
  if (!types) return;
  for (const Json& type : *types) {
    if (type != "full_attention") {
      reader.fail("layer_types", type.dump() + " is not supported, only \"full_attention\"");
    }
  }
}

std::int64_t read_head_dim(Reader& reader, const ModelConfig& config) {
  const Json* given = reader.find("head_dim");
  if (!given && config.hidden_size % config.heads != 0) {
    reader.fail("hidden_size", "is not a multiple of num_attention_heads, and there is no head_dim");
  }
  const std::int64_t head_dim = reader.positive_integer("head_dim", config.hidden_size / config.heads);
  if (head_dim % 2 != 0) reader.fail("head_dim", "has to be even for rotary positions");
  return head_dim;
}

/// The float as the shortest decimal that reads back as the same float: 1e-05, not 9.99999974737875e-06.
double shortest_decimal(float value) {
  std::array<char, 32> text{};
  const auto written = std::to_chars(text.begin(), text.end(), value);
  double decimal = value;
  std::from_chars(text.begin(), written.ptr, decimal);
  return decimal;
}

}  // namespace

ModelConfig ModelConfig::from_json(const nlohmann::json& json, const std::string& where) {
  Reader reader(json, where);
  ModelConfig config;
  config.score_head = read_architecture(reader);
  check_labels(reader, config.score_head);
  config.vocab_size = reader.positive_integer("vocab_size");
  config.hidden_size = reader.positive_integer("hidden_size");
  config.intermediate_size = reader.positive_integer("intermediate_size");
  config.layers = reader.positive_integer("num_hidden_layers");
  config.heads = reader.positive_integer("num_attention_heads");
  config.kv_heads = reader.positive_integer("num_key_value_heads", config.heads);
  if (config.heads % config.kv_heads != 0) {
    reader.fail("num_key_value_heads", "does not divide num_attention_heads");
  }
  config.head_dim = read_head_dim(reader, config);
  config.max_positions = reader.positive_integer("max_position_embeddings");
  config.rms_norm_epsilon = reader.positive_number("rms_norm_eps", reader.require("rms_norm_eps"));
  config.rope_theta = read_rope_theta(reader);
  config.tie_word_embeddings = reader.boolean("tie_word_embeddings", false) && !config.score_head;
  if (const Json* range = reader.find("initializer_range")) {
    config.initializer_range = reader.positive_number("initializer_range", *range);
  }
  check_layer_types(reader);
  reader.only("hidden_act", "silu");
  reader.only("attention_bias", false);
  reader.only("mlp_bias", false);
  reader.only("rope_interleaved", false);
  reader.only("use_sliding_window", false);
  reader.only("pretraining_tp", 1);
  reader.refuse_unread();
  return config;
}

nlohmann::json ModelConfig::to_json() const {
  Json json = {
      {"architectures", Json::array({score_head ? kRewardModel : kCausalLm})},
      {"model_type", "llama"},
      {"vocab_size", vocab_size},
      {"hidden_size", hidden_size},
      {"intermediate_size", intermediate_size},
      {"num_hidden_layers", layers},
      {"num_attention_heads", heads},
      {"num_key_value_heads", kv_heads},
      {"head_dim", head_dim},
      {"max_position_embeddings", max_positions},
      {"rms_norm_eps", shortest_decimal(rms_norm_epsilon)},
      {"rope_theta", shortest_decimal(rope_theta)},
      {"rope_scaling", nullptr},
      {"tie_word_embeddings", tie_word_embeddings},
      {"initializer_range", shortest_decimal(initializer_range)},
      {"hidden_act", "silu"},
      {"attention_bias", false},
      {"mlp_bias", false},
      {"torch_dtype", "float32"},
  };
  if (score_head) {
    json["id2label"] = {{"0", "LABEL_0"}};
    json["label2id"] = {{"LABEL_0", 0}};
  }
  return json;
}

}  // namespace infalign::model
