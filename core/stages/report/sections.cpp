#include "core/stages/report/sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/stages/report/figures.h"
#include "core/stages/report/gnuplot.h"
#include "core/stages/report/html.h"
#include "core/stages/report/page.h"
#include "core/stages/result_table.h"

namespace infalign::stages {
namespace {

std::string absent(const std::string& html) { return "<p class=\"absent\">" + html + "</p>\n"; }

constexpr const char* kNotEvaluated =
    "This run has no evaluation.json: its evaluate stage has not been done, so there is nothing to compare "
    "yet.";

/// All variants of the run, evaluated ones first: a variant's place is its colour all over the page.
std::vector<std::string> variant_names(const RunFolder& run) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  if (run.evaluation) {
    for (const VariantRecord& variant : run.evaluation->variants) add(variant.name);
  }
  for (const TrainingRecord& record : run.training) {
    if (record.stage == "align") add(record.variant);
  }
  return names;
}

/// A variant's mark: its colour and its shape in the pictures.
std::string mark(std::size_t series) {
  constexpr const char* kShapes[] = {"●", "■", "▲", "▼", "◆", "⬟"};  // as kPointTypes of the figures
  return fmt::format("<span class=\"mark\" aria-hidden=\"true\" style=\"--c: var({})\">{}</span>",
                     series_variable(series), kShapes[series % std::size(kShapes)]);
}

std::string legend(const RunFolder& run, bool with_curves) {
  std::string html = "<ul class=\"legend\">";
  const auto names = variant_names(run);
  for (std::size_t i = 0; i < names.size(); ++i)
    html += fmt::format("<li>{}{}</li>", mark(i), escape(names[i]));
  if (with_curves) html += "<li><span class=\"dash\"></span>lines: closed-form optimum of a transform</li>";
  return html + "</ul>\n";
}

double total(const RunFolder& run, const std::string& key) {
  double sum = 0;
  for (const TrainingRecord& record : run.training) {
    for (const auto& [step, value] : record.series(key)) sum += value;
  }
  return sum;
}

/// "980", "101 thousand", "5.9 million".
std::string count(double value) {
  if (value >= 1e9) return fmt::format("{:.1f} billion", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.1f} million", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.0f} thousand", value / 1e3);
  return fmt::format("{:.0f}", value);
}

/// A model's answer often begins with the space or line break that follows its prompt.
std::string trimmed(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin);
}

DataTable headline_table(const EvaluationRecord& evaluation) {
  DataTable table{{"Variant"}, {}};
  const bool procedure = evaluation.has_procedure();
  if (procedure) table.header.push_back(escape(evaluation.procedure_name()) + " win rate");
  if (!procedure) table.header.push_back("Standard win rate");
  if (evaluation.independent_judge) table.header.push_back("By the reward trained on");
  if (evaluation.values_reward) table.header.push_back("Answer's reward");
  table.header.push_back("Closed form at this KL");
  if (procedure) table.header.push_back("Standard win rate");
  for (const char* column : {"KL (nats)", "Reward", "Tokens"}) table.header.push_back(column);
  for (std::size_t i = 0; i < evaluation.variants.size(); ++i) {
    const VariantRecord& variant = evaluation.variants[i];
    auto& row = table.rows.emplace_back();
    const std::string transform =
        variant.transform == variant.name
            ? ""
            : fmt::format(" <span class=\"sub\">{}</span>", escape(variant.transform));
    row.push_back(mark(i) + escape(variant.name) + transform);
    row.push_back(estimate_html(procedure ? variant.inference_win_rate : variant.standard_win_rate));
    if (evaluation.independent_judge) row.push_back(estimate_html(variant.win_rate_by_reward));
    if (evaluation.values_reward) row.push_back(estimate_html(variant.inference_reward));
    row.push_back(
        number(procedure ? variant.predicted.inference_win_rate : variant.predicted.standard_win_rate));
    if (procedure) row.push_back(estimate_html(variant.standard_win_rate));
    row.push_back(estimate_html(variant.kl, 2));
    row.push_back(estimate_html(variant.reward, 2));
    row.push_back(estimate_html(variant.response_length, 1));
  }
  return table;
}

