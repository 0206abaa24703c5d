// The configuration as it was written: a tree of named nodes, each with the place it came from, file and
// overrides merged. It stands between yaml-cpp, which only document.cpp knows, and the schema, which gives
// the values meaning.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/experiment/problems.h"

namespace infalign::experiment {

struct Node {
  enum class Kind { kNull, kScalar, kList, kMap };

  std::string name;  // the key in a map, the index in a list: both are found, and overridden, by name
  Kind kind = Kind::kNull;
  std::string text;  // of a scalar, before environment variables are expanded
  Place place;
  std::vector<Node> children;

  /// The child of that name, or null.
  const Node* find(const std::string& child) const;
  Node* find(const std::string& child);
};

/// Reads `file` and lays `overrides` ("key.path=value") over it; what is wrong in form goes to `problems`.
/// Errors: ConfigurationError for a file that cannot be read or is not YAML, with line and column.
Node read_document(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                   Problems& problems);

/// The node at a dotted path, or null when it was not written.
const Node* find_path(const Node& root, const std::string& path);

/// Where the value at a dotted path was written, or else the nearest section around it.
Place place_of(const Node& root, const std::string& path);

}  // namespace infalign::experiment
