#include "core/stages/design_specs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"

namespace infalign::stages {
namespace {

constexpr std::int64_t kMostCandidates = 65'536;

/// "--procedure best_of_n:x", for errors to begin with.
struct Where {
  std::string_view option;
  const std::string& spec;
};

[[noreturn]] void refuse(const Where& where, const std::string& what) {
  throw ConfigurationError(fmt::format("{} \"{}\": {}", where.option, where.spec, what));
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0;;) {
    const std::size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string::npos) return parts;
    begin = end + 1;
  }
}

template <class Number>
std::optional<Number> number_in(const std::string& text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if constexpr (std::is_floating_point_v<Number>)
    if (!std::isfinite(value)) return std::nullopt;
  return value;
}

double real(const Where& where, const std::string& text, const std::string& example) {
  const auto value = number_in<double>(text);
  if (!value) refuse(where, fmt::format("\"{}\" is not a number; write {}", text, example));
  return *value;
}

std::int64_t whole(const Where& where, const std::string& text, const std::string& example) {
  const auto value = number_in<std::int64_t>(text);
  if (!value || *value < 1 || *value > kMostCandidates) {
    refuse(where, fmt::format("\"{}\" is not a whole number from 1 to {}; write {}", text, kMostCandidates,
                              example));
  }
  return *value;
}

std::vector<double> reals(const Where& where, const std::string& text, const std::string& example) {
  std::string divided = text;
  std::replace(divided.begin(), divided.end(), ',', '/');
  std::vector<double> values;
  for (const std::string& part : split(divided, '/')) values.push_back(real(where, part, example));
  return values;
}

/// The keys, and the only procedure that reads each; n is for all that draw a number of candidates.
struct Key {
  const char *name, *reader;
  void (*set)(alignment::ProcedureSettings&, const Where&, const std::string& value);
};
constexpr Key kKeys[] = {
    {"n", "", [](auto& s, const Where& w, const auto& v) { s.n = whole(w, v, "best_of_n:4"); }},
    {"k", "kth_of_n", [](auto& s, const Where& w, const auto& v) { s.k = whole(w, v, "kth_of_n:8:k=7"); }},
    {"strength", "soft_best_of_n",
     [](auto& s, const Where& w, const auto& v) { s.strength = real(w, v, "soft_best_of_n:strength=4"); }},
    {"weights", "best_of_random_n",
     [](auto& s, const Where& w, const auto& v) {
       s.weights = reals(w, v, "best_of_random_n:weights=0.5/0/0/0.5");
     }},
    {"quantile", "above_quantile",
     [](auto& s, const Where& w, const auto& v) { s.quantile = real(w, v, "above_quantile:quantile=0.5"); }},
    {"threshold", "retry_until",
     [](auto& s, const Where& w, const auto& v) { s.threshold = real(w, v, "retry_until:4:threshold=1"); }},
};

/// These say themselves how many candidates they draw.
bool counts_itself(const std::string& name) {
  return name == "standard" || name == "soft_best_of_n" || name == "best_of_random_n";
}

void set_key(ProcedureSpec& spec, const Where& where, const std::string& key, const std::string& value) {
  const auto* const row =
      std::find_if(std::begin(kKeys), std::end(kKeys), [&](const Key& each) { return key == each.name; });
  if (row == std::end(kKeys)) {
    std::string known;
    for (const Key& each : kKeys) known += fmt::format("{}{}", known.empty() ? "" : ", ", each.name);
    refuse(where, fmt::format("unknown key \"{}\"; known: {}", key, known));
  }
  if (row->reader[0] != '\0' && spec.settings.name != row->reader)
    refuse(where, fmt::format("{} takes no {}; {} does", spec.settings.name, key, row->reader));
  row->set(spec.settings, where, value);
  if (key == "n" && counts_itself(spec.settings.name)) {
    if (spec.settings.n != 1)
      refuse(where, fmt::format("{} takes no n: it draws as many as it needs", spec.settings.name));
    return;
  }
  spec.given.emplace_back(key, value);
}

