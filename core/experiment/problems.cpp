#include "core/experiment/problems.h"

#include <algorithm>

namespace infalign::experiment {
namespace {

/// "PLACE: path: message"; an override's place is its path already.
std::string line_of(const Place& place, const std::string& path, const std::string& message) {
  const bool named = path.empty() || place.text == "--set " + path;
  return place.text + ": " + (named ? "" : path + ": ") + message;
}

bool is_within(const std::string& path, const std::string& section) {
  return path == section || section.empty() ||
         (path.size() > section.size() && path.starts_with(section) && path[section.size()] == '.');
}

}  // namespace

void Problems::add_once(std::vector<Line>& lines, Line line) {
  if (std::ranges::find(lines, line.text, &Line::text) == lines.end()) lines.push_back(std::move(line));
}

void Problems::add(const Place& place, const std::string& path, const std::string& message) {
  add_once(problems_, {place.line, line_of(place, path, message)});
  if (!path.empty()) distrust(path);
}

void Problems::warn(const Place& place, const std::string& path, const std::string& message) {
  add_once(warnings_, {place.line, line_of(place, path, message)});
}

bool Problems::sound(const std::string& path) const {
  return std::ranges::none_of(distrusted_, [&](const std::string& bad) { return is_within(path, bad); });
}

std::vector<std::string> Problems::in_order(std::vector<Line> lines) {
  std::ranges::stable_sort(lines, {}, &Line::order);
  std::vector<std::string> text;
  for (const Line& line : lines) text.push_back(line.text);
  return text;
}

std::string Problems::text() const {
  std::string text;
  for (const std::string& line : in_order(problems_)) text += (text.empty() ? "" : "\n") + line;
  return text;
}

std::vector<std::string> Problems::warnings() const { return in_order(warnings_); }

}  // namespace infalign::experiment
