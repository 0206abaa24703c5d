// The walk over sections and nodes together; the hints for misspelt keys are most of it.
#include "core/experiment/reader.h"

#include <algorithm>
#include <numeric>

#include "core/experiment/environment.h"

namespace infalign::experiment {
namespace {

std::string kind_name(Node::Kind kind) {
  switch (kind) {
    case Node::Kind::kNull:
      return "nothing";
    case Node::Kind::kScalar:
      return "a value";
    case Node::Kind::kList:
      return "a list";
    case Node::Kind::kMap:
      return "a section";
  }
  return "";
}

/// Levenshtein: insertions, deletions and replacements that make `a` into `b`.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, diagonal + 1, replaced});
    }
  }
  return row[b.size()];
}

std::vector<std::string> names_in(const Section& section) {
  std::vector<std::string> names;
  for (const Key& key : section.keys) names.push_back(key.name);
  for (const Section& child : section.sections) names.push_back(child.name);
  return names;
}

/// The known name that `name` is a slip of, or "".
std::string nearest(const std::string& name, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, name.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) best = candidate, best_distance = distance;
  }
  return best;
}

/// The sections, from `section` down, that have a key or section of exactly this name.
void find_elsewhere(const Section& section, const std::string& path, const std::string& name,
                    std::vector<std::string>& found) {
  if (std::ranges::count(names_in(section), name) > 0) found.push_back(joined(path, name));
  if (section.is_list) return;
  for (const Section& child : section.sections) find_elsewhere(child, joined(path, child.name), name, found);
}

std::string alternatives_text(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  }
  return text;
}

}  // namespace

std::string joined(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

void Reader::read(const Section& section, const Node& node, const std::string& path) {
  const bool is_short = node.kind == Node::Kind::kScalar || node.kind == Node::Kind::kList;
  if (is_short && !section.shorthand.empty()) return read_key(*section.find(section.shorthand), node, path);
  if (is_short) {
    problems_->add(node.place, path, "expected a section with keys; found " + kind_name(node.kind));
    return;
  }

  std::vector<std::string> chosen;
  for (const std::string& name : section.alternatives) {
    const Node* child = node.find(name);
    if (child != nullptr && child->kind != Node::Kind::kNull) chosen.push_back(name);
  }
  if (chosen.size() > 1) {
    const Node* last = node.find(chosen.back());
    problems_->add(last->place, joined(path, chosen.back()),
                   chosen.front() + " is given too; keep one of them, or set the other to null");
  }
  // One of them set here puts out of force whichever was inherited.
  if (!chosen.empty()) {
    for (const std::string& name : section.alternatives) clear(*section.find(name));
  }

  for (const Key& key : section.keys) {
    if (const Node* child = node.find(key.name)) {
      read_key(key, *child, joined(path, key.name));
    } else if (key.rule.required) {
      problems_->add(node.place, joined(path, key.name), "missing: " + key.meaning);
    }
  }
  for (const Section& child : section.sections) {
    const Node* written = node.find(child.name);
    const bool is_there = written != nullptr && written->kind != Node::Kind::kNull;
    if (is_there && !child.is_list) read(child, *written, joined(path, child.name));
  }
  for (const Node& child : node.children) refuse_unknown(section, child, path, joined(path, child.name));
}

void Reader::read_key(const Key& key, const Node& node, const std::string& path) {
  const auto refuse = [&](const std::string& message) { problems_->add(node.place, path, message); };
  const auto expanded = [&](const Node& scalar) {
    Expansion expansion = expand_environment(scalar.text);
    if (!expansion.problem.empty()) refuse(expansion.problem);
    return expansion.text;
  };
  std::string problem;
  if (node.kind == Node::Kind::kScalar) {
    const std::string text = expanded(node);
    if (problems_->sound(path)) problem = assign(key, text, folder_);
  } else if (node.kind == Node::Kind::kList) {
    std::vector<std::string> items;
    for (const Node& item : node.children) {
      if (item.kind == Node::Kind::kList || item.kind == Node::Kind::kMap)
        return problems_->add(
            item.place, path,
            "expected " + type_of(key) + "; item " + item.name + " is " + kind_name(item.kind));
      items.push_back(expanded(item));
    }
    if (problems_->sound(path)) problem = assign(key, items, folder_);
  } else if (node.kind == Node::Kind::kMap || !clear(key)) {
    problem = "expected " + type_of(key) + "; found " + kind_name(node.kind);
  } else if (key.rule.required) {
    problem = "must not be empty";
  }
  if (!problem.empty()) refuse(problem);
}

void Reader::refuse_unknown(const Section& section, const Node& node, const std::string& section_path,
                            const std::string& path) {
  const std::vector<std::string> known = names_in(section);
  if (std::ranges::count(known, node.name) > 0) return;

  std::vector<std::string> elsewhere;
  find_elsewhere(*root_, "", node.name, elsewhere);
  const std::string meant = nearest(node.name, known);
  std::string hint;
  if (!meant.empty()) {
    hint = "did you mean " + meant + "?";
    problems_->distrust(joined(section_path, meant));
  } else if (!elsewhere.empty()) {
    hint = "did you mean " + alternatives_text(elsewhere) + "?";
    for (const std::string& other : elsewhere) problems_->distrust(other);
  } else {
    hint = "known here: " + alternatives_text(known);
  }
  problems_->add(node.place, path, "unknown key; " + hint);
}

}  // namespace infalign::experiment
