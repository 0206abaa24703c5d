// Reads `config.json`: the row of the family that it names says which keys to look for and what they mean.
#include "core/model/model_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>

#include "core/model/config_reader.h"
#include "core/model/families.h"
#include "core/model/rope_reader.h"

namespace infalign::model {
namespace {

/// Keys that change no number of ours in any family: bookkeeping, other programs' switches, token ids (the
/// tokenizer's matter).
constexpr std::string_view kHarmless[] = {
    "_attn_implementation_autoset",
    "_name_or_path",
    "attention_dropout",
    "auto_map",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "gradient_checkpointing",
    "is_decoder",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "reward_read_at",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unk_token_id",
    "use_cache",
};

std::string supported_architectures() {
  std::string names;
  for (const FamilyTraits& family : families()) {
    if (!names.empty()) names += ", ";
    names += std::string(family.causal_lm);
  }
  return "supported are " + names + " and their ...ForSequenceClassification with one label";
}

/// The family that `architectures` names, and whether it is its reward model.
std::pair<const FamilyTraits*, bool> read_architecture(ConfigReader& reader) {
  const Json& architectures = reader.require("architectures");
  if (!architectures.is_array() || architectures.size() != 1 || !architectures[0].is_string()) {
    reader.fail("architectures", "expected a list of one name, found " + json_text(architectures) + "; " +
                                     supported_architectures());
  }
  const auto name = architectures[0].get<std::string>();
  for (const FamilyTraits& family : families()) {
    if (name != family.causal_lm && name != family.reward_model) continue;
    reader.only("model_type", family.model_type);
    return {&family, name == family.reward_model};
  }
  reader.fail("architectures", name + " is not supported; " + supported_architectures());
}

/// A score head has one label. The labels' names say nothing; how many there are does. (Where neither key
/// stands, the shape of score.weight is what tells.)
void check_labels(ConfigReader& reader, bool score_head) {
  const Json* count = reader.find("num_labels");
  const Json* names = reader.find("id2label");
  reader.ignore("label2id");
  if (!score_head) return;
  if (count && *count != 1) reader.fail("num_labels", count->dump() + " labels; a reward model has 1");
  if (names && names->size() != 1) reader.fail("id2label", names->dump() + "; a reward model has one label");
}

void read_sizes(ConfigReader& reader, const FamilyTraits& family, ModelConfig& config) {
  const KeyNames& keys = family.keys;
  config.vocab_size = reader.positive_integer("vocab_size");
  config.hidden_size = reader.positive_integer(keys.hidden_size);
  config.intermediate_size = family.gated
                                 ? reader.positive_integer(keys.intermediate_size)
                                 : reader.positive_integer(keys.intermediate_size, 4 * config.hidden_size);
  config.layers = reader.positive_integer(keys.layers);
  config.heads = reader.positive_integer(keys.heads);
  config.max_positions = reader.positive_integer(keys.max_positions);
  config.norm_epsilon = reader.as_positive_number(keys.norm_epsilon, reader.require(keys.norm_epsilon));
  config.initializer_range = reader.positive_number("initializer_range", config.initializer_range);
}

void read_heads(ConfigReader& reader, const FamilyTraits& family, ModelConfig& config) {
  config.kv_heads = config.heads;
  const Json* given = nullptr;
  if (!family.learned_positions) {
    const std::int64_t otherwise = family.kv_heads == 0 ? config.heads : family.kv_heads;
    config.kv_heads = reader.positive_integer("num_key_value_heads", otherwise);
    given = reader.find("head_dim");
  }
  if (config.heads % config.kv_heads != 0) {
    reader.fail("num_key_value_heads", std::to_string(config.kv_heads) + " does not divide " +
                                           std::string(family.keys.heads) + " " +
                                           std::to_string(config.heads));
  }
  if (given) {
    config.head_dim = reader.as_positive_integer("head_dim", *given);
  } else if (family.head_dim != 0) {
    config.head_dim = family.head_dim;
  } else if (config.hidden_size % config.heads == 0) {
    config.head_dim = config.hidden_size / config.heads;
  } else {
    reader.fail(family.keys.hidden_size,
                "is not a multiple of " + std::string(family.keys.heads) + ", and there is no head_dim");
  }
}

Activation read_activation(ConfigReader& reader, const FamilyTraits& family) {
  std::string_view key;
  const Json* value = nullptr;
  for (const std::string_view candidate : family.keys.activation) {
    const Json* found = reader.find(candidate);
    if (value || !found) continue;
    value = found;
    key = candidate;
  }
  if (!value) return family.activation;
  if (*value == "silu" || *value == "swish") {
    if (family.gated) return Activation::kSilu;
  }
  for (const char* name : {"gelu_pytorch_tanh", "gelu_new", "gelu_fast"})
    if (*value == name) return Activation::kGeluTanh;
  if (*value == "gelu") return family.gelu_means_tanh ? Activation::kGeluTanh : Activation::kGeluErf;
  reader.fail(key, json_text(*value) + " is not supported, only " + (family.gated ? "silu, " : "") +
                       "gelu, gelu_new and gelu_pytorch_tanh");
}

void read_biases(ConfigReader& reader, const FamilyTraits& family, ModelConfig& config) {
  const AttentionBias rule = family.attention_bias;
  const bool all = rule == AttentionBias::kAll ||
                   (rule == AttentionBias::kByKey && reader.boolean("attention_bias", false));
  config.qkv_bias = all || rule == AttentionBias::kQkv;
  config.attention_out_bias = all;
  config.feed_forward_bias =
      family.always_mlp_bias || (family.mlp_bias_key && reader.boolean("mlp_bias", false));
}

/// no_rope_layers holds 1 for each layer that is rotated.
void read_rotated_layers(ConfigReader& reader, const FamilyTraits& family, ModelConfig& config) {
  if (!family.unrotated_layers) return;
  const std::int64_t interval = reader.positive_integer("no_rope_layer_interval", 4);
  const Json* layers = reader.find("no_rope_layers");
  if (layers && (!layers->is_array() || std::ssize(*layers) < config.layers))
    reader.fail("no_rope_layers", "expected a list with a 0 or 1 for each layer, found " + layers->dump());
  for (std::int64_t i = 0; i < config.layers; ++i) {
    bool rotary = (i + 1) % interval != 0;
    if (layers) {
      const Json& given = (*layers)[static_cast<std::size_t>(i)];
      if (given != 0 && given != 1) reader.fail("no_rope_layers", json_text(given) + " is neither 0 nor 1");
      rotary = given == 1;
    }
    config.attention[static_cast<std::size_t>(i)].rotary = rotary;
  }
}

/// Which layers look through a window, unless layer_types says so.
bool windowed(Windows rule, const ModelConfig& config, std::int64_t layer, std::int64_t first_upper) {
  switch (rule) {
    case Windows::kNone:
      return false;
    case Windows::kAll:
      return true;
    case Windows::kUpper:
      return layer >= first_upper;
    case Windows::kAlternate:
      return layer % 2 == 0;
    case Windows::kUnrotated:
      return !config.layer(layer).rotary;
  }
  return false;
}

/// The windows' size, 0 for none.
std::int64_t read_window(ConfigReader& reader, const FamilyTraits& family, bool absent) {
  if (family.windows == Windows::kNone) return 0;
  const Json* size = reader.find("sliding_window");
  const Json* alias = family.windows == Windows::kAlternate ? reader.find("sliding_window_size") : nullptr;
  if (size && alias && *size != *alias)
    reader.fail("sliding_window_size", alias->dump() + " disagrees with sliding_window " + size->dump());
  const bool by_switch = family.windows == Windows::kUpper || family.windows == Windows::kUnrotated;
  if (by_switch && !reader.boolean("use_sliding_window", false)) return 0;
  if (!size) size = alias;
  if (size) return reader.as_positive_integer("sliding_window", *size);
  return absent ? family.window : 0;
}

void read_windows(ConfigReader& reader, const FamilyTraits& family, bool absent, ModelConfig& config) {
  const std::int64_t window = read_window(reader, family, absent);
  std::int64_t first_upper = 0;
  if (family.windows == Windows::kUpper) {
    const Json* given = reader.find("max_window_layers");
    if (given && !(given->is_number_integer() && *given >= 0 && *given <= 1 << 30))
      reader.fail("max_window_layers", "expected a number of layers, found " + given->dump());
    first_upper = given ? given->get<std::int64_t>() : 28;
  }
  const Json* types = family.windows == Windows::kAll ? nullptr : reader.find("layer_types");
  if (types &&
      (!types->is_array() || (family.windows != Windows::kNone && std::ssize(*types) != config.layers)))
    reader.fail("layer_types", "expected a list with a name for each layer, found " + types->dump());
  for (const Json& type : types ? *types : Json::array()) {
    const bool known = type == "full_attention" || (type == "sliding_attention" && window > 0);
    if (!known) {
      reader.fail("layer_types",
                  json_text(type) + " is not supported, only \"full_attention\"" +
                      (window > 0 ? " and \"sliding_attention\"" : " without a sliding window"));
    }
  }
  for (std::int64_t i = 0; window > 0 && i < config.layers; ++i) {
    const bool slides = types ? (*types)[static_cast<std::size_t>(i)] == "sliding_attention"
                              : windowed(family.windows, config, i, first_upper);
    if (slides) config.attention[static_cast<std::size_t>(i)].window = window;
  }
}

void read_query_scalar(ConfigReader& reader, const FamilyTraits& family, const Json& json,
                       ModelConfig& config) {
  if (!family.query_scalar) return;
  const float scalar = reader.positive_number("query_pre_attn_scalar", 256.0f);
  config.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(scalar)));
  const auto cap = [&](std::string_view key, float absent) {  // null says none
    return reader.positive_number(key, json.contains(key) ? 0.0f : absent);
  };
  config.attention_softcap = cap("attn_logit_softcapping", 50.0f);
  config.logit_softcap = cap("final_logit_softcapping", 30.0f);
}

}  // namespace

