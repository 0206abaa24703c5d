#include "core/model/rope_reader.h"

#include <unordered_set>

namespace infalign::model {
namespace {

using Kind = RopeScaling::Kind;

/// The keys of one spelling's object, checked as they are read.
class RopeObject {
 public:
  RopeObject(const ConfigReader& reader, std::string_view key, const Json& json)
      : reader_(reader), key_(key), json_(json) {
    if (!json.is_object()) reader.fail(key, "expected an object, found " + json_text(json));
  }

  [[noreturn]] void fail(const std::string& what) const { reader_.fail(key_, what); }

  const Json* find(const std::string& name) {
    const auto it = json_.find(name);
    if (it == json_.end()) return nullptr;
    read_.insert(name);
    return it->is_null() ? nullptr : &*it;
  }

  float require(const std::string& name) {
    const Json* value = find(name);
    if (!value) fail("has no " + name);
    return reader_.as_positive_number(std::string(key_) + "." + name, *value);
  }

  void refuse_unread() const {
    for (const auto& [name, value] : json_.items())
      if (!read_.contains(name) && !value.is_null())
        fail(name + " " + json_text(value) + " is not understood for this kind of rotary positions");
  }

 private:
  const ConfigReader& reader_;
  std::string_view key_;
  const Json& json_;
  std::unordered_set<std::string> read_;
};

Kind read_kind(RopeObject& rope, bool scaled) {
  const Json* type = rope.find("rope_type");
  const Json* older = rope.find("type");
  if (type && older && *type != *older) rope.fail("rope_type " + type->dump() + " and type " + older->dump());
  if (!type) type = older;
  if (!type || *type == "default") return Kind::kNone;
  if (scaled) {
    if (*type == "linear") return Kind::kLinear;
    if (*type == "dynamic") return Kind::kDynamic;
    if (*type == "llama3") return Kind::kLlama3;
  }
  rope.fail("rope_type " + type->dump() + " is not supported, only \"default\"" +
            (scaled ? ", \"linear\", \"dynamic\" and \"llama3\"" : " for this family"));
}

RopeScaling read_scaling(RopeObject& rope, bool scaled) {
  RopeScaling scaling{.kind = read_kind(rope, scaled)};
  if (scaling.kind == Kind::kNone) return scaling;
  scaling.factor = rope.require("factor");
  if (scaling.kind == Kind::kDynamic) rope.find("original_max_position_embeddings");
  if (scaling.kind != Kind::kLlama3) return scaling;
  scaling.low_frequency_factor = rope.require("low_freq_factor");
  scaling.high_frequency_factor = rope.require("high_freq_factor");
  scaling.original_positions = rope.require("original_max_position_embeddings");
  if (!(scaling.low_frequency_factor < scaling.high_frequency_factor))
    rope.fail("low_freq_factor is not less than high_freq_factor");
  return scaling;
}

/// One number from all the places where it may stand.
class Agreed {
 public:
  Agreed(const ConfigReader& reader, std::string_view key) : reader_(reader), key_(key) {}
  void see(const Json* value) {
    if (!value) return;
    const float number = reader_.as_positive_number(key_, *value);
    if (seen_ && number != value_) reader_.fail(key_, "disagrees with rope_parameters: " + json_text(*value));
    value_ = number;
    seen_ = true;
  }
  float or_else(float otherwise) const { return seen_ ? value_ : otherwise; }

 private:
  const ConfigReader& reader_;
  std::string_view key_;
  float value_ = 0;
  bool seen_ = false;
};

bool same(const RopeScaling& a, const RopeScaling& b) {
  return a.kind == b.kind && a.factor == b.factor && a.low_frequency_factor == b.low_frequency_factor &&
         a.high_frequency_factor == b.high_frequency_factor && a.original_positions == b.original_positions;
}

}  // namespace

void read_rope(ConfigReader& reader, const FamilyTraits& family, ModelConfig& config) {
  Agreed theta(reader, "rope_theta"), part(reader, "partial_rotary_factor");
  theta.see(reader.find("rope_theta"));
  if (family.partial_rotary) part.see(reader.find("partial_rotary_factor"));
  bool seen = false;
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    const Json* json = reader.find(key);
    if (!json) continue;
    RopeObject rope(reader, key, *json);
    const RopeScaling scaling = read_scaling(rope, family.scaled_rope);
    if (seen && !same(scaling, config.rope_scaling)) rope.fail("disagrees with rope_scaling");
    config.rope_scaling = scaling;
    seen = true;
    theta.see(rope.find("rope_theta"));
    if (family.partial_rotary) part.see(rope.find("partial_rotary_factor"));
    rope.refuse_unread();
  }
  config.rope_theta = theta.or_else(family.rope_theta);
  if (config.head_dim % 2 != 0)
    reader.fail("head_dim", std::to_string(config.head_dim) + " has to be even for rotary positions");
  const float share = part.or_else(1.0f);
  if (share > 1.0f) reader.fail("partial_rotary_factor", "is more than 1");
  if (share == 1.0f) return;
  config.rotary_dim = static_cast<std::int64_t>(static_cast<double>(config.head_dim) * double{share} + 1e-4);
  if (config.rotary_dim < 2 || config.rotary_dim % 2 != 0)
    reader.fail("partial_rotary_factor", "rotates " + std::to_string(config.rotary_dim) + " of a head's " +
                                             std::to_string(config.head_dim) +
                                             " values; an even number is needed");
}

}  // namespace infalign::model
