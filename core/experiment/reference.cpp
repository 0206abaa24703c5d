// The reference of all keys, generated from the table that the program itself reads by, so that it cannot lag
// behind.
#include <algorithm>

#include "core/experiment/keys.h"
#include "core/experiment/reader.h"

namespace infalign::experiment {
namespace {

constexpr const char* kIntroduction = R"(# Configuration

<!-- Generated from core/experiment/keys.cpp; a test compares. To write it anew:
     INFALIGN_WRITE_REFERENCE=1 build/test_core_experiment --gtest_filter='Reference.*' -->

A run is one YAML file. It is read and checked whole before anything starts: every problem is reported at once, each
with its line and what would be right, and `infalign check CONFIG` prints the resolved file with every key. An unknown
key is an error. Whole numbers may be written as `1e3`.

**Paths** are relative to the folder of the file, wherever their text came from: the file, an environment variable or
the command line. The resolved file has them absolute.

**Environment variables** are expanded in every value: `${NAME}`, or `${NAME:-default}` where the variable may be unset
or empty; `$${` is a literal `${`. Since paths count from the file's folder, give a variable an absolute path, or write
`INFALIGN_DATA=$PWD/data infalign run ...`.

**Overrides** on the command line, `--set key.path=value` and repeatable, take YAML values and name the entries of a
list by their index from 0: `--set alignment.steps=500 --set alignment.variants.0.beta=0.1`. `null` unsets a value or
an optional section: `--set alignment.target_kl=null --set alignment.beta=0.1`.
)";

/// `|` would end a cell.
std::string cell(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '|' ? std::string("\\|") : std::string(1, c);
  return result;
}

std::string default_of(const Key& key) {
  if (key.rule.required) return "required";
  const std::string yaml = to_yaml(key);
  return is_empty(key) || yaml == "\"\"" ? "none" : '`' + yaml + '`';
}

void write_table(const std::vector<Key>& keys, std::string& text) {
  text += "\n| key | type | default | meaning |\n|---|---|---|---|\n";
  for (const Key& key : keys) {
    text += "| `" + key.name + "` | " + cell(type_of(key)) + " | " + default_of(key) + " | " +
            cell(key.meaning) + " |\n";
  }
}

bool same_keys(const Section& a, const Section& b) {
  return std::ranges::equal(
      a.keys, b.keys, [](const Key& x, const Key& y) { return x.name == y.name && x.meaning == y.meaning; });
}

/// The name of a section of `root` before `section` with the same keys, or "".
std::string twin_of(const Section& section, const Section& root) {
  for (const Section& other : root.sections) {
    if (other.name == section.name) return "";
    if (same_keys(other, section)) return other.name;
  }
  return "";
}

/// The path of a section inside a section of `root`, before the one at `path`, with the same keys, or "".
std::string inner_twin_of(const Section& inner, const std::string& path, const Section& root) {
  for (const Section& section : root.sections)
    for (const Section& other : section.sections) {
      const std::string other_path = joined(section.name, other.name);
      if (other_path == path) return "";
      if (same_keys(other, inner)) return other_path;
    }
  return "";
}

/// A section inside a section: with keys of its own, or with those of one before or around it.
void write_inner(const Section& inner, const Section& around, const std::string& path, const Section& root,
                 std::string& text) {
  text += "\n## " + path + "\n\n" + inner.meaning + "\n";
  const std::string twin = inner_twin_of(inner, path, root);
  if (!twin.empty()) {
    text += "\nIts keys are those of `" + twin + "`.\n";
    return;
  }
  if (around.find(inner.keys.front().name) == nullptr) return write_table(inner.keys, text);
  std::string shared;
  for (const Key& key : inner.keys) shared += (shared.empty() ? "`" : ", `") + key.name + "`";
  text += "\nIts keys are those of `" + around.name + "`: " + shared + ".\n";
}

/// The keys of a list's entry: those of its own in a table, the inherited ones by name.
void write_list(const Section& list, const Section& around, const std::string& path, std::string& text) {
  text += "\n## " + path + "\n\n" + list.meaning + "\n";
  std::vector<Key> own;
  std::string inherited;
  for (const Key& key : list.sections.front().keys) {
    if (around.find(key.name) == nullptr) {
      own.push_back(key);
    } else {
      inherited += (inherited.empty() ? "`" : ", `") + key.name + "`";
    }
  }
  for (const Section& section : list.sections.front().sections)
    inherited += (inherited.empty() ? "`" : ", `") + section.name + "`";
  write_table(own, text);
  text += "\nAn entry inherits from `" + around.name + "` what it does not set of " + inherited + ".\n";
}

}  // namespace

std::string configuration_reference() {
  Experiment defaults = with_every_section();
  defaults.alignment.variants.emplace_back();
  defaults.inference.mixture.emplace_back();
  const Section root = describe(defaults);
  std::string text = std::string(kIntroduction) + "\n## At the top\n";
  write_table(root.keys, text);
  for (const Section& section : root.sections) {
    text += "\n## " + section.name + "\n\n" + section.meaning + "\n";
    if (const std::string twin = twin_of(section, root); !twin.empty()) {
      text += "\nIts keys are those of `" + twin + "`.\n";
      continue;
    }
    write_table(section.keys, text);
    for (const Section& inner : section.sections) {
      const std::string path = section.name + "." + inner.name;
      if (inner.is_list)
        write_list(inner, section, path, text);
      else
        write_inner(inner, section, path, root, text);
    }
  }
  return text;
}

}  // namespace infalign::experiment