ModelConfig ModelConfig::from_json(const Json& json, const std::string& where) {
  ConfigReader reader(json, where);
  const auto [traits, score_head] = read_architecture(reader);
  const FamilyTraits& family = *traits;
  ModelConfig config;
  config.family = family.family;
  config.score_head = score_head;
  check_labels(reader, score_head);
  read_sizes(reader, family, config);
  read_heads(reader, family, config);
  config.norm = family.norm;
  config.norms_after_branches = family.norms_after_branches;
  config.qk_norms = family.qk_norms;
  config.gated = family.gated;
  config.activation = read_activation(reader, family);
  config.learned_positions = family.learned_positions;
  if (!config.learned_positions) read_rope(reader, family, config);
  config.attention.resize(static_cast<std::size_t>(config.layers));
  read_rotated_layers(reader, family, config);
  read_windows(reader, family, !json.contains("sliding_window"), config);
  read_query_scalar(reader, family, json, config);
  read_biases(reader, family, config);
  if (family.scaled_embedding)
    config.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(config.hidden_size)));
  config.tie_word_embeddings =
      reader.boolean("tie_word_embeddings", family.tie_word_embeddings) && !score_head;
  for (const FixedKey& fixed : family.fixed_keys) {
    const Json one = 1;
    reader.only(fixed.key,
                fixed.value == FixedKey::Value::kOne ? one : Json(fixed.value == FixedKey::Value::kTrue));
  }
  for (const std::string_view key : kHarmless) reader.ignore(key);
  for (const std::string_view key : family.harmless_keys) reader.ignore(key);
  reader.refuse_unread(family.model_type);
  return config;
}

