#include "core/experiment/schema.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/experiment/environment.h"

namespace infalign::experiment {
namespace {

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;  // C++20 finds this itself; clang before 17, which lints, does not

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

/// The shortest text that reads back as the same number, in the notation people use for its size and with a
/// point, so that every YAML reader sees a number.
std::string number_text(double value) {
  const double size = std::abs(value);
  const bool is_fixed = size == 0 || (size >= 1e-5 && size < 1e15);
  char buffer[64];
  const auto format = is_fixed ? std::chars_format::fixed : std::chars_format::scientific;
  std::string text(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, format).ptr);
  if (text.find('.') == std::string::npos) text.insert(std::min(text.find('e'), text.size()), ".0");
  return text;
}

/// The whole text as a T; a leading + is allowed.
template <class T>
std::optional<T> parse(const std::string& text) {
  const char* begin = text.data() + (text.starts_with('+') && !text.starts_with("+-") ? 1 : 0);
  const char* end = text.data() + text.size();
  T value{};
  const auto [rest, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

std::optional<double> parse_number(const std::string& text) {
  const std::optional<double> value = parse<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

/// 1e3 and 1000.0 are whole numbers too, as far as a double is exact.
template <class T>
std::optional<T> parse_whole(const std::string& text) {
  if (const std::optional<T> value = parse<T>(text)) return value;
  const std::optional<double> value = parse_number(text);
  if (!value || *value != std::floor(*value) || std::abs(*value) > 0x1p53) return std::nullopt;
  if (std::is_unsigned_v<T> && *value < 0) return std::nullopt;
  return static_cast<T>(*value);
}

std::string rule_text(const Rule& rule) {
  std::string text;
  if (std::isfinite(rule.low))
    text += (rule.low_excluded ? ", above " : ", at least ") + short_number(rule.low);
  if (std::isfinite(rule.high))
    text += (rule.high_excluded ? ", below " : ", at most ") + short_number(rule.high);
  return text;
}

std::string type_name(const Target& target) {
  return std::visit(
      Overloaded{
          [](const std::string*) { return "text"; }, [](const std::filesystem::path*) { return "path"; },
          [](const double*) { return "number"; }, [](const std::optional<double>*) { return "number"; },
          [](const std::int64_t*) { return "whole number"; },
          [](const std::uint64_t*) { return "whole number, at least 0"; },
          [](const bool*) { return "true or false"; }, [](const std::vector<Stage>*) { return "list"; },
          [](const std::vector<double>*) { return "list of numbers"; },
          [](const std::vector<std::filesystem::path>*) { return "path or list of paths"; },
          [](const std::vector<std::string>*) { return "text or list of texts"; }},
      target);
}

std::string expected(const Key& key, const std::string& text) {
  return "expected " + type_of(key) + "; found `" + text + "`";
}

std::filesystem::path absolute_path(const std::string& text, const std::filesystem::path& folder) {
  if (text.empty()) return {};
  std::filesystem::path path = (folder / text).lexically_normal();
  // "a/b/" and "a/b" are the same folder.
  return !path.has_filename() && path.has_relative_path() ? path.parent_path() : path;
}

/// A program and its arguments, of which those that name a file, or by a slash a folder, become absolute.
std::vector<std::string> absolute_command(std::vector<std::string> words,
                                          const std::filesystem::path& folder) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::error_code ignored;
    const bool has_slash = words[i].find('/') != std::string::npos;
    const auto status = std::filesystem::status(folder / words[i], ignored);
    const bool is_path = i == 0 ? has_slash : is_regular_file(status) || (has_slash && is_directory(status));
    if (is_path) words[i] = absolute_path(words[i], folder).string();
  }
  return words;
}

bool is_plain(const std::string& text) {
  static const std::string kMarks = "_./-";
  const auto is_letter = [](unsigned char c) { return std::isalpha(c) != 0 || c == '_' || c == '/'; };
  const bool simple = !text.empty() && is_letter(static_cast<unsigned char>(text[0])) &&
                      std::ranges::all_of(text, [](unsigned char c) {
                        return std::isalnum(c) != 0 || kMarks.find(static_cast<char>(c)) != std::string::npos;
                      });
  // Words that some YAML reader takes for something else than text.
  static const std::vector<std::string> kReserved = {"true", "false", "yes", "no", "on",
                                                     "off",  "null",  "y",   "n"};
  std::string lower = text;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return simple && std::ranges::find(kReserved, lower) == kReserved.end();
}

}  // namespace

Rule Rule::at_most(double value) const {
  Rule rule = *this;
  rule.high = value;
  return rule;
}

Rule Rule::below(double value) const {
  Rule rule = at_most(value);
  rule.high_excluded = true;
  return rule;
}

bool Rule::holds(double value) const {
  return (low_excluded ? value > low : value >= low) && (high_excluded ? value < high : value <= high);
}

Rule anything() { return {}; }

Rule required() {
  Rule rule;
  rule.required = true;
  return rule;
}

Rule at_least(double value) {
  Rule rule;
  rule.low = value;
  return rule;
}

Rule above(double value) {
  Rule rule = at_least(value);
  rule.low_excluded = true;
  return rule;
}

Rule one_of(std::vector<std::string> choices) {
  Rule rule;
  rule.choices = std::move(choices);
  return rule;
}

Rule program() {
  Rule rule;
  rule.program = true;
  return rule;
}

const Key* Section::find(const std::string& key) const {
  const auto found = std::ranges::find(keys, key, &Key::name);
  return found == keys.end() ? nullptr : &*found;
}

std::string type_of(const Key& key) {
  const bool is_list = std::holds_alternative<std::vector<Stage>*>(key.target);
  if (key.rule.program) return "list of texts";
  if (key.rule.choices.empty()) return type_name(key.target) + rule_text(key.rule);
  return (is_list ? "a list of: " : "one of ") + join(key.rule.choices);
}

std::string assign(const Key& key, const std::string& text, const std::filesystem::path& folder) {
  const auto set = [&](auto& field, const auto& value) -> std::string {
    if (!value || !key.rule.holds(static_cast<double>(*value))) return expected(key, text);
    field = *value;
    return "";
  };
  return std::visit(
      Overloaded{[&](std::string* field) -> std::string {
                   const std::vector<std::string>& choices = key.rule.choices;
                   const bool known = choices.empty() || std::ranges::find(choices, text) != choices.end();
                   if (!known) return expected(key, text);
                   if (text.empty() && key.rule.required) return "must not be empty";
                   *field = text;
                   return "";
                 },
                 [&](std::filesystem::path* field) -> std::string {
                   if (text.empty() && key.rule.required) return "must not be empty";
                   *field = absolute_path(text, folder);
                   return "";
                 },
                 [&](std::vector<std::filesystem::path>* field) -> std::string {
                   field->clear();
                   if (!text.empty()) field->push_back(absolute_path(text, folder));
                   return "";
                 },
                 [&](std::vector<std::string>* field) -> std::string {
                   if (key.rule.program) return expected(key, text);
                   if (text.empty()) return "must not be empty";
                   field->assign(1, text);
                   return "";
                 },
                 [&](double* field) { return set(*field, parse_number(text)); },
                 [&](std::optional<double>* field) { return set(*field, parse_number(text)); },
                 [&](std::int64_t* field) { return set(*field, parse_whole<std::int64_t>(text)); },
                 [&](std::uint64_t* field) { return set(*field, parse_whole<std::uint64_t>(text)); },
                 [&](bool* field) -> std::string {
                   if (text != "true" && text != "false") return expected(key, text);
                   *field = text == "true";
                   return "";
                 },
                 [&](auto*) { return expected(key, text); }},
      key.target);
}

std::string assign(const Key& key, const std::vector<std::string>& items,
                   const std::filesystem::path& folder) {
  if (auto* const* paths = std::get_if<std::vector<std::filesystem::path>*>(&key.target)) {
    if (items.empty() || std::ranges::count(items, "") > 0)
      return "expected " + type_of(key) + "; found " + (items.empty() ? "an empty list" : "an empty path");
    (*paths)->clear();
    for (const std::string& item : items) (*paths)->push_back(absolute_path(item, folder));
    return "";
  }
  auto* const* words = std::get_if<std::vector<std::string>*>(&key.target);
  if (words != nullptr && !key.rule.program) {
    if (items.empty() || std::ranges::count(items, "") > 0)
      return "expected " + type_of(key) + "; found " + (items.empty() ? "an empty list" : "an empty text");
    **words = items;
    return "";
  }
  if (words != nullptr) {
    if (items.empty() || items.front().empty())
      return "expected a program and its arguments, such as [python3, reward.py]; found " +
             std::string(items.empty() ? "an empty list" : "an empty name");
    **words = absolute_command(items, folder);
    return "";
  }
  if (auto* const* numbers = std::get_if<std::vector<double>*>(&key.target)) {
    (*numbers)->clear();
    for (const std::string& item : items) {
      const std::optional<double> value = parse_number(item);
      if (!value || !key.rule.holds(*value)) return expected(key, item);
      (*numbers)->push_back(*value);
    }
    return "";
  }
  auto* const* stages = std::get_if<std::vector<Stage>*>(&key.target);
  if (stages == nullptr) return "expected " + type_of(key) + "; found a list";
  (*stages)->clear();
  for (const std::string& item : items) {
    const auto known = std::ranges::find(all_stages(), item, stage_name);
    if (known == all_stages().end()) return expected(key, item);
    (*stages)->push_back(*known);
  }
  return "";
}

bool clear(const Key& key) {
  return std::visit(Overloaded{[](std::filesystem::path* field) { return field->clear(), true; },
                               [](std::optional<double>* field) { return field->reset(), true; },
                               [](std::vector<std::filesystem::path>* field) { return field->clear(), true; },
                               [](std::vector<std::string>* field) { return field->clear(), true; },
                               [](auto*) { return false; }},
                    key.target);
}

bool is_empty(const Key& key) {
  return std::visit(Overloaded{[](const std::filesystem::path* field) { return field->empty(); },
                               [](const std::optional<double>* field) { return !field->has_value(); },
                               [](const std::vector<std::filesystem::path>* field) { return field->empty(); },
                               [](const std::vector<std::string>* field) { return field->empty(); },
                               [](const auto*) { return false; }},
                    key.target);
}

std::string to_yaml(const Key& key) {
  if (is_empty(key)) return "null";
  return std::visit(Overloaded{[](const std::string* field) { return quoted(escape_environment(*field)); },
                               [](const std::filesystem::path* field) {
                                 return quoted(escape_environment(field->string()));
                               },
                               [](const double* field) { return number_text(*field); },
                               [](const std::optional<double>* field) { return number_text(**field); },
                               [](const std::int64_t* field) { return std::to_string(*field); },
                               [](const std::uint64_t* field) { return std::to_string(*field); },
                               [](const bool* field) { return std::string(*field ? "true" : "false"); },
                               [](const std::vector<double>* field) {
                                 std::vector<std::string> numbers;
                                 std::ranges::transform(*field, std::back_inserter(numbers), number_text);
                                 return '[' + join(numbers) + ']';
                               },
                               [](const std::vector<Stage>* field) {
                                 std::vector<std::string> names;
                                 std::ranges::transform(*field, std::back_inserter(names), stage_name);
                                 return '[' + join(names) + ']';
                               },
                               [](const std::vector<std::filesystem::path>* field) {
                                 std::vector<std::string> paths;
                                 for (const auto& path : *field)
                                   paths.push_back(quoted(escape_environment(path.string())));
                                 return paths.size() == 1 ? paths.front() : '[' + join(paths) + ']';
                               },
                               [](const std::vector<std::string>* field) {
                                 std::vector<std::string> words;
                                 for (const auto& word : *field)
                                   words.push_back(quoted(escape_environment(word)));
                                 return '[' + join(words) + ']';
                               }},
                    key.target);
}

std::string quoted(const std::string& text) {
  if (is_plain(text)) return text;
  static constexpr char kHex[] = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7f) {
      result += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      result += c;
    }
  }
  return result + '"';
}

std::string short_number(double value) {
  std::string text = number_text(value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text;
}

}  // namespace infalign::experiment