DataTable difference_table(const EvaluationRecord& evaluation) {
  DataTable table{{"Paired difference"}, {}};
  if (evaluation.has_procedure()) table.header.push_back(escape(evaluation.procedure_name()) + " win rate");
  table.header.push_back("Standard win rate");
  const auto& variants = evaluation.variants;
  const auto add = [&](const VariantRecord& from, const VariantRecord& to, const Difference& difference) {
    if (!difference.inference_win_rate.known() && !difference.standard_win_rate.known()) return;
    auto& row = table.rows.emplace_back();
    row.push_back(fmt::format("{} − {}", escape(to.name), escape(from.name)));
    if (evaluation.has_procedure()) row.push_back(signed_estimate_html(difference.inference_win_rate));
    row.push_back(signed_estimate_html(difference.standard_win_rate));
  };
  for (std::size_t i = 1; i < variants.size(); ++i)
    add(variants[i - 1], variants[i], variants[i].to_previous);
  for (std::size_t i = 2; i < variants.size(); ++i) add(variants[0], variants[i], variants[i].to_first);
  return table;
}

std::string answer_html(const Answer& answer, const std::string& colour, bool best) {
  const std::string text = trimmed(answer.text);
  return fmt::format(
      "<div class=\"answer\" style=\"--c: var({})\"><header><span class=\"who\">{}</span>"
      "<span class=\"reward{}\">{} {}</span></header><p>{}</p></div>\n",
      colour, escape(answer.variant), best ? " best" : "", best ? "highest" : "reward",
      number(answer.reward, 2), text.empty() ? "<span class=\"sub\">(empty answer)</span>" : escape(text));
}

std::vector<TrainingSeries> series_of(const RunFolder& run, const std::string& stage,
                                      const std::string& key) {
  const auto names = variant_names(run);
  std::vector<TrainingSeries> series;
  for (const TrainingRecord& record : run.training) {
    if (record.stage != stage) continue;
    const auto at =
        static_cast<std::size_t>(std::find(names.begin(), names.end(), record.variant) - names.begin());
    TrainingSeries one{record.variant, stage == "align" ? at : series.size(), record.series(key)};
    if (!one.points.empty()) series.push_back(std::move(one));
  }
  std::sort(series.begin(), series.end(), [](const auto& a, const auto& b) { return a.colour < b.colour; });
  return series;
}

/// The KL that every variant was to reach, if it is one and the same.
std::optional<double> common_target_kl(const RunFolder& run) {
  if (!run.evaluation || run.evaluation->variants.empty()) return std::nullopt;
  const double target = run.evaluation->variants.front().target_kl;
  for (const VariantRecord& variant : run.evaluation->variants) {
    if (!(variant.target_kl == target)) return std::nullopt;
  }
  return target;
}

/// How many of the held-out pairs a reward model ranks as the annotator did, and from how many it learned.
std::string preference_accuracy_html(const PreferenceAccuracy& accuracy) {
  const auto& share = accuracy.heldout_accuracy;
  if (!share.known()) return "not measured: none held out";
  auto html = fmt::format("{:.1f} % <span class=\"interval\">{:.1f} to {:.1f}, of {} held-out pairs",
                          100 * share.value, 100 * share.low, 100 * share.high, accuracy.heldout_pairs);
  if (accuracy.training_pairs > 0) html += fmt::format("; learned from {}", accuracy.training_pairs);
  return html + "</span>";
}

}  // namespace

std::string header_section(const RunFolder& run) {
  std::string html =
      "<header>\n<p class=\"eyebrow\">InfAlign report</p>\n<h1>" + escape(run.name) + "</h1>\n";
  if (run.evaluation) html += "<p class=\"conclusion\">" + escape(conclusion(*run.evaluation)) + "</p>\n";
  html += "<dl class=\"facts\">";
  if (run.evaluation) {
    const EvaluationRecord& evaluation = *run.evaluation;
    html += fact_html("Inference procedure", escape(evaluation.procedure_name()));
    html += fact_html("Held-out prompts", fmt::format("{}", evaluation.prompts));
    html += fact_html("Answers to each prompt", fmt::format("{}", evaluation.samples_per_prompt));
    html += fact_html("Wins decided by",
                      evaluation.independent_judge ? "an independent judge" : "the reward model");
  }
  for (const PreferenceAccuracy& accuracy : run.preference_accuracy) {
    html +=
        fact_html(accuracy.model == "judge" ? "Judge, on held-out pairs" : "Reward model, on held-out pairs",
                  preference_accuracy_html(accuracy));
  }
  if (const double tokens = total(run, "tokens"); tokens > 0)
    html += fact_html("Tokens in training", count(tokens));
  if (const double seconds = total(run, "seconds"); seconds > 0)
    html += fact_html("Time in training", duration(seconds));
  return html + "</dl>\n</header>\n";
}

