#include <map>

#include "core/text/jinja/operations.h"

namespace infalign::text::jinja {
namespace {

using Kind = bool (*)(const Value& value);

bool can_be_iterated(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is_dictionary();
}

/// What Python can index: Jinja counts strings and dictionaries in.
bool is_sequence(const Value& value) {
  if (value.is_sequence())
    return value.sequence().kind == SequenceKind::kList || value.sequence().kind == SequenceKind::kTuple;
  return can_be_iterated(value);
}

std::int64_t whole(const Value& value) {
  if (!value.is_number() || value.is_float())
    throw TemplateError("needs a whole number, not " + value.kind());
  return value.integer();
}

const std::map<std::string_view, Kind> kKinds = {
    {"boolean", [](const Value& v) { return v.is_bool(); }},
    {"callable", [](const Value& v) { return v.macro() || v.function(); }},
    {"defined", [](const Value& v) { return !v.is_undefined(); }},
    {"even", [](const Value& v) { return whole(v) % 2 == 0; }},
    {"false", [](const Value& v) { return v.is_bool() && !v.truth(); }},
    {"float", [](const Value& v) { return v.is_float(); }},
    {"integer", [](const Value& v) { return v.is_integer(); }},
    {"iterable", can_be_iterated},
    {"mapping", [](const Value& v) { return v.is_dictionary(); }},
    {"none", [](const Value& v) { return v.is_none(); }},
    {"number", [](const Value& v) { return v.is_number(); }},
    {"odd", [](const Value& v) { return whole(v) % 2 != 0; }},
    {"sequence", is_sequence},
    {"string", [](const Value& v) { return v.is_string(); }},
    {"true", [](const Value& v) { return v.is_bool() && v.truth(); }},
    {"undefined", [](const Value& v) { return v.is_undefined(); }},
};

const std::map<std::string_view, std::string_view> kComparisons = {
    {"==", "=="},         {"eq", "=="},      {"equalto", "=="}, {"!=", "!="}, {"ne", "!="}, {"<", "<"},
    {"lt", "<"},          {"lessthan", "<"}, {"<=", "<="},      {"le", "<="}, {">", ">"},   {"gt", ">"},
    {"greaterthan", ">"}, {">=", ">="},      {"ge", ">="},      {"in", "in"},
};

}  // namespace

bool apply_test(const std::string& name, const Value& value, const Arguments& arguments, Budget& budget) {
  if (const auto kind = kKinds.find(name); kind != kKinds.end()) {
    arguments.only({});
    return kind->second(value);
  }
  if (const auto sign = kComparisons.find(name); sign != kComparisons.end())
    return compare(sign->second, value, arguments.only({"other"}).get("other"), budget);
  if (name == "divisibleby") {
    const Value number = arguments.only({"number"}).get("number");
    if (whole(number) == 0) throw TemplateError("division by zero");
    return arithmetic("%", value, number, budget) == Value(std::int64_t{0});
  }
  throw TemplateError("the test '" + name + "' is not supported");
}

}  // namespace infalign::text::jinja
