// Stages `export` and `report`: the aligned policies as Hugging Face folders that anything can serve, and the
// page that tells of the run.
#include "core/stages/adapter_folder.h"
#include "core/stages/align.h"
#include "core/stages/language_problem.h"
#include "core/stages/report.h"
#include "core/stages/run.h"
#include "core/storage/durable.h"

namespace infalign::stages {

void export_policies(Run& run) {
  LanguageProblem problem(run.experiment, run.on);
  const auto& source = problem.policy_folder();
  kernels::Buffer<float> parameters;
  for (const auto& variant : run.experiment.alignment.variants) {
    run.at("stage export (variant " + variant.name + ")");
    const auto target = run.experiment.policy_folder(variant.name);
    const auto key = "export-" + variant.name;
    const bool as_adapter = variant.lora.enabled() && run.experiment.exported.lora == "adapter";
    const auto fingerprint = alignment_fingerprint(run, problem, variant) + (as_adapter ? "-adapter" : "");
    if (run.is_done(key, fingerprint, target)) continue;
    load_aligned(run, problem, variant, parameters);
    if (run.root() && as_adapter) {
      save_adapter_folder(description_folder(source.path), target, source.transformer, *problem.adapter(),
                          kernels::Downloaded<float>(run.on, parameters.span()).span());
    } else if (run.root()) {
      if (const auto* adapter = problem.adapter()) {
        kernels::Buffer<float> merged(run.on, static_cast<std::size_t>(source.transformer.layout().size()));
        source.copy_to(run.on, merged.span());
        model::merge(run.on, source.transformer.layout(), *adapter, parameters.span(), merged.span());
        parameters = std::move(merged);
      }
      save_model_folder(source.path, target, source.transformer,
                        kernels::Downloaded<float>(run.on, parameters.span()).span(), source.data_type);
    }
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