std::string result_section(const RunFolder& run) {
  if (!run.evaluation) return section_html("result", "Result", absent(kNotEvaluated));
  const EvaluationRecord& evaluation = *run.evaluation;
  std::string body = paragraph_html(fmt::format(
      "How often a variant's answer beats the reference policy's answer on prompts neither has trained on{}, "
      "with 95 % "
      "intervals over prompts.",
      evaluation.has_procedure() ? ", both drawn by " + escape(evaluation.procedure_name()) : ""));
  body += "<div class=\"card headline\">" + table_html(headline_table(evaluation)) + "</div>\n";
  const DataTable differences = difference_table(evaluation);
  if (!differences.rows.empty()) {
    body += "<div class=\"card differences\">" + table_html(differences) + "</div>\n";
  }
  return section_html("result", "Result", body);
}

std::string win_rate_section(const RunFolder& run, const std::string& gnuplot) {
  if (!run.evaluation) return "";
  const EvaluationRecord& evaluation = *run.evaluation;
  std::vector<Figure> figures;
  if (evaluation.has_procedure()) figures.push_back(win_rate_figure(evaluation, Measure::kInferenceWinRate));
  figures.push_back(win_rate_figure(evaluation, Measure::kStandardWinRate));
  return section_html(
      "win-rate", "Win rate against KL",
      paragraph_html(
          "What each step away from the reference policy buys. A line is the most that a transform can "
          "reach at each KL; a point is what was measured, with its 95 % intervals both ways.") +
          legend(run, true) + figures_html(figures, gnuplot));
}

std::string calibration_section(const RunFolder& run, const std::string& gnuplot) {
  const std::string title = "Calibration";
  if (!run.evaluation || run.evaluation->calibration.heldout_ranks.empty()) {
    return section_html("calibration", title,
                        absent("This run has no calibration check: it is made by the evaluate stage."));
  }
  const CalibrationRecord& calibration = run.evaluation->calibration;
  const std::string rollouts = calibration.rollouts > 0 ? fmt::format(" (K = {})", calibration.rollouts) : "";
  const std::string words =
      paragraph_html(
          "The calibrated reward of a fresh sample of the reference policy is its rank among other samples "
          "for "
          "the same prompt" +
          rollouts +
          ". If calibration is right, it is spread evenly over 0 to 1: the bars "
          "follow the dashed line.") +
      paragraph_html(fmt::format(
          "The shaded band holds 95 % of the bars of {} independent samples; samples of one prompt "
          "share a table and stray a little more. Largest distance from uniform: {}.",
          calibration.heldout_ranks.size(), number(calibration.uniformity_distance)));
  return section_html("calibration", title,
                      "<div class=\"beside\">" + figure_html(calibration_figure(calibration), gnuplot) +
                          "<div>" + words + "</div></div>\n");
}

std::string training_section(const RunFolder& run, const std::string& gnuplot) {
  std::vector<Figure> aligned, before;
  const auto add = [&](std::vector<Figure>& figures, const std::string& stage, const std::string& key,
                       const std::string& title, std::optional<double> target = std::nullopt) {
    const auto series = series_of(run, stage, key);
    if (!series.empty()) figures.push_back(training_figure(stage + "_" + key, title, series, target));
  };
  add(aligned, "align", "kl", "KL divergence (nats)", common_target_kl(run));
  const std::string procedure =
      run.evaluation && run.evaluation->has_procedure() ? run.evaluation->procedure_name() : "Inference-time";
  add(aligned, "align", "inference_win_rate", escape(procedure) + " win rate on training prompts");
  add(aligned, "align", "calibrated_reward", "Standard win rate on training prompts (calibrated reward)");
  add(aligned, "align", "response_length", "Length of answers (tokens)");
  add(aligned, "align", "beta", "β, the weight of the KL");
  add(aligned, "align", "gradient_norm", "Gradient norm");
  add(before, "finetune", "loss", "Fine-tuning: loss (nats per token)");
  add(before, "reward", "loss", "Reward model: loss");
  add(before, "reward", "accuracy", "Reward model: share of pairs ordered rightly");
  add(before, "judge", "loss", "Judge: loss");
  add(before, "judge", "accuracy", "Judge: share of pairs ordered rightly");
  if (aligned.empty() && before.empty()) {
    return section_html("training", "Training", absent("This run has no training steps in metrics.jsonl."));
  }
  std::string body;
  if (!aligned.empty()) {
    body += paragraph_html("Single steps faint, their moving average strong.") + legend(run, false) +
            figures_html(aligned, gnuplot);
    double gap = -1;
    for (const auto& series : series_of(run, "align", "sampler_trainer_gap")) {
      for (const auto& [step, value] : series.points) gap = std::max(gap, value);
    }
    if (gap >= 0) {
      body += paragraph_html(
          fmt::format("The log-probabilities of sampler and trainer never differed by more than {} nats.",
                      short_number(gap)));
    }
  }
  if (!before.empty()) body += paragraph_html("Before alignment:") + figures_html(before, gnuplot);
  if (run.unreadable_lines > 0) {
    body += paragraph_html(fmt::format(
        "{} unreadable line(s) of metrics.jsonl were left out; a run that is killed leaves such a line.",
        run.unreadable_lines));
  }
  return section_html("training", "Training", body);
}