void check_whole(const ProcedureSpec& spec, const Where& where) {
  try {
    spec.procedure();
  } catch (const std::invalid_argument& error) {
    refuse(where, error.what());
  }
  const bool has_n = std::any_of(spec.given.begin(), spec.given.end(),
                                 [](const auto& key_value) { return key_value.first == "n"; });
  const std::string& name = spec.settings.name;
  if (!has_n && !counts_itself(name) && name != "above_quantile")
    refuse(where, fmt::format("how many candidates does it draw? Write {0}:4, or {0} with --n 4", name));
}

}  // namespace

ProcedureSpec parse_procedure(std::string_view option, const std::string& text, const KeyValues& more) {
  const Where where{option, text};
  const std::vector<std::string> parts = split(text, ':');
  ProcedureSpec spec;
  spec.settings.name = parts.front();
  const auto& names = alignment::procedure_names();
  if (std::find(names.begin(), names.end(), spec.settings.name) == names.end()) {
    refuse(where,
           fmt::format("unknown procedure \"{}\"; known: {}", spec.settings.name, fmt::join(names, ", ")));
  }
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::size_t equals = parts[i].find('=');
    if (equals == std::string::npos && i > 1)
      refuse(where, fmt::format("\"{}\" is no key=value; write {}:4:k=2", parts[i], parts.front()));
    if (equals == std::string::npos)
      set_key(spec, where, "n", parts[i]);
    else
      set_key(spec, where, parts[i].substr(0, equals), parts[i].substr(equals + 1));
  }
  for (const auto& [key, value] : more) set_key(spec, {"--" + key, value}, key, value);
  check_whole(spec, where);
  return spec;
}

std::vector<ProcedureSpec> parse_procedures(std::string_view option, const std::string& list) {
  std::vector<ProcedureSpec> specs;
  for (const std::string& each : split(list, ',')) specs.push_back(parse_procedure(option, each));
  return specs;
}

std::vector<MatchupSpec> parse_mix(std::string_view option, const std::string& list) {
  std::vector<MatchupSpec> matchups;
  for (const std::string& each : split(list, ',')) {
    const std::size_t colon = each.find(':');
    const auto share = number_in<double>(each.substr(0, colon));
    if (!share || !(*share > 0) || colon == std::string::npos)
      refuse({option, each}, "a share above 0 and a procedure; write 0.5:standard,0.5:best_of_n:4");
    matchups.push_back({*share, parse_procedure(option, each.substr(colon + 1)), std::nullopt});
  }
  return matchups;
}

std::string ProcedureSpec::label() const {
  std::string text = alignment::describe(procedure());
  for (const auto& [key, value] : given)
    if (key != "n") text += fmt::format(" {}={}", key, value);
  return text;
}

std::string ProcedureSpec::yaml() const {
  std::string text = "procedure: " + settings.name;
  for (const auto& [key, value] : given) {
    if (key == "weights")
      text += fmt::format(", weights: [{}]", fmt::join(settings.weights, ", "));
    else
      text += fmt::format(", {}: {}", key, value);
  }
  return text;
}

alignment::Deployment deployment_of(const std::vector<MatchupSpec>& specs) {
  std::vector<alignment::Matchup> matchups;
  for (const MatchupSpec& each : specs) {
    for (const ProcedureSpec* side : {&each.policy, each.opponent ? &*each.opponent : &each.policy}) {
      if (!side->procedure().is_calibrated()) {
        throw ConfigurationError(fmt::format(
            "design: {} has no closed form, for its choice does not follow from ranks alone; align with "
            "transform: leave_one_out, which needs none",
            side->label()));
      }
    }
    matchups.push_back(
        {each.share, each.policy.procedure(), (each.opponent ? *each.opponent : each.policy).procedure()});
  }
  return alignment::Deployment(std::move(matchups));
}

