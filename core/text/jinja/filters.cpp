#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>

#include "core/text/jinja/operations.h"
#include "core/text/jinja/python_text.h"

namespace infalign::text::jinja {
namespace {

using Filter = Value (*)(const Value& value, const Arguments& arguments, Budget& budget);

/// str(value), which costs what it writes.
std::string written(const Value& value, Budget& budget) {
  budget.charge(value.extent().size);
  return to_text(value);
}

Value list(Values items) { return Value::sequence(SequenceKind::kList, std::move(items)); }
Value generator(Values items) { return Value::sequence(SequenceKind::kGenerator, std::move(items)); }

template <std::string (*change)(std::string_view)>
Value change_text(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({});
  return change(written(value, budget));
}

/// Jinja's title, which unlike Python's begins words behind spaces, hyphens and opening brackets alone.
std::string title_words(std::string_view text) {
  const std::string capitals = upper(text), small = lower(text);  // upper refuses what is beyond ASCII
  std::string result;
  bool begins = true;
  for (std::size_t i = 0; i < text.size(); ++i) {
    result += begins ? capitals[i] : small[i];
    begins = std::string_view("- \t\n\r\f\v\x1c\x1d\x1e\x1f({[<").find(text[i]) != std::string_view::npos;
  }
  return result;
}

Value trim(const Value& value, const Arguments& arguments, Budget& budget) {
  const auto characters = arguments.only({"chars"}).find("chars");
  const std::string text = written(value, budget);
  if (!characters || characters->is_none()) return stripped(text, Sides::kBoth);
  return stripped(text, Sides::kBoth, arguments.text("chars"));
}

Value length(const Value& value, const Arguments& arguments, Budget&) {
  arguments.only({});
  if (value.is_undefined()) return std::int64_t{0};
  if (value.is_string()) return length_of(value.string());
  if (value.is_dictionary()) return static_cast<std::int64_t>(value.dictionary().entries.size());
  if (!value.is_sequence() || value.is_generator()) throw TemplateError(value.kind() + " has no length");
  return static_cast<std::int64_t>(value.sequence().items.size());
}

Value first(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({});
  const Values items = items_of(value, budget);
  return items.empty() ? Value::undefined("there is no first item") : items.front();
}

Value last(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({});
  if (value.is_generator()) throw TemplateError(value.kind() + " has no last item");
  const Values items = items_of(value, budget);
  return items.empty() ? Value::undefined("there is no last item") : items.back();
}

/// value.a.b of "a.b", as map, selectattr and others read it.
Value at_path(Value value, const Value& path, Budget& budget) {
  if (!path.is_string()) return item(value, path, budget);
  for (const std::string& name : split_at(path.string(), ".", -1, false)) {
    const bool is_index =
        !name.empty() && std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
    if (is_index && name.size() > 9) throw TemplateError("the item " + name + " is out of range");
    value = is_index ? item(value, static_cast<std::int64_t>(std::stoi(name)), budget)
                     : item(value, name, budget);
  }
  return value;
}

Value join_filter(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({"d", "attribute"});
  const std::string separator = arguments.find("d") ? written(arguments.get("d"), budget) : "";
  const auto path = arguments.find("attribute");
  std::string text;
  bool first_one = true;
  for (const Value& one : items_of(value, budget)) {
    const Value part = path ? at_path(one, *path, budget) : one;
    budget.charge(separator.size() + part.extent().size);
    if (!std::exchange(first_one, false)) text += separator;
    text += written(part, budget);
  }
  return text;
}

Value default_value(const Value& value, const Arguments& arguments, Budget&) {
  arguments.only({"default_value", "boolean"});
  const bool missing = value.is_undefined() || (arguments.flag("boolean") && !value.truth());
  return missing ? arguments.find("default_value").value_or("") : value;
}

Value replace_filter(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({"old", "new", "count"});
  const std::string text = written(value, budget), from = written(arguments.get("old"), budget),
                    to = written(arguments.get("new"), budget);
  const auto count = arguments.find("count");
  const std::int64_t most = count && !count->is_none() ? arguments.integer("count", -1) : -1;
  budget.charge((text.size() / std::max<std::size_t>(1, from.size()) + 1) * (to.size() + 1));
  return replaced_in(text, from, to, most);
}

Value as_string(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({});
  return written(value, budget);
}

template <class Number>
std::optional<Number> parsed(std::string_view text) {
  text = stripped(text, Sides::kBoth);
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  if (text.find('_') != std::string_view::npos) throw TemplateError("numbers with '_' are not supported");
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range)
    throw TemplateError("the number " + std::string(text) + " is too large");
  return error == std::errc{} && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

Value truncated(double number) {
  if (!(std::abs(number) < 9.2e18)) throw TemplateError("the number is too large to be whole");
  return static_cast<std::int64_t>(number);
}

Value as_integer(const Value& value, const Arguments& arguments, Budget&) {
  const Value otherwise = arguments.only({"default"}).find("default").value_or(std::int64_t{0});
  if (value.is_float()) return truncated(value.floating());
  if (value.is_number()) return value.integer();
  if (!value.is_string()) return otherwise;
  if (const auto whole = parsed<std::int64_t>(value.string())) return *whole;
  if (const auto number = parsed<double>(value.string()); number && std::isfinite(*number))
    return truncated(*number);
  return otherwise;
}

Value as_float(const Value& value, const Arguments& arguments, Budget&) {
  const Value otherwise = arguments.only({"default"}).find("default").value_or(0.0);
  if (value.is_number()) return value.floating();
  if (!value.is_string()) return otherwise;
  const auto number = parsed<double>(value.string());
  return number ? Value(*number) : otherwise;
}

Value as_list(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({});
  return list(items_of(value, budget));
}

Value items(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({});
  if (value.is_undefined()) return generator({});
  if (!value.is_dictionary()) throw TemplateError("needs a dictionary, not " + value.kind());
  return generator(items_of(call_method(value, "items", {}, budget), budget));
}

Value reverse(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({});
  Values all = items_of(value, budget);
  std::ranges::reverse(all);
  if (!value.is_string()) return generator(std::move(all));
  std::string text;
  for (const Value& character : all) text += character.string();
  return text;
}

/// Stable, by keys that are numbers or strings; the case of letters does not count unless asked for.
void sort_by(std::vector<std::pair<Value, Value>>& keyed, bool case_sensitive, bool reversed,
             Budget& budget) {
  for (auto& [key, value] : keyed) {
    if (key.is_string() && !case_sensitive) key = lower(key.string());
    budget.charge(32 * (1 + key.extent().size));  // an item is compared some twenty times
  }
  const auto before = [&](const auto& a, const auto& b) {
    return reversed ? compare("<", b.first, a.first, budget) : compare("<", a.first, b.first, budget);
  };
  std::ranges::stable_sort(keyed, before);
}

Value values_of(const std::vector<std::pair<Value, Value>>& keyed) {
  Values values;
  for (const auto& [key, value] : keyed) values.push_back(value);
  return list(std::move(values));
}

Value sort(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({"reverse", "case_sensitive", "attribute"});
  const auto path = arguments.find("attribute");
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& one : items_of(value, budget))
    keyed.emplace_back(path ? at_path(one, *path, budget) : one, one);
  sort_by(keyed, arguments.flag("case_sensitive"), arguments.flag("reverse"), budget);
  return values_of(keyed);
}

Value dictsort(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({"case_sensitive", "by", "reverse"});
  const std::string by = arguments.find("by") ? arguments.text("by") : "key";
  if (by != "key" && by != "value") throw TemplateError("'by' must be \"key\" or \"value\"");
  if (!value.is_dictionary()) throw TemplateError("needs a dictionary, not " + value.kind());
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, entry] : value.dictionary().entries)
    keyed.emplace_back(by == "key" ? key : entry, Value::sequence(SequenceKind::kTuple, {key, entry}));
  sort_by(keyed, arguments.flag("case_sensitive"), arguments.flag("reverse"), budget);
  return values_of(keyed);
}

