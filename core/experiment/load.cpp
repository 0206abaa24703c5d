// The way from a file to an experiment: read its form, then its values, then check how they fit. Every step
// adds to one list of problems, so that a person sees all of them at once.
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/experiment/checks.h"
#include "core/experiment/document.h"
#include "core/experiment/keys.h"
#include "core/experiment/reader.h"
#include "core/experiment/writer.h"

namespace infalign::experiment {
namespace {

/// Fills the variants: each begins as what the section says and changes what its entry sets. Without a list
/// there is one. A nameless variant is named after its transform.
void read_variants(const Node& document, Reader& reader, Alignment& alignment, Problems& problems) {
  const std::string path = "alignment.variants";
  const Node* list = find_path(document, path);
  alignment.variants.assign(1, alignment.shared);
  if (list != nullptr && (list->kind != Node::Kind::kList || list->children.empty())) {
    problems.add(list->place, path,
                 "expected a list of at least one variant, such as {name: mine, transform: log}");
  } else if (list != nullptr) {
    alignment.variants.assign(list->children.size(), alignment.shared);
    for (std::size_t i = 0; i < list->children.size(); ++i) {
      const Node& entry = list->children[i];
      reader.read(describe(alignment.variants[i]), entry, joined(path, entry.name));
    }
  }
  for (Variant& variant : alignment.variants) {
    if (variant.name.empty()) variant.name = variant.transform;
  }
}

/// The entries of inference.mixture: each begins as what the section says.
void read_mixture(const Node& document, Reader& reader, Inference& inference, Problems& problems) {
  const std::string path = "inference.mixture";
  const Node* list = find_path(document, path);
  if (list == nullptr || list->kind == Node::Kind::kNull) return;
  if (list->kind != Node::Kind::kList || list->children.empty()) {
    problems.add(list->place, path,
                 "expected a list of procedures, such as {share: 0.5, procedure: best_of_n, n: 4}");
    return;
  }
  inference.mixture.assign(list->children.size(), inference);
  for (std::size_t i = 0; i < list->children.size(); ++i)
    reader.read(describe(inference.mixture[i]), list->children[i], joined(path, list->children[i].name));
}

/// Optional sections are there if they were written, and not unset by null.
void drop_unwritten_sections(const Node& document, Experiment& experiment) {
  const auto is_written = [&](const std::string& name) {
    const Node* section = document.find(name);
    return section != nullptr && section->kind != Node::Kind::kNull;
  };
  if (!is_written("finetune")) experiment.finetune.reset();
  if (!is_written("reward")) experiment.reward.reset();
  if (!is_written("judge")) experiment.judge.reset();
  if (!is_written("synthetic")) experiment.synthetic.reset();
  const Node* opponent = find_path(document, "inference.opponent");
  if (opponent == nullptr || opponent->kind == Node::Kind::kNull) experiment.inference.opponent.reset();
}

/// A chat template is a name or, if it ends in .jinja, a path, which counts from `folder`.
void resolve_chat_template(std::string& chat_template, const std::filesystem::path& folder) {
  if (const std::filesystem::path path = chat_template; path.extension() == ".jinja")
    chat_template = (folder / path).lexically_normal().string();
}

/// Fills in what the file leaves to other values.
void resolve(Experiment& experiment, const std::filesystem::path& folder) {
  resolve_chat_template(experiment.model.chat_template, folder);
  if (experiment.finetune && experiment.finetune->initial.empty() && !experiment.finetune->from_scratch) {
    experiment.finetune->initial = experiment.model.reference;
  }
  // |t| = 2.5 N is within a hair of the optimum at KL <= 0.5 (method, section 4).
  const double magnitude = 2.5 * static_cast<double>(experiment.inference.n);
  for (Variant& variant : experiment.alignment.variants) {
    if (variant.transform != "exponential" || variant.exponent != 0) continue;
    variant.exponent = experiment.inference.procedure == "worst_of_n" ? -magnitude : magnitude;
  }
}

}  // namespace

Experiment load_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                           std::optional<Stage> only) {
  Problems problems;
  const Node document = read_document(file, overrides, problems);

  Experiment experiment = with_every_section();
  const Section root = describe(experiment);
  const auto folder = std::filesystem::absolute(file).parent_path();
  Reader reader(root, folder, problems);
  reader.read(root, document, "");
  read_variants(document, reader, experiment.alignment, problems);
  read_mixture(document, reader, experiment.inference, problems);
  drop_unwritten_sections(document, experiment);
  resolve(experiment, folder);

  check_inputs(experiment, document, problems);
  check_values(experiment, document, problems);
  if (only && problems.sound("stages") && !experiment.runs(*only)) {
    problems.add(place_of(document, "stages"), "stages", "does not name " + stage_name(*only) + "; add it");
  }
  if (!problems.empty()) throw ConfigurationError(problems.text());
  experiment.warnings = problems.warnings();
  experiment.yaml = resolved_yaml(experiment);
  return experiment;
}

}  // namespace infalign::experiment
