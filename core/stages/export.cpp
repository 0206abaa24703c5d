// Stages `export` and `report`: the aligned policies as Hugging Face folders that anything can serve, and the
// page that tells of the run.
#include "core/stages/adapter_folder.h"
#include "core/stages/align.h"
#include "core/stages/language_problem.h"
#include "core/stages/report.h"
#include "core/stages/run.h"
#include "core/storage/durable.h"

namespace infalign::stages {

namespace {

/// Writes the aligned policy of a variant: an adapter, a model with it, or a model one tensor after another.
void write_policy(const Run& run, LanguageProblem& problem, const experiment::Variant& variant,
                  bool as_adapter, const std::filesystem::path& target) {
  const auto& source = problem.policy_folder();
  const auto& transformer = source.transformer;
  const auto reader = open_aligned(run, problem, variant);
  std::vector<float> values;
  const auto read = [&](std::int64_t begin, std::int64_t size) {
    values.resize(static_cast<std::size_t>(size));
    reader.read("model", problem.tensors(), {begin, begin + size}, values);
    return std::span<const float>(values);
  };
  const auto* adapter = problem.adapter();
  if (adapter == nullptr) {
    const auto values_of = [&](const model::ParameterView& view) { return read(view.offset, view.size); };
    return save_model_folder(source.path, target, transformer, values_of, source.data_type);
  }
  read(0, adapter->size());
  if (as_adapter)
    return save_adapter_folder(description_folder(source.path), target, transformer, *adapter, values);
  kernels::Buffer<float> merged(run.on, static_cast<std::size_t>(transformer.layout().size()));
  source.gather_to(run.on, merged.span());
  const kernels::Mirror<float> added(run.on, values);
  model::merge(run.on, transformer.layout(), *adapter, {added.data(), values.size()}, merged.span());
  const kernels::Downloaded<float> whole(run.on, merged.span());
  save_model_folder(source.path, target, transformer, values_in(whole.span()), source.data_type);
}

}  // namespace

void export_policies(Run& run) {
  LanguageProblem problem(run.experiment, run.on, make_shards(run), machine_memory(run));
  for (const auto& variant : run.experiment.alignment.variants) {
    run.at("stage export (variant " + variant.name + ")");
    const auto target = run.experiment.policy_folder(variant.name);
    const auto key = "export-" + variant.name;
    const bool as_adapter = variant.lora.enabled() && run.experiment.exported.lora == "adapter";
    const auto fingerprint = alignment_fingerprint(run, problem, variant) + (as_adapter ? "-adapter" : "");
    if (run.is_done(key, fingerprint, target)) continue;
    if (run.root()) write_policy(run, problem, variant, as_adapter, target);
    run.mark_done(key, fingerprint);
    log_line(run, "export: " + target.string());
  }
}

void report(Run& run) {
  if (run.root()) write_report(run.experiment.output);
  run.ranks.barrier();
  log_line(run, "report: " + run.experiment.report_path().string());
}

}  // namespace infalign::stages