std::string examples_section(const RunFolder& run) {
  if (!run.evaluation || run.evaluation->examples.empty()) {
    return section_html("answers", "Answers side by side",
                        absent("No example answers: they are written by the evaluate stage."));
  }
  const EvaluationRecord& evaluation = *run.evaluation;
  const auto names = variant_names(run);
  std::string body = paragraph_html(fmt::format("Held-out prompts, and the answer that {} gives to each.",
                                                escape(evaluation.procedure_name())));
  for (const Example& example : evaluation.examples) {
    std::vector<double> rewards = {example.reference.reward};
    for (const Answer& answer : example.answers) rewards.push_back(answer.reward);
    std::erase_if(rewards, [](double reward) { return !std::isfinite(reward); });
    const double best = rewards.empty() ? kMissing : *std::max_element(rewards.begin(), rewards.end());
    const bool unique = std::count(rewards.begin(), rewards.end(), best) == 1;
    body += "<article class=\"card example\"><p class=\"prompt\">" + escape(example.prompt) +
            "</p><div class=\"answers\">\n";
    Answer reference = example.reference;
    reference.variant = "reference";
    body += answer_html(reference, "--neutral", unique && reference.reward == best);
    for (const Answer& answer : example.answers) {
      const auto at =
          static_cast<std::size_t>(std::find(names.begin(), names.end(), answer.variant) - names.begin());
      body += answer_html(answer, series_variable(at), unique && answer.reward == best);
    }
    body += "</div></article>\n";
  }
  return section_html("answers", "Answers side by side", body);
}

std::string configuration_section(const RunFolder& run) {
  if (run.configuration.empty())
    return section_html("configuration", "What was run", absent("This run has no experiment.yaml."));
  return section_html(
      "configuration", "What was run",
      paragraph_html("The resolved configuration. Saved as a file it runs again: <code>infalign run "
                     "experiment.yaml</code>.") +
          "<pre class=\"card\">" + escape(run.configuration) + "</pre>\n");
}

std::string guide_section(const RunFolder& run) {
  std::string html = "<dl class=\"guide\">";
  const auto entry = [&](const std::string& term, const std::string& meaning) {
    html += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", term, meaning);
  };
  if (run.evaluation && run.evaluation->has_procedure()) {
    const EvaluationRecord& evaluation = *run.evaluation;
    const std::string name = escape(evaluation.procedure_name());
    const bool worst = evaluation.procedure == "worst_of_n";
    entry(name + " win rate",
          fmt::format("{} answers are drawn from the variant and the {} by reward is kept; the same is done "
                      "with the reference policy. "
                      "This is how often the variant's answer is the better one; 0.5 is no gain. It is "
                      "computed exactly from all "
                      "{} samples of a prompt, not by drawing again.",
                      evaluation.n, worst ? "worst" : "best", evaluation.samples_per_prompt));
  }
  entry("Standard win rate",
        "One answer from each side. Alignment for an inference procedure pays a little of it for more of the "
        "other.");
  entry("KL",
        "How far the variant has moved from the reference policy, in nats per answer (k1 estimate). Compare "
        "win rates at equal KL: "
        "anyone can win more by moving further.");
  entry("Closed form",
        "The win rate of the best possible policy for this transform at this KL, if rewards were continuous. "
        "What is "
        "missing to it is the model's limited power to foresee the reward of its own answer. Transforms of "
        "the raw "
        "reward have none.");
  entry("95 % interval",
        "Bootstrap over prompts. Differences are paired: both variants answer the same prompts, so their "
        "common "
        "luck cancels. An interval clear of zero is a difference that another set of prompts would very "
        "likely show too.");
  entry("Transform",
        "What the policy gradient sees of the calibrated reward: identity is ordinary alignment, optimal the "
        "fixed point "
        "for the procedure, raw the reward as it is.");
  entry("Reward",
        "The reward model's mean score of single answers. It is what training pushes up, not a proof of "
        "quality.");
  return section_html("guide", "How to read this page", html + "</dl>\n");
}

}  // namespace infalign::stages