std::vector<float> inverse_frequencies(const ModelConfig& config) {
  if (config.learned_positions) return {};
  const std::int64_t rotated = config.rotary_dim == 0 ? config.head_dim : config.rotary_dim;
  const RopeScaling& scaling = config.rope_scaling;
  const float low_wavelength = scaling.original_positions / scaling.low_frequency_factor;
  const float high_wavelength = scaling.original_positions / scaling.high_frequency_factor;
  std::vector<float> frequencies(static_cast<std::size_t>(rotated / 2));
  for (std::size_t d = 0; d < frequencies.size(); ++d) {
    const float exponent = static_cast<float>(2 * d) / static_cast<float>(rotated);
    const float plain = 1.0f / std::pow(config.rope_theta, exponent);
    float frequency = plain;
    if (scaling.kind == RopeScaling::Kind::kLinear) frequency = plain / scaling.factor;
    if (scaling.kind == RopeScaling::Kind::kLlama3) {
      const float wavelength = 2 * std::numbers::pi_v<float> / plain;
      const float smooth = (scaling.original_positions / wavelength - scaling.low_frequency_factor) /
                           (scaling.high_frequency_factor - scaling.low_frequency_factor);
      if (wavelength > low_wavelength) {
        frequency = plain / scaling.factor;
      } else if (wavelength >= high_wavelength) {
        frequency = (1 - smooth) * plain / scaling.factor + smooth * plain;
      }
    }
    frequencies[d] = frequency;
  }
  return frequencies;
}

}  // namespace infalign::model
