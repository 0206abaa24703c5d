// From the document to the fields: a walk over the sections that assigns every key that was written and
// reports every one that is unknown, missing or not what it should be.
#pragma once

#include <filesystem>
#include <string>

#include "core/experiment/document.h"
#include "core/experiment/problems.h"
#include "core/experiment/schema.h"

namespace infalign::experiment {

class Reader {
 public:
  /// `root` lists all that is known, to look for what a misspelt key was meant to be; `folder` is where
  /// relative paths count from.
  Reader(const Section& root, std::filesystem::path folder, Problems& problems)
      : root_(&root), folder_(std::move(folder)), problems_(&problems) {}

  /// Reads `node` at the dotted `path` into `section` and the sections below it, but for lists' entries.
  void read(const Section& section, const Node& node, const std::string& path);

 private:
  void read_key(const Key& key, const Node& node, const std::string& path);
  void refuse_unknown(const Section& section, const Node& node, const std::string& section_path,
                      const std::string& path);

  const Section* root_;
  std::filesystem::path folder_;
  Problems* problems_;
};

/// "section.key", or the key alone at the top.
std::string joined(const std::string& path, const std::string& name);

}  // namespace infalign::experiment
