#include "core/experiment/writer.h"

#include <algorithm>

#include "core/experiment/keys.h"

namespace infalign::experiment {
namespace {

void write_section(const Section& section, const std::string& indent, std::string& yaml);

/// The keys of `section` that do not say what `around` says; of what is inside, the same.
void write_differences(const Section& section, const Section& around, std::string lead,
                       const std::string& indent, std::string& yaml) {
  for (const Key& key : section.keys) {
    const Key* inherited = around.find(key.name);
    if (inherited != nullptr && to_yaml(*inherited) == to_yaml(key)) continue;
    yaml += lead + key.name + ": " + to_yaml(key) + "\n";
    lead = indent;
  }
  for (const Section& child : section.sections) {
    const auto inherited = std::ranges::find(around.sections, child.name, &Section::name);
    std::string inside;
    write_differences(child, *inherited, indent + "  ", indent + "  ", inside);
    if (!inside.empty()) yaml += lead + child.name + ":\n" + inside, lead = indent;
  }
}

/// The entries of a list; what says what `around` says is inherited and left out.
void write_entries(const Section& list, const Section& around, const std::string& indent, std::string& yaml) {
  for (const Section& entry : list.sections)
    write_differences(entry, around, indent + "- ", indent + "  ", yaml);
}

void write_section(const Section& section, const std::string& indent, std::string& yaml) {
  for (const Key& key : section.keys) yaml += indent + key.name + ": " + to_yaml(key) + "\n";
  for (const Section& child : section.sections) {
    if (child.is_list && child.sections.empty()) continue;
    if (child.is_short) {
      yaml += indent + child.name + ": " + to_yaml(*child.find(child.shorthand)) + "\n";
      continue;
    }
    yaml += (indent.empty() ? "\n" : indent) + child.name + ":\n";
    if (child.is_list) {
      write_entries(child, section, indent + "  ", yaml);
    } else {
      write_section(child, indent + "  ", yaml);
    }
  }
}

}  // namespace

std::string resolved_yaml(const Experiment& experiment) {
  Experiment described = experiment;
  std::string yaml;
  write_section(describe(described), "", yaml);
  return yaml;
}

std::string section_yaml(const Experiment& experiment, const std::string& section) {
  Experiment described = experiment;
  const Section root = describe(described);
  std::string yaml;
  for (const Section& child : root.sections)
    if (child.name == section) write_section(child, "", yaml);
  return yaml;
}

}  // namespace infalign::experiment
