#include "core/text/jinja/value.h"

#include <algorithm>
#include <limits>

#include "core/json/json.h"

namespace infalign::text::jinja {
namespace {

constexpr int kDeepestValue = 100;

constexpr std::size_t kMostKeys = 1000;  // of a dictionary, which is searched from front to back
constexpr std::size_t kScalarSize = 16;

void check_depth(int depth) {
  if (depth > kDeepestValue)
    throw TemplateError("a value nests more than " + std::to_string(kDeepestValue) + " levels deep");
}

[[noreturn]] void refuse_size() { throw TemplateError("a value is larger than 64 MiB"); }

void add(Extent& whole, const Value& part) {
  const Extent extent = part.extent();
  whole = {std::max(whole.depth, extent.depth + 1), whole.size + extent.size};
  check_depth(whole.depth);
  if (whole.size > kLargestValue) refuse_size();
}

bool is_scalar(const Value& value) { return value.is_none() || value.is_number() || value.is_string(); }

bool same_items(const Sequence& a, const Sequence& b) {
  return (a.kind == SequenceKind::kTuple) == (b.kind == SequenceKind::kTuple) && a.items == b.items;
}

bool same_entries(const Dictionary& a, const Dictionary& b) {
  return a.entries.size() == b.entries.size() && std::ranges::all_of(a.entries, [&](const auto& entry) {
           const Value* other = b.find(entry.first);
           return other && entry.second == *other;
         });
}

}  // namespace

const Value* Dictionary::find(const Value& key) const {
  const auto entry = std::ranges::find_if(entries, [&](const auto& e) { return e.first == key; });
  return entry == entries.end() ? nullptr : &entry->second;
}

Value::Value(std::string value) {
  if (value.size() > kLargestValue) refuse_size();
  holds_ = std::make_shared<const std::string>(std::move(value));
}

Value Value::undefined(std::string what) {
  Value value;
  value.holds_ = Undefined{std::move(what)};
  return value;
}

Value Value::sequence(SequenceKind kind, std::vector<Value> items) {
  Extent extent{1, kScalarSize};
  for (const Value& item : items) add(extent, item);
  Value value;
  value.holds_ = std::make_shared<const Sequence>(Sequence{kind, std::move(items), extent});
  return value;
}

Value Value::dictionary(const std::vector<std::pair<Value, Value>>& entries) {
  if (entries.size() > kMostKeys)
    throw TemplateError("a dictionary has more than " + std::to_string(kMostKeys) + " keys");
  Dictionary dictionary{{}, {1, kScalarSize}};
  for (const auto& [key, value] : entries) {
    if (!is_scalar(key)) throw TemplateError(key.kind() + " cannot be the key of a dictionary");
    add(dictionary.extent, key);
    add(dictionary.extent, value);
    if (const Value* old = dictionary.find(key)) {
      *const_cast<Value*>(old) = value;
    } else {
      dictionary.entries.emplace_back(key, value);
    }
  }
  Value value;
  value.holds_ = std::make_shared<const Dictionary>(std::move(dictionary));
  return value;
}

Value Value::from_json(const OrderedJson& json) {
  // Depth is checked on the way down, before the stack can suffer.
  const auto convert = [](const auto& self, const OrderedJson& from, int depth) -> Value {
    check_depth(depth);
    if (from.is_null()) return {};
    if (from.is_boolean()) return from.get<bool>();
    if (from.is_number_unsigned() && from.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
      throw TemplateError("a whole number is beyond 64 bits");
    if (from.is_number_integer()) return from.get<std::int64_t>();
    if (from.is_number()) return from.get<double>();
    if (from.is_string()) return from.get<std::string>();
    if (from.is_array()) {
      Values items;
      for (const auto& item : from) items.push_back(self(self, item, depth + 1));
      return sequence(SequenceKind::kList, std::move(items));
    }
    if (!from.is_object()) throw TemplateError("a value is of no kind that JSON has");
    std::vector<std::pair<Value, Value>> entries;
    for (const auto& [key, value] : from.items()) entries.emplace_back(key, self(self, value, depth + 1));
    return dictionary(entries);
  };
  return convert(convert, json, 0);
}

double Value::floating() const {
  return is_float() ? std::get<double>(holds_) : static_cast<double>(integer());
}

std::int64_t Value::integer() const {
  return is_bool() ? std::int64_t{std::get<bool>(holds_)} : std::get<std::int64_t>(holds_);
}

Namespace* Value::name_space() const {
  const auto* found = std::get_if<Namespace*>(&holds_);
  return found ? *found : nullptr;
}

const Macro* Value::macro() const {
  const auto* found = std::get_if<const Macro*>(&holds_);
  return found ? *found : nullptr;
}

const Loop* Value::loop() const {
  const auto* found = std::get_if<std::shared_ptr<const Loop>>(&holds_);
  return found ? found->get() : nullptr;
}

std::string Value::kind() const {
  if (is_undefined()) return "an undefined value";
  if (is_none()) return "none";
  if (is_bool()) return "a boolean";
  if (is_integer()) return "a whole number";
  if (is_float()) return "a float";
  if (is_string()) return "a string";
  if (is_dictionary()) return "a dictionary";
  if (name_space()) return "a namespace";
  if (macro()) return "a macro";
  if (loop()) return "a loop";
  if (const auto* method = std::get_if<Method>(&holds_)) return "the method '" + method->name + "'";
  if (function()) return "a function";
  switch (sequence().kind) {
    case SequenceKind::kList:
      return "a list";
    case SequenceKind::kTuple:
      return "a tuple";
    case SequenceKind::kView:
      return "a view or range";
    default:
      return "a generator (put `| list` behind it)";
  }
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_float()) return floating() != 0;
  if (is_number()) return integer() != 0;
  if (is_string()) return !string().empty();
  if (is_dictionary()) return !dictionary().entries.empty();
  if (is_generator()) throw TemplateError("whether " + kind() + " is true would not depend on what it holds");
  if (is_sequence()) return !sequence().items.empty();
  return true;
}

bool Value::operator==(const Value& other) const {
  if (is_number() && other.is_number()) {
    if (is_float() || other.is_float()) return floating() == other.floating();
    return integer() == other.integer();
  }
  if (holds_.index() != other.holds_.index()) return false;
  if (is_undefined() || is_none()) return true;
  if (is_string()) return string() == other.string();
  if (is_sequence())
    return &sequence() == &other.sequence() ||
           (!is_generator() && !other.is_generator() && same_items(sequence(), other.sequence()));
  if (is_dictionary()) return same_entries(dictionary(), other.dictionary());
  if (name_space()) return name_space() == other.name_space();
  if (macro()) return macro() == other.macro();
  if (loop()) return loop() == other.loop();
  throw TemplateError(kind() + " cannot be compared");
}

Extent Value::extent() const {
  if (is_string()) return {0, kScalarSize + string().size()};
  if (is_sequence()) return sequence().extent;
  if (is_dictionary()) return dictionary().extent;
  return loop() ? loop()->items->extent : Extent{0, kScalarSize};
}

}  // namespace infalign::text::jinja