Value indent(const Value& value, const Arguments& arguments, Budget& budget) {
  arguments.only({"width", "first", "blank"});
  const auto width = arguments.find("width");
  const std::int64_t spaces = width && !width->is_string() ? arguments.integer("width", 4) : 4;
  if (spaces > 1000) throw TemplateError("the width is beyond 1000");
  const std::string before =
      width && width->is_string()
          ? width->string()
          : std::string(static_cast<std::size_t>(std::max<std::int64_t>(0, spaces)), ' ');
  std::string text;
  bool first_line = true;
  for (const std::string& line : split_lines(written(value, budget) + "\n")) {
    budget.charge(before.size() + line.size());
    const bool indents = first_line ? arguments.flag("first") : arguments.flag("blank") || !line.empty();
    if (!first_line) text += '\n';
    if (indents) text += before;
    text += line;
    first_line = false;
  }
  return text;
}

Value to_json_filter(const Value& value, const Arguments& arguments, Budget& budget) {
  budget.charge(value.extent().size);
  arguments.only({"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii_only = arguments.flag("ensure_ascii");
  style.sort_keys = arguments.flag("sort_keys");
  if (const auto indent = arguments.find("indent"); indent && !indent->is_none()) {
    style.indent = arguments.integer("indent", 0);
    if (*style.indent < 0 || *style.indent > 100) throw TemplateError("'indent' must be from 0 to 100");
    style.item_separator = ",";
  }
  if (const auto separators = arguments.find("separators"); separators && !separators->is_none()) {
    if (!separators->is_sequence() || separators->sequence().items.size() != 2 ||
        !std::ranges::all_of(separators->sequence().items, &Value::is_string))
      throw TemplateError("'separators' must be two strings");
    style.item_separator = separators->sequence().items[0].string();
    style.key_separator = separators->sequence().items[1].string();
  }
  return to_json(value, style);
}

Value map(const Value& value, const Arguments& arguments, Budget& budget) {
  Values mapped;
  const Values all = items_of(value, budget);
  if (arguments.positional().empty()) {
    arguments.only({"attribute", "default"});
    const Value path = arguments.get("attribute");
    const auto otherwise = arguments.find("default");
    for (const Value& one : all) {
      Value found = at_path(one, path, budget);
      mapped.push_back(found.is_undefined() && otherwise ? *otherwise : found);
    }
    return generator(std::move(mapped));
  }
  const Value& name = arguments.positional()[0];
  if (!name.is_string()) throw TemplateError("needs the name of a filter");
  for (const Value& one : all)
    mapped.push_back(apply_filter(name.string(), one, arguments.behind(1), budget));
  return generator(std::move(mapped));
}

template <bool wanted, bool by_attribute>
Value select(const Value& value, const Arguments& arguments, Budget& budget) {
  const std::size_t place = by_attribute ? 1 : 0;  // of the test among the arguments
  if (arguments.positional().size() < place) throw TemplateError("needs the name of an attribute");
  const bool has_test = arguments.positional().size() > place;
  if (has_test && !arguments.positional()[place].is_string()) throw TemplateError("needs the name of a test");
  Values chosen;
  for (const Value& one : items_of(value, budget)) {
    const Value asked = by_attribute ? at_path(one, arguments.positional()[0], budget) : one;
    const bool holds = has_test ? apply_test(arguments.positional()[place].string(), asked,
                                             arguments.behind(place + 1), budget)
                                : asked.truth();
    if (holds == wanted) chosen.push_back(one);
  }
  return generator(std::move(chosen));
}

const std::map<std::string_view, Filter> kFilters = {
    {"capitalize", change_text<capitalized>},
    {"count", length},
    {"d", default_value},
    {"default", default_value},
    {"dictsort", dictsort},
    {"first", first},
    {"float", as_float},
    {"indent", indent},
    {"int", as_integer},
    {"items", items},
    {"join", join_filter},
    {"last", last},
    {"length", length},
    {"list", as_list},
    {"lower", change_text<lower>},
    {"map", map},
    {"reject", select<false, false>},
    {"rejectattr", select<false, true>},
    {"replace", replace_filter},
    {"reverse", reverse},
    {"safe", as_string},
    {"select", select<true, false>},
    {"selectattr", select<true, true>},
    {"sort", sort},
    {"string", as_string},
    {"title", change_text<title_words>},
    {"tojson", to_json_filter},
    {"trim", trim},
    {"upper", change_text<upper>},
};

}  // namespace

Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments, Budget& budget) {
  const auto filter = kFilters.find(name);
  if (filter == kFilters.end()) throw TemplateError("the filter '" + name + "' is not supported");
  if (value.is_string()) budget.charge(value.string().size());
  try {
    return filter->second(value, arguments, budget);
  } catch (const TemplateError& error) {
    throw TemplateError("the filter '" + name + "': " + error.what());
  }
}

}  // namespace infalign::text::jinja
