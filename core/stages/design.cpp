#include "core/stages/design.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ostream>

#include "core/error.h"
#include "core/experiment/deployment.h"
#include "core/stages/transformed_reward.h"
#include "core/storage/durable.h"

namespace infalign::stages {
namespace {

using alignment::TransformKind;

constexpr const char* kDefaultTransforms = "identity,log,exponential,optimal";
constexpr double kDefaultKl = 0.5;

std::vector<MatchupSpec> matchups_of(const DesignOptions& options) {
  if (options.procedure.empty() == options.mix.empty()) {
    throw ConfigurationError(
        "design: say how answers will be drawn: --procedure best_of_n --n 4, or --mix "
        "0.5:standard,0.5:best_of_n:4");
  }
  std::vector<MatchupSpec> matchups;
  if (options.mix.empty()) {
    matchups.push_back(
        {1, parse_procedure("--procedure", options.procedure, {options.keys.begin(), options.keys.end()}),
         std::nullopt});
  } else {
    if (!options.keys.empty()) {
      throw ConfigurationError(fmt::format("design: --{} belongs to --procedure; in --mix write best_of_n:4",
                                           options.keys.begin()->first));
    }
    matchups = parse_mix("--mix", options.mix);
  }
  if (!options.opponent.empty())
    for (MatchupSpec& each : matchups) each.opponent = parse_procedure("--opponent", options.opponent);
  return matchups;
}

void require_positive(const char* option, double value) {
  if (!(value > 0 && std::isfinite(value)))
    throw ConfigurationError(fmt::format("design: {} {}: it must be a number above 0", option, value));
}

alignment::TransformAt transform_of(const TransformSpec& spec, const DesignQuestion& question) {
  return [&spec, &question](double beta) {
    return alignment::make_transform(spec.settings, question.deployment, beta);
  };
}

alignment::Prediction at_beta(const TransformSpec& spec, const DesignQuestion& question, double beta) {
  return spec.settings.kind == TransformKind::kOptimal
             ? alignment::predict_optimal(question.deployment, beta)
             : alignment::predict(transform_of(spec, question), question.deployment, beta);
}

alignment::Prediction at_kl(const TransformSpec& spec, const DesignQuestion& question, double kl,
                            const alignment::BetaSearch& search = {}) {
  return spec.settings.kind == TransformKind::kOptimal
             ? alignment::predict_optimal_at_kl(question.deployment, kl, search)
             : alignment::predict_at_kl(transform_of(spec, question), question.deployment, kl, search);
}

/// `reach` of the transform, or what is in its way.
template <class Reach>
DesignRow row_of(const TransformSpec& spec, const DesignQuestion& question, const Reach& reach) {
  DesignRow row{spec, {}, {}, ""};
  try {
    if (spec.choose_exponent)
      row.transform.choose(
          alignment::best_exponential(question.deployment, question.kl_of_choice()).exponent);
    row.reached = reach(row.transform);
    if (!question.measure.empty()) {
      const double beta = row.reached.beta;
      const alignment::OptimalPolicy policy(transform_of(row.transform, question)(beta), beta);
      for (const ProcedureSpec& each : question.measure)
        row.win_rates.push_back(policy.win_rate(each.procedure()));
    }
  } catch (const std::exception& error) {  // this transform's trouble, not the others'
    row.trouble = error.what();
  }
  return row;
}

/// Between the round KLs more towards 0, where the win rate rises as the root of the KL.
std::vector<double> sweep_kls(double kl_max) {
  constexpr int kBetween = 20;
  std::vector<double> kls;
  for (int i = 1; i <= kBetween; ++i) kls.push_back(kl_max * i * i / (kBetween * kBetween));
  for (double kl : kRoundKls)
    if (kl < kl_max) kls.push_back(kl);
  std::sort(kls.begin(), kls.end());
  kls.erase(std::unique(kls.begin(), kls.end(), [](double a, double b) { return b - a < 1e-9; }), kls.end());
  return kls;
}

}  // namespace

DesignQuestion::DesignQuestion(const DesignOptions& options)
    : matchups(matchups_of(options)),
      deployment(deployment_of(matchups)),
      transforms(parse_transforms("--transform",
                                  options.transforms.empty() ? kDefaultTransforms : options.transforms)),
      beta(options.beta),
      kl(options.kl.value_or(options.sweep ? std::min(kDefaultKl, options.kl_max) : kDefaultKl)) {
  if (options.beta && options.kl) throw ConfigurationError("design: give --beta or --kl, not both");
  if (options.beta) require_positive("--beta", *options.beta);
  require_positive("--kl", kl);
  require_positive("--kl-max", options.kl_max);
  if (options.rollouts < 1) throw ConfigurationError("design: --rollouts must be at least 1");
  if (!options.measure.empty()) measure = parse_procedures("--measure", options.measure);
  for (const ProcedureSpec& each : measure) deployment_of({{1, each, std::nullopt}});
  for (TransformSpec& each : transforms) {
    each.settings.normalised = !options.raw_scale;
    const bool unbounded =
        each.settings.kind == TransformKind::kLogit || each.settings.kind == TransformKind::kNormal;
    if (unbounded) each.settings.rollouts = options.rollouts;
  }
}

double DesignQuestion::kl_of_choice() const {
  return beta ? alignment::solve_fixed_point(deployment, *beta).kl : kl;
}

std::string DesignQuestion::procedure() const {
  return matchups.size() == 1 ? matchups.front().policy.settings.name : label();
}

std::vector<DesignRow> design_rows(const DesignQuestion& question) {
  std::vector<DesignRow> rows;
  for (const TransformSpec& spec : question.transforms) {
    rows.push_back(row_of(spec, question, [&](const TransformSpec& chosen) {
      return question.beta ? at_beta(chosen, question, *question.beta) : at_kl(chosen, question, question.kl);
    }));
  }
  return rows;
}

std::vector<DesignRow> design_sweep(const DesignQuestion& question, double kl_max) {
  std::vector<DesignRow> points;
  for (TransformSpec spec : question.transforms) {
    alignment::BetaSearch search{1, 1e-8};
    for (double kl : sweep_kls(kl_max)) {
      DesignRow point = row_of(
          spec, question, [&](const TransformSpec& chosen) { return at_kl(chosen, question, kl, search); });
      if (!point.trouble.empty()) break;
      spec = point.transform;  // an exponent is chosen once
      search.start = point.reached.beta;
      points.push_back(std::move(point));
    }
  }
  return points;
}

Recommendation recommend(const DesignQuestion& question) {
  using alignment::Rollouts;
  const double kl = question.kl_of_choice();
  Recommendation result;
  result.exponential = alignment::best_exponential(question.deployment, kl);
  result.optimal = alignment::predict_optimal_at_kl(question.deployment, kl);
  result.saturation_kl = alignment::saturation_kl(question.deployment, result.exponential.exponent, kl,
                                                  kSaturationMargin, kSaturationHighest);
  const auto needed = [&](TransformKind kind) -> Recommendation::Needed {
    alignment::TransformSettings settings;
    settings.kind = kind;
    settings.exponent = result.exponential.exponent;
    const auto with = [&](Rollouts rollouts) {
      return alignment::recommended_rollouts(settings, question.deployment, kl, rollouts,
                                             kMostLostToRollouts);
    };
    return {with(Rollouts::kFixed), with(Rollouts::kFresh)};
  };
  result.exponential_rollouts = needed(TransformKind::kExponential);
  result.optimal_rollouts = needed(TransformKind::kOptimal);
  while (alignment::harmonic_number(result.bound) < kl && result.bound < 1'000'000) ++result.bound;
  return result;
}

std::string rollouts_advice(const alignment::TransformSettings& transform,
                            const alignment::Deployment& deployment, double kl, std::int64_t rollouts) {
  using alignment::Rollouts;
  if (!alignment::is_calibrated(transform.kind) || !deployment.is_calibrated()) return "";
  try {
    const auto reached =
        alignment::rollouts_loss_at_kl(transform, deployment, kl, rollouts, Rollouts::kFixed);
    if (reached && reached->loss <= kMostLostToRollouts) return "";
    const std::string cost = reached ? fmt::format("can cost {:.3f} of the {} win rate at KL {:g}",
                                                   reached->loss, deployment.name(), kl)
                                     : fmt::format("do not carry a KL of {:g}", kl);
    const auto enough =
        alignment::recommended_rollouts(transform, deployment, kl, Rollouts::kFixed, kMostLostToRollouts);
    return fmt::format("{} rollouts per prompt {}; {}", rollouts, cost,
                       enough
                           ? fmt::format("with {} it is at most {:g}", enough->rollouts, kMostLostToRollouts)
                           : std::string("a transform that is less steep needs fewer"));
  } catch (const std::runtime_error&) {  // a KL out of this transform's reach is for others to report
    return "";
  }
}

std::vector<std::string> rollouts_advice(const experiment::Experiment& experiment) {
  std::vector<std::string> lines;
  const auto& calibration = experiment.calibration;
  if (!experiment.runs(experiment::Stage::kAlign) || calibration.fresh || calibration.mode != "prompt")
    return lines;
  const auto deployment = experiment::deployment(experiment.inference);
  for (const auto& variant : experiment.alignment.variants) {
    if (!variant.target_kl) continue;
    const auto settings = transform_settings(variant, calibration.rollouts_per_prompt);
    const auto advice =
        rollouts_advice(settings, deployment, *variant.target_kl, calibration.rollouts_per_prompt);
    if (!advice.empty())
      lines.push_back("variant " + variant.name + ": " + advice + " (or draw them anew: calibration.fresh)");
  }
  return lines;
}

std::string as_comments(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "# " + line + "\n";
  return text;
}

void design(const DesignOptions& options, std::ostream& out) {
  const DesignQuestion question(options);
  if (!options.html.empty() && !options.sweep)
    throw ConfigurationError("design: --html draws the sweep; add --sweep");
  if (options.sweep && options.beta)
    throw ConfigurationError("design: --sweep goes over the KL; leave --beta out");
  const bool page = !options.html.empty();
  const auto rows = options.sweep && !page ? std::vector<DesignRow>{} : design_rows(question);
  const auto points = options.sweep ? design_sweep(question, options.kl_max) : std::vector<DesignRow>{};
  const auto& shown = options.sweep ? points : rows;
  const auto reached = [](const DesignRow& row) { return row.trouble.empty(); };
  if (std::none_of(shown.begin(), shown.end(), reached)) {
    throw ConfigurationError(
        shown.empty()
            ? "design: no transform reaches any KL of the sweep"
            : fmt::format("design: --transform {}: {}", shown.front().transform.name, shown.front().trouble));
  }
  if (options.json)
    for (const DesignRow& row : shown) out << design_json(question, row) << '\n';
  else
    out << (options.sweep ? sweep_table(question, points) : design_table(question, rows));
  std::optional<Recommendation> recommendation;
  if (options.recommend) {
    recommendation = recommend(question);
    out << (options.json ? recommendation_json(question, *recommendation) + "\n"
                         : "\n" + recommendation_text(question, *recommendation));
  }
  if (!options.json && !options.sweep) out << '\n' << design_yaml(question, rows, recommendation);
  if (page) {
    storage::write_file_durably(options.html, design_page(question, rows, points, options.kl_max));
    if (!options.json) out << "\nPage: " << options.html.string() << '\n';
  }
}

}  // namespace infalign::stages
