// How a design is shown: aligned text, JSON lines, configuration lines, a page.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/json/json.h"
#include "core/stages/design.h"
#include "core/stages/report/figures.h"
#include "core/stages/report/html.h"
#include "core/stages/report/page.h"
#include "core/stages/text_table.h"

namespace infalign::stages {
namespace {

std::string at_what(const DesignQuestion& question) {
  return question.beta ? fmt::format("beta {:g}", *question.beta) : fmt::format("KL {:g}", question.kl);
}

const DesignRow* best_of(const std::vector<DesignRow>& rows) {
  const DesignRow* best = nullptr;
  for (const DesignRow& row : rows) {
    if (!row.trouble.empty()) continue;
    const bool optimal = row.transform.settings.kind == alignment::TransformKind::kOptimal;
    if (best == nullptr || optimal || row.reached.inference_win_rate > best->reached.inference_win_rate)
      best = &row;
    if (optimal) break;  // at equal beta others may win more, with more KL
  }
  return best;
}

/// The header and a row for each transform that reaches something.
std::vector<std::vector<std::string>> cells(const DesignQuestion& question,
                                            const std::vector<DesignRow>& rows) {
  std::vector<std::vector<std::string>> table{
      {"transform", "inference win rate", "standard win rate", "KL (nats)", "beta", "p(0)", "p(1)"}};
  for (const ProcedureSpec& each : question.measure) table.front().push_back(each.label());
  for (const DesignRow& row : rows) {
    if (!row.trouble.empty()) continue;
    const alignment::Prediction& r = row.reached;
    table.push_back({row.transform.name, fmt::format("{:.4f}", r.inference_win_rate),
                     fmt::format("{:.4f}", r.standard_win_rate), fmt::format("{:.4f}", r.kl),
                     fmt::format("{:.4g}", r.beta), fmt::format("{:.3g}", r.density_at_0),
                     fmt::format("{:.3g}", r.density_at_1)});
    for (double rate : row.win_rates) table.back().push_back(fmt::format("{:.4f}", rate));
  }
  return table;
}

std::string troubles(const std::vector<DesignRow>& rows) {
  std::string text;
  for (const DesignRow& row : rows)
    if (!row.trouble.empty()) text += fmt::format("{}: {}\n", row.transform.name, row.trouble);
  return text;
}

std::vector<std::string> curve_names(const std::vector<DesignRow>& points) {
  std::vector<std::string> names;
  for (const DesignRow& point : points)
    if (names.empty() || names.back() != point.transform.name) names.push_back(point.transform.name);
  return names;
}

std::string needed_text(const char* transform, const Recommendation::Needed& needed) {
  const auto count = [](const std::optional<alignment::RolloutsLoss>& enough) {
    return enough ? fmt::format("{} (loses {:.4f})", enough->rollouts, std::max(enough->loss, 0.0))
                  : std::string("more than 4096");
  };
  return fmt::format("{}: {} if they stay the same, {} if drawn anew at each visit\n", transform,
                     count(needed.fixed), count(needed.fresh));
}

OrderedJson needed_json(const Recommendation::Needed& needed) {
  OrderedJson json{{"fixed", nullptr}, {"fresh", nullptr}};
  if (needed.fixed) json["fixed"] = needed.fixed->rollouts;
  if (needed.fresh) json["fresh"] = needed.fresh->rollouts;
  return json;
}

}  // namespace

std::string design_table(const DesignQuestion& question, const std::vector<DesignRow>& rows) {
  const std::string trouble = troubles(rows);
  return fmt::format("{} at {}: the best policy for each transform, against the reference\n\n{}{}{}",
                     question.label(), at_what(question), aligned_columns(cells(question, rows)),
                     trouble.empty() ? "" : "\n", trouble);
}

std::string sweep_table(const DesignQuestion& question, const std::vector<DesignRow>& points) {
  const std::vector<std::string> names = curve_names(points);
  const auto table = [&](double alignment::Prediction::*rate) {
    std::vector<std::vector<std::string>> lines{{"KL (nats)"}};
    lines.front().insert(lines.front().end(), names.begin(), names.end());
    std::vector<double> kls(std::begin(kRoundKls), std::end(kRoundKls));
    double last = 0;
    for (const DesignRow& point : points) last = std::max(last, point.reached.kl);
    kls.erase(std::lower_bound(kls.begin(), kls.end(), last - 1e-6), kls.end());
    kls.push_back(last);
    for (double kl : kls) {
      lines.push_back({fmt::format("{:.2f}", kl)});
      for (const std::string& name : names) {
        const auto at = std::find_if(points.begin(), points.end(), [&](const DesignRow& point) {
          return point.transform.name == name && std::abs(point.reached.kl - kl) < 1e-6;
        });
        lines.back().push_back(at == points.end() ? "-" : fmt::format("{:.4f}", at->reached.*rate));
      }
    }
    return aligned_columns(lines);
  };
  return fmt::format(
      "Inference win rate under {}, against KL\n\n{}\nStandard win rate of the same policies\n\n{}",
      question.label(), table(&alignment::Prediction::inference_win_rate),
      table(&alignment::Prediction::standard_win_rate));
}

std::string recommendation_text(const DesignQuestion& question, const Recommendation& r) {
  const double won = r.exponential.prediction.inference_win_rate, best = r.optimal.inference_win_rate;
  std::string text = fmt::format(
      "Best exponential for {} at KL {:.3g}: exponential:{}, inference win rate {:.4f}, {:.4f} below the "
      "optimal transform's {:.4f}. ",
      question.label(), r.optimal.kl, r.exponential.exponent, won, std::max(best - won, 0.0), best);
  if (!r.saturation_kl)
    text += fmt::format("It stays within {:g} of the optimum up to KL {:g}.", kSaturationMargin,
                        kSaturationHighest);
  else if (*r.saturation_kl <= r.optimal.kl * 1.0001)
    text += fmt::format("It is more than {:g} below the optimum already; prefer optimal.", kSaturationMargin);
  else
    text += fmt::format(
        "From KL {:.2g} on it falls behind the optimum by more than {:g}; there take a larger exponent, or "
        "optimal.",
        *r.saturation_kl, kSaturationMargin);
  return wrapped_lines(text, 100) +
         fmt::format(
             "\nRollouts per prompt that lose at most {:g} (fixed ones need {} to carry the KL at all)\n",
             kMostLostToRollouts, r.bound) +
         needed_text("  exponential", r.exponential_rollouts) + needed_text("  optimal", r.optimal_rollouts);
}

std::string design_json(const DesignQuestion& question, const DesignRow& row) {
  OrderedJson json{
      {"transform", row.transform.name}, {"procedure", question.procedure()}, {"n", question.candidates()}};
  if (row.trouble.empty()) {
    json["beta"] = row.reached.beta;
    json["kl"] = row.reached.kl;
    json["standard_win_rate"] = row.reached.standard_win_rate;
    json["inference_win_rate"] = row.reached.inference_win_rate;
    json["density_at_0"] = row.reached.density_at_0;
    json["density_at_1"] = row.reached.density_at_1;
  } else {
    json["error"] = row.trouble;
  }
  if (question.matchups.size() > 1 || question.matchups.front().opponent)
    json["deployment"] = question.label();
  if (row.trouble.empty() && !question.measure.empty()) {
    OrderedJson rates;
    for (std::size_t i = 0; i < question.measure.size(); ++i)
      rates[question.measure[i].label()] = row.win_rates[i];
    json["win_rates"] = std::move(rates);
  }
  return json_text(json);
}

std::string recommendation_json(const DesignQuestion& question, const Recommendation& r) {
  OrderedJson json{{"recommendation", fmt::format("exponential:{}", r.exponential.exponent)},
                   {"procedure", question.procedure()},
                   {"n", question.candidates()},
                   {"exponent", r.exponential.exponent},
                   {"beta", r.exponential.prediction.beta},
                   {"kl", r.exponential.prediction.kl},
                   {"inference_win_rate", r.exponential.prediction.inference_win_rate},
                   {"optimal_inference_win_rate", r.optimal.inference_win_rate},
                   {"saturation_kl", nullptr},
                   {"rollouts", needed_json(r.exponential_rollouts)},
                   {"optimal_rollouts", needed_json(r.optimal_rollouts)},
                   {"fewest_fixed_rollouts", r.bound}};
  if (r.saturation_kl) json["saturation_kl"] = *r.saturation_kl;
  return json_text(json);
}

std::string design_yaml(const DesignQuestion& question, const std::vector<DesignRow>& rows,
                        const std::optional<Recommendation>& recommendation) {
  const DesignRow* best = best_of(rows);
  if (best == nullptr) return "";
  // A beta is meant for the scale it was asked on; the KL is the same on any.
  const bool by_kl = !question.beta || !best->transform.settings.normalised;
  const std::string strength = by_kl ? fmt::format("target_kl: {:.6g}", best->reached.kl)
                                     : fmt::format("beta: {:g}", best->reached.beta);
  std::string text = inference_yaml(question.matchups) + "\n";
  if (recommendation && recommendation->optimal_rollouts.fixed) {
    text += fmt::format("calibration: {{rollouts_per_prompt: {}}}\n",
                        recommendation->optimal_rollouts.fixed->rollouts);
  }
  return text + fmt::format("alignment: {{{}, {}}}\n", best->transform.yaml(), strength);
}

std::string design_page(const DesignQuestion& question, const std::vector<DesignRow>& rows,
                        const std::vector<DesignRow>& points, double kl_max, const std::string& gnuplot) {
  std::vector<Curve> curves;
  for (const DesignRow& point : points) {
    if (curves.empty() || curves.back().transform != point.transform.name)
      curves.push_back({point.transform.name, {{0, 0.5, 0.5}}});
    curves.back().points.push_back(
        {point.reached.kl, point.reached.standard_win_rate, point.reached.inference_win_rate});
  }
  // At KL 0 both sides are the reference; only against another procedure is that not one half.
  const alignment::OptimalPolicy reference([](double) { return 0.0; }, 1);
  for (Curve& curve : curves)
    curve.points.front().inference_win_rate = reference.win_rate(question.deployment);

  const std::string label = question.label();
  DataTable table{{}, {}};
  for (const auto& line : cells(question, rows)) {
    auto& row = table.header.empty() ? table.header : table.rows.emplace_back();
    for (const std::string& cell : line) row.push_back(escape(cell));
  }
  const DesignRow* best = best_of(rows);
  std::string body = "<header>\n<p class=\"eyebrow\">InfAlign design</p>\n<h1>" + escape(label) + "</h1>\n";
  if (best != nullptr) {
    body += fmt::format(
        "<p class=\"conclusion\">At {}, a policy aligned with {} can win {} % of its comparisons with the "
        "reference policy when answers are drawn this way, and {} % when they are drawn once.</p>\n",
        escape(at_what(question)), escape(best->transform.name),
        number(100 * best->reached.inference_win_rate, 1), number(100 * best->reached.standard_win_rate, 1));
  }
  body += "</header>\n<main>\n";
  body += section_html(
      "win-rate", "Win rate against KL",
      paragraph_html(
          "The most that each transform of the calibrated reward can reach at each distance from "
          "the reference policy. Computed from theory alone: it is the same for every model, reward "
          "model and prompt, as long as rewards are calibrated prompt by prompt.") +
          figures_html({closed_form_figure("inference_win_rate", label + " win rate", curves,
                                           Measure::kInferenceWinRate, kl_max),
                        closed_form_figure("standard_win_rate", "Standard win rate", curves,
                                           Measure::kStandardWinRate, kl_max)},
                       gnuplot));
  body += section_html("table", "At " + escape(at_what(question)),
                       "<div class=\"card headline\">" + table_html(table) + "</div>\n" +
                           (troubles(rows).empty() ? "" : paragraph_html(escape(troubles(rows)))));
  body += section_html("configuration", "To train for it",
                       "<pre class=\"card\">" + escape(design_yaml(question, rows)) + "</pre>\n");
  return page_html(label + " · InfAlign design", body + "</main>\n");
}

}  // namespace infalign::stages
