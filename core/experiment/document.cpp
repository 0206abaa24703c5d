#include "core/experiment/document.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <system_error>

#include "core/error.h"

namespace infalign::experiment {
namespace {

// Anchors let a short file describe a tree without end; no configuration needs more than this.
constexpr int kMaxDepth = 16;
constexpr int kMaxNodes = 10000;

/// Turns yaml-cpp's nodes into ours. In an override every node has the override's place.
class Converter {
 public:
  Converter(std::string file, Problems& problems) : file_(std::move(file)), problems_(&problems) {}
  explicit Converter(Place everywhere, Problems& problems)
      : everywhere_(std::move(everywhere)), fixed_(true), problems_(&problems) {}

  Node convert(const YAML::Node& yaml, std::string name, const std::string& path, const Place& place,
               int depth = 0) {
    Node node{std::move(name), Node::Kind::kNull, "", place, {}};
    if (depth > kMaxDepth || ++nodes_ > kMaxNodes) {
      if (!refused_) problems_->add(place, path, "nested too deeply, or too long");
      refused_ = true;
      return node;
    }
    if (yaml.IsScalar()) {
      node.kind = Node::Kind::kScalar;
      node.text = yaml.Scalar();
    } else if (yaml.IsSequence()) {
      node.kind = Node::Kind::kList;
      for (const YAML::Node& item : yaml) {
        std::string index = std::to_string(node.children.size());
        const std::string item_path = path + "." + index;
        node.children.push_back(convert(item, std::move(index), item_path, place_at(item, place), depth + 1));
      }
    } else if (yaml.IsMap()) {
      node.kind = Node::Kind::kMap;
      for (const auto& entry : yaml) convert_entry(entry.first, entry.second, path, depth, node);
    }
    return node;
  }

 private:
  void convert_entry(const YAML::Node& key, const YAML::Node& value, const std::string& path, int depth,
                     Node& map) {
    const Place place = place_at(key, map.place);
    if (!key.IsScalar()) {
      problems_->add(place, path, "a key must be a plain name");
      return;
    }
    const std::string& name = key.Scalar();
    const std::string child_path = path.empty() ? name : path + "." + name;
    if (const Node* first = map.find(name)) {
      problems_->add(place, child_path, "given twice, first at " + first->place.text + "; keep one");
      return;
    }
    map.children.push_back(convert(value, name, child_path, place, depth + 1));
  }

  Place place_at(const YAML::Node& yaml, const Place& otherwise) const {
    if (fixed_) return everywhere_;
    const YAML::Mark mark = yaml.Mark();
    if (mark.is_null()) return otherwise;
    return {file_ + ":" + std::to_string(mark.line + 1), mark.line + 1};
  }

  std::string file_;
  Place everywhere_;
  bool fixed_ = false, refused_ = false;
  int nodes_ = 0;
  Problems* problems_;
};

std::string read_file(const std::filesystem::path& file) {
  const auto refuse = [&](const std::string& why) {
    throw ConfigurationError(file.string() + ": cannot be read (" + why + ")");
  };
  if (std::filesystem::is_directory(file)) refuse("it is a folder; name the YAML file");
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) refuse(std::generic_category().message(errno));
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (stream.bad()) refuse(std::generic_category().message(errno));
  return text;
}

/// Lays one "key.path=value" over the tree; sections that are not there yet are made.
void apply_override(const std::string& override_text, Node& root, Problems& problems) {
  const std::size_t equals = override_text.find('=');
  const std::string path = override_text.substr(0, equals);
  const Place place{"--set " + path, Place::kCommandLine};
  const auto refuse = [&](const std::string& message) { problems.add(place, path, message); };
  if (equals == std::string::npos) return refuse("expected key.path=value");
  YAML::Node value;
  try {
    value = YAML::Load(override_text.substr(equals + 1));
  } catch (const YAML::Exception& error) {
    return refuse("the value is not YAML: " + error.msg);
  }

  Node* node = &root;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    const std::string parent = path.substr(0, begin == 0 ? 0 : begin - 1);
    begin = end + 1;
    if (name.empty()) return refuse("expected key.path=value with names between the dots");
    if (Node* child = node->find(name)) {
      node = child;
    } else if (node->kind == Node::Kind::kList) {
      return refuse(parent + " is a list of " + std::to_string(node->children.size()) +
                    "; name an entry by its index, from 0");
    } else if (node->kind == Node::Kind::kScalar) {
      return refuse(parent + " has a value of its own (" + node->text + "), and no keys below it");
    } else {
      node->kind = Node::Kind::kMap;
      node->children.push_back({name, Node::Kind::kNull, "", place, {}});
      node = &node->children.back();
    }
  }
  *node = Converter(place, problems).convert(value, std::string(node->name), path, place);
}

}  // namespace

const Node* Node::find(const std::string& child) const {
  const auto found = std::ranges::find(children, child, &Node::name);
  return found == children.end() ? nullptr : &*found;
}

Node* Node::find(const std::string& child) {
  return const_cast<Node*>(static_cast<const Node*>(this)->find(child));
}

Node read_document(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                   Problems& problems) {
  const Place whole{file.string(), 0};
  Node root;
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(read_file(file));
    if (documents.size() > 1) problems.add(whole, "", "holds several YAML documents (`---`); keep one");
    const YAML::Node first = documents.empty() ? YAML::Node() : documents.front();
    root = Converter(file.string(), problems).convert(first, "", "", whole);
  } catch (const YAML::Exception& error) {
    throw ConfigurationError(file.string() + ":" + std::to_string(error.mark.line + 1) + ":" +
                             std::to_string(error.mark.column + 1) + ": not YAML: " + error.msg);
  }
  for (const std::string& text : overrides) apply_override(text, root, problems);
  return root;
}

const Node* find_path(const Node& root, const std::string& path) {
  const Node* node = &root;
  for (std::size_t begin = 0; node != nullptr && begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    node = node->find(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return node;
}

Place place_of(const Node& root, const std::string& path) {
  for (std::string around = path; !around.empty();) {
    if (const Node* node = find_path(root, around)) return node->place;
    const std::size_t dot = around.rfind('.');
    around.resize(dot == std::string::npos ? 0 : dot);
  }
  return root.place;
}

}  // namespace infalign::experiment
