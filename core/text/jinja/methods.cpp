#include <algorithm>
#include <map>
#include <set>

#include "core/text/jinja/operations.h"
#include "core/text/jinja/python_text.h"

namespace infalign::text::jinja {
namespace {

using Method = Value (*)(const Value& receiver, const Arguments& arguments, Budget& budget);

Value list_of(const std::vector<std::string>& texts, Budget& budget) {
  budget.charge(texts.size() * sizeof(Value));
  return Value::sequence(SequenceKind::kList, Values(texts.begin(), texts.end()));
}

template <Sides sides>
Value strip(const Value& receiver, const Arguments& arguments, Budget&) {
  const auto characters = arguments.only({"chars"}).find("chars");
  if (!characters || characters->is_none()) return stripped(receiver.string(), sides);
  return stripped(receiver.string(), sides, arguments.text("chars"));
}

template <bool from_right>
Value split(const Value& receiver, const Arguments& arguments, Budget& budget) {
  arguments.only({"sep", "maxsplit"});
  const std::int64_t most = arguments.integer("maxsplit", -1);
  const auto separator = arguments.find("sep");
  if (!separator || separator->is_none())
    return list_of(split_at_space(receiver.string(), most, from_right), budget);
  const std::string text = arguments.text("sep");
  if (text.empty()) throw TemplateError("the separator of split is empty");
  return list_of(split_at(receiver.string(), text, most, from_right), budget);
}

Value splitlines(const Value& receiver, const Arguments& arguments, Budget& budget) {
  arguments.only({});
  return list_of(split_lines(receiver.string()), budget);
}

template <bool at_end>
Value has_affix(const Value& receiver, const Arguments& arguments, Budget& budget) {
  const Value affix = arguments.only({"affix"}).get("affix");
  const bool one_of = affix.is_sequence() && affix.sequence().kind == SequenceKind::kTuple;
  for (const Value& one : one_of ? items_of(affix, budget) : Values{affix}) {
    if (!one.is_string()) throw TemplateError("needs a string, not " + one.kind());
    if (at_end ? receiver.string().ends_with(one.string()) : receiver.string().starts_with(one.string()))
      return true;
  }
  return false;
}

Value replace(const Value& receiver, const Arguments& arguments, Budget& budget) {
  arguments.only({"old", "new", "count"});
  const std::string from = arguments.text("old"), to = arguments.text("new");
  const std::int64_t most = arguments.integer("count", -1);
  budget.charge((receiver.string().size() / std::max<std::size_t>(1, from.size()) + 1) * (to.size() + 1));
  return replaced_in(receiver.string(), from, to, most);
}

template <std::string (*change)(std::string_view)>
Value changed(const Value& receiver, const Arguments& arguments, Budget&) {
  arguments.only({});
  return change(receiver.string());
}

Value find(const Value& receiver, const Arguments& arguments, Budget&) {
  const std::size_t at = find_in(receiver.string(), arguments.only({"sub"}).text("sub"));
  if (at == std::string::npos) return std::int64_t{-1};
  return length_of(std::string_view(receiver.string()).substr(0, at));
}

Value count(const Value& receiver, const Arguments& arguments, Budget&) {
  const std::string part = arguments.only({"sub"}).text("sub");
  if (part.empty()) return length_of(receiver.string()) + 1;
  std::int64_t found = 0;
  for (std::size_t at = 0; (at = find_in(receiver.string(), part, at)) != std::string::npos;
       at += part.size())
    ++found;
  return found;
}

template <bool at_end>
Value without_affix(const Value& receiver, const Arguments& arguments, Budget&) {
  const std::string affix = arguments.only({"affix"}).text("affix");
  std::string_view text = receiver.string();
  if (at_end && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!at_end && text.starts_with(affix)) text.remove_prefix(affix.size());
  return text;
}

Value join(const Value& receiver, const Arguments& arguments, Budget& budget) {
  std::string text;
  bool first = true;
  for (const Value& item : items_of(arguments.only({"iterable"}).get("iterable"), budget)) {
    if (!item.is_string()) throw TemplateError("joins strings, not " + item.kind());
    budget.charge(receiver.string().size() + item.string().size());
    if (!std::exchange(first, false)) text += receiver.string();
    text += item.string();
  }
  return text;
}

Value get(const Value& receiver, const Arguments& arguments, Budget& budget) {
  arguments.only({"key", "default"});
  budget.charge(receiver.dictionary().entries.size());
  const Value* found = receiver.dictionary().find(arguments.get("key"));
  return found ? *found : arguments.find("default").value_or(Value());
}

enum class Part { kKeys, kValues, kItems };

template <Part part>
Value view(const Value& receiver, const Arguments& arguments, Budget& budget) {
  arguments.only({});
  budget.charge(receiver.dictionary().entries.size() * sizeof(Value));
  Values items;
  for (const auto& [key, value] : receiver.dictionary().entries)
    items.push_back(part == Part::kKeys     ? key
                    : part == Part::kValues ? value
                                            : Value::sequence(SequenceKind::kTuple, {key, value}));
  return Value::sequence(SequenceKind::kView, std::move(items));
}

const std::map<std::string_view, Method> kStringMethods = {
    {"capitalize", changed<capitalized>},
    {"count", count},
    {"endswith", has_affix<true>},
    {"find", find},
    {"join", join},
    {"lower", changed<lower>},
    {"lstrip", strip<Sides::kLeft>},
    {"removeprefix", without_affix<false>},
    {"removesuffix", without_affix<true>},
    {"replace", replace},
    {"rsplit", split<true>},
    {"rstrip", strip<Sides::kRight>},
    {"split", split<false>},
    {"splitlines", splitlines},
    {"startswith", has_affix<false>},
    {"strip", strip<Sides::kBoth>},
    {"title", changed<titled>},
    {"upper", changed<upper>},
};

const std::map<std::string_view, Method> kDictionaryMethods = {
    {"get", get},
    {"items", view<Part::kItems>},
    {"keys", view<Part::kKeys>},
    {"values", view<Part::kValues>},
};

/// Python's other attributes: they are there, so a template that asks must not be told that they are not.
const std::set<std::string_view> kOtherOfStrings = {
    "casefold",     "center",     "encode",    "expandtabs",  "format",    "format_map",
    "index",        "isalnum",    "isalpha",   "isascii",     "isdecimal", "isdigit",
    "isidentifier", "islower",    "isnumeric", "isprintable", "isspace",   "istitle",
    "isupper",      "ljust",      "maketrans", "partition",   "rfind",     "rindex",
    "rjust",        "rpartition", "swapcase",  "translate",   "zfill"};
const std::set<std::string_view> kOtherOfDictionaries = {"clear",   "copy",       "fromkeys", "pop",
                                                         "popitem", "setdefault", "update"};
const std::set<std::string_view> kOtherOfSequences = {
    "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"};

bool has_method(const Value& value, std::string_view name) {
  if (value.is_string()) return kStringMethods.contains(name) || kOtherOfStrings.contains(name);
  if (value.is_dictionary()) return kDictionaryMethods.contains(name) || kOtherOfDictionaries.contains(name);
  return value.is_sequence() && kOtherOfSequences.contains(name);
}

Value loop_attribute(const Loop& loop, const std::string& name) {
  const Values& items = loop.items->items;
  const auto index = static_cast<std::int64_t>(loop.index), length = static_cast<std::int64_t>(items.size());
  if (name == "index0") return index;
  if (name == "index") return index + 1;
  if (name == "revindex0") return length - index - 1;
  if (name == "revindex") return length - index;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == length;
  if (name == "length") return length;
  if (name == "depth") return std::int64_t{1};  // counts only what 'recursive' nests
  if (name == "depth0") return std::int64_t{0};
  if (name == "previtem")
    return index > 0 ? items[loop.index - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return index + 1 < length ? items[loop.index + 1] : Value::undefined("there is no next item");
  throw TemplateError("loop." + name + " is not supported");
}

}  // namespace

Value attribute(const Value& value, const std::string& name, Budget& budget) {
  if (value.is_undefined()) throw TemplateError(value.undefined_because());
  if (name.starts_with("__")) throw TemplateError("the attribute '" + name + "' is not supported");
  if (const Namespace* space = value.name_space()) {
    budget.charge(space->entries.size());
    const auto entry =
        std::ranges::find_if(space->entries, [&](const auto& one) { return one.first == name; });
    return entry == space->entries.end() ? Value::undefined("the namespace has no '" + name + "'")
                                         : entry->second;
  }
  if (const Loop* loop = value.loop()) return loop_attribute(*loop, name);
  if (has_method(value, name)) return Value::Method{name};
  if (value.is_dictionary()) {
    budget.charge(value.dictionary().entries.size());
    if (const Value* found = value.dictionary().find(name)) return *found;
  }
  return Value::undefined(value.kind() + " has no '" + name + "'");
}

Value call_method(const Value& receiver, const std::string& name, const Arguments& arguments,
                  Budget& budget) {
  if (receiver.is_undefined()) throw TemplateError(receiver.undefined_because());
  if (receiver.is_string()) budget.charge(receiver.string().size());
  static const std::map<std::string_view, Method> kNone;
  const auto& methods = receiver.is_string()       ? kStringMethods
                        : receiver.is_dictionary() ? kDictionaryMethods
                                                   : kNone;
  const auto method = methods.find(name);
  if (method == methods.end())
    throw TemplateError("the method '" + name + "' of " + receiver.kind() + " is not supported");
  try {
    return method->second(receiver, arguments, budget);
  } catch (const TemplateError& error) {
    throw TemplateError("the method '" + name + "': " + error.what());
  }
}

}  // namespace infalign::text::jinja
