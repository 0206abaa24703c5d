// What a key of the configuration is: a name, the field it fills, what it may be, and what it means. Sections
// bind keys to the fields of one Experiment; reading a file, writing the resolved file and printing the
// reference are three walks over the same sections, so that a key is described once, in keys.cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/experiment/experiment.h"

namespace infalign::experiment {

/// The field a key fills; its type is the key's type. Paths, texts of a list and an optional number may be
/// null: empty.
using Target = std::variant<std::string*, std::filesystem::path*, double*, std::optional<double>*,
                            std::int64_t*, std::uint64_t*, bool*, std::vector<Stage>*, std::vector<double>*,
                            std::vector<std::filesystem::path>*, std::vector<std::string>*>;

/// What a value may be. Numbers lie between low and high; texts with choices are one of them.
struct Rule {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_excluded = false, high_excluded = false;
  std::vector<std::string> choices;
  bool required = false;
  bool program = false;  // a list of texts is a program and its arguments

  Rule at_most(double value) const;
  Rule below(double value) const;
  bool holds(double value) const;
};

Rule anything();
Rule required();
Rule at_least(double value);
Rule above(double value);
Rule one_of(std::vector<std::string> choices);
Rule program();

struct Key {
  std::string name;
  Target target;
  Rule rule;
  std::string meaning;
};

struct Section {
  std::string name, meaning;
  std::vector<Key> keys = {};
  std::vector<std::string> alternatives = {};  // keys of which setting one unsets the others
  std::vector<Section> sections = {};
  bool is_list = false;  // then `sections` are its entries, which inherit from the section around the list
  std::string shorthand = {};  // the key for which a value or list in the section's place stands; "": none
  bool is_short = false;  // the other keys have their defaults, so that the resolved file uses the shorthand

  const Key* find(const std::string& key) const;
};

/// "whole number, at least 1": a key's type and rule in words.
std::string type_of(const Key& key);

/// Fills the key's field from a scalar's (or, for lists, the items') text. Returns what is wrong, or "".
/// A relative path becomes absolute, counted from `folder`; of a program and its arguments, so does what
/// names a file there, but not a program without a slash, which is looked for in PATH.
std::string assign(const Key& key, const std::string& text, const std::filesystem::path& folder);
std::string assign(const Key& key, const std::vector<std::string>& items,
                   const std::filesystem::path& folder);

/// Empties the key's field, for null; false when its type knows no emptiness.
bool clear(const Key& key);

/// True if the field is empty in the sense of `clear`.
bool is_empty(const Key& key);

/// The field's value as YAML that reads back as the same value.
std::string to_yaml(const Key& key);

/// A text as a YAML scalar, in quotes where it needs them.
std::string quoted(const std::string& text);

/// A number for a person: shortest form, whole numbers without a point.
std::string short_number(double value);

}  // namespace infalign::experiment