std::string label_of(const std::vector<MatchupSpec>& matchups) {
  double whole = 0;
  for (const MatchupSpec& each : matchups) whole += each.share;
  const auto opponent = [](const MatchupSpec& each) {
    return each.opponent ? " against " + each.opponent->label() : "";
  };
  const std::string first = opponent(matchups.front());
  const bool common = std::all_of(matchups.begin(), matchups.end(),
                                  [&](const MatchupSpec& each) { return opponent(each) == first; });
  std::string text;
  for (const MatchupSpec& each : matchups) {
    if (!text.empty()) text += " + ";
    if (matchups.size() > 1) text += fmt::format("{:.3g} ", each.share / whole);
    text += each.policy.label();
    if (!common) text += opponent(each);
  }
  return common ? text + (matchups.size() > 1 && !first.empty() ? ", all" : "") + first : text;
}

std::string inference_yaml(const std::vector<MatchupSpec>& matchups) {
  const auto side = [](const MatchupSpec& each) {
    return each.policy.yaml() + (each.opponent ? ", opponent: {" + each.opponent->yaml() + "}" : "");
  };
  if (matchups.size() == 1) return "inference: {" + side(matchups.front()) + "}";
  std::string text = "inference:\n  mixture:\n";
  for (const MatchupSpec& each : matchups)
    text += fmt::format("    - {{share: {}, {}}}\n", each.share, side(each));
  text.pop_back();
  return text;
}

void TransformSpec::choose(double exponent) {
  settings.exponent = exponent;
  name = fmt::format("exponential:{}", exponent);
  choose_exponent = false;
}

std::string TransformSpec::yaml() const {
  using alignment::TransformKind;
  const std::string kind = "transform: " + alignment::transform_name(settings.kind);
  if (settings.kind == TransformKind::kExponential)
    return fmt::format("{}, exponent: {}", kind, settings.exponent);
  if (settings.kind == TransformKind::kTruncated) return fmt::format("{}, cut: {}", kind, settings.cut);
  if (settings.kind == TransformKind::kPoints)
    return fmt::format("{}, points: [{}]", kind, fmt::join(settings.points, ", "));
  return kind;
}

std::vector<TransformSpec> parse_transforms(std::string_view option, const std::string& list) {
  using alignment::TransformKind;
  std::vector<TransformSpec> specs;
  for (const std::string& each : split(list, ',')) {
    const Where where{option, each};
    const std::size_t colon = each.find(':');
    const bool has_parameter = colon != std::string::npos;
    const std::string parameter = has_parameter ? each.substr(colon + 1) : "";
    TransformSpec spec;
    spec.name = each;
    try {
      spec.settings.kind = alignment::transform_kind(each.substr(0, colon));
    } catch (const std::invalid_argument& error) {
      refuse(where, error.what());
    }
    switch (spec.settings.kind) {
      case TransformKind::kExponential:
        spec.choose_exponent = !has_parameter;
        if (has_parameter) spec.settings.exponent = real(where, parameter, "exponential:10");
        break;
      case TransformKind::kTruncated:
        spec.settings.cut = real(where, parameter, "truncated:0.5");
        break;
      case TransformKind::kPoints:
        spec.settings.points = reals(where, parameter, "points:0/0/0.5/0.1/1/1 (u, Phi(u), u, Phi(u), ...)");
        break;
      case TransformKind::kRaw:
      case TransformKind::kZScore:
      case TransformKind::kLeaveOneOut:
        refuse(where, "it is no function of the calibrated reward and has no closed form");
      default:
        if (has_parameter) refuse(where, "it takes no parameter; write " + each.substr(0, colon));
    }
    try {  // settings out of range
      if (spec.settings.kind != TransformKind::kOptimal)
        alignment::make_transform(spec.settings, alignment::make_procedure("standard", 1), 1);
    } catch (const std::invalid_argument& error) {
      refuse(where, error.what());
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace infalign::stages
