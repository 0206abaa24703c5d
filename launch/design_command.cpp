#include "launch/design_command.h"

#include "launch/procedure_options.h"

namespace infalign::launch {

CLI::App* add_design_command(CLI::App& app, stages::DesignOptions& options) {
  auto* design = app.add_subcommand(
      "design",
      "What a run can reach, before it is run: win rate against KL of any transform under any procedure, "
      "from "
      "theory.\n"
      "A procedure SPEC is name[:n][:key=value...], e.g. best_of_n:4, kth_of_n:8:k=7, "
      "best_of_random_n:weights=0.5/0/0.5.\n"
      "Example: infalign design --procedure best_of_n --n 4 --transform identity,exponential:10,optimal --kl "
      "0.5");
  design->add_option("--procedure", options.procedure, "SPEC: how answers will be drawn");
  add_procedure_keys(*design, options.keys);
  design->add_option("--opponent", options.opponent,
                     "SPEC: the reference's answers are drawn so; default: as the policy's");
  design->add_option("--mix", options.mix,
                     "SHARE:SPEC,...: several procedures at once, e.g. 0.5:standard,0.5:best_of_n:16");
  design->add_option("--transform", options.transforms,
                     "identity, log, power, logit, normal, optimal, exponential[:t], truncated:cut, "
                     "points:u/Phi/...; default: identity,log,exponential,optimal");
  design->add_option("--kl", options.kl,
                     "KL divergence, nats: beta is solved for each transform; default: 0.5");
  design->add_option("--beta", options.beta, "weight of the KL divergence, in place of --kl");
  design->add_option("--rollouts", options.rollouts, "K that logit and normal see; others see the exact rank")
      ->capture_default_str();
  design->add_flag("--raw-scale", options.raw_scale, "leave transforms unnormalised");
  design->add_option("--measure", options.measure, "SPEC,...: the same policies under other procedures");
  design->add_flag("--sweep", options.sweep, "win rate against KL, as a table");
  design->add_option("--kl-max", options.kl_max, "the sweep's last KL")->capture_default_str();
  design->add_option("--html", options.html, "the sweep as a self-contained page in this file");
  design->add_flag("--recommend", options.recommend,
                   "the best exponential, how far it carries, and the rollouts that calibration needs");
  design->add_flag("--json", options.json, "one JSON object a line");
  return design;
}

}  // namespace infalign::launch
