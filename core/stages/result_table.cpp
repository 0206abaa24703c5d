#include "core/stages/result_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/json/json.h"
#include "core/stages/text_table.h"

namespace infalign::stages {
namespace {

constexpr double kSameKl = 0.05;  // nats: variants closer than this are compared at the same KL

std::string plain(double value, int decimals) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, decimals) : "-";
}

std::string with_interval(const Estimate& estimate, const char* format = "{:.3f}") {
  if (!estimate.known()) return "-";
  const std::string value = fmt::format(fmt::runtime(format), estimate.value);
  if (!std::isfinite(estimate.low) || !std::isfinite(estimate.high)) return value;
  return fmt::format("{} [{}, {}]", value, fmt::format(fmt::runtime(format), estimate.low),
                     fmt::format(fmt::runtime(format), estimate.high));
}

/// "B beats A by 0.021 [0.012, 0.030]" and its like; `difference` is B minus A.
std::string clause(const VariantRecord& a, const VariantRecord& b, const Estimate& difference) {
  if (difference.above_zero() || difference.below_zero()) {
    const bool ahead = difference.above_zero();
    const Estimate size = ahead ? difference : Estimate{-difference.value, -difference.high, -difference.low};
    return fmt::format("{} {} {} by {}", b.name, ahead ? "beats" : "falls behind", a.name,
                       with_interval(size));
  }
  return fmt::format("{} and {} cannot be told apart (difference {})", b.name, a.name,
                     with_interval(difference, "{:+.3f}"));
}

std::string alone(const VariantRecord& variant, const std::string& how) {
  const Estimate& won = variant.inference_win_rate;
  const char* verdict = won.low > 0.5    ? "better than the reference policy"
                        : won.high < 0.5 ? "worse than the reference policy"
                                         : "not to be told apart from the reference policy";
  return fmt::format("Under {}, {} wins {} of its comparisons with the reference policy: {}.", how,
                     variant.name, with_interval(won), verdict);
}

std::string kl_remark(const std::vector<VariantRecord>& variants) {
  double low = INFINITY, high = -INFINITY;
  for (const VariantRecord& variant : variants) {
    if (!variant.kl.known()) return "";
    low = std::min(low, variant.kl.value);
    high = std::max(high, variant.kl.value);
  }
  const std::string range = low == high ? plain(low, 2) : plain(low, 2) + " to " + plain(high, 2);
  if (high - low <= kSameKl)
    return fmt::format(" All stand at the same KL ({} nats, within {}).", range, kSameKl);
  return fmt::format(
      " Their KL differs ({} nats), so part of a difference may be distance from the reference policy rather "
      "than "
      "better use of it.",
      range);
}

std::string join(const std::vector<std::string>& parts) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += i + 1 == parts.size() ? " and " : ", ";
    text += parts[i];
  }
  return text;
}

}  // namespace

std::string conclusion(const EvaluationRecord& evaluation) {
  const auto& variants = evaluation.variants;
  if (variants.empty()) return "No variant was evaluated.";
  if (variants.size() == 1) return alone(variants.front(), evaluation.procedure_name());

  const auto comparisons = [&](auto&& difference_of) {
    std::vector<std::string> clauses;
    for (std::size_t i = variants.size() - 1; i > 0; --i) {
      const Estimate& difference = difference_of(variants[i]);
      if (difference.known()) clauses.push_back(clause(variants[i - 1], variants[i], difference));
    }
    return clauses;
  };
  const auto clauses =
      comparisons([](const VariantRecord& v) -> auto& { return v.to_previous.inference_win_rate; });
  const auto by_reward = comparisons([](const VariantRecord& v) -> auto& { return v.to_previous_by_reward; });
  if (clauses.empty()) return "The variants were not compared pair by pair.";
  const std::string evidence = clauses.size() == 1 ? "paired 95 % interval" : "paired 95 % intervals";
  std::string text =
      fmt::format("Under {}, {} ({} in brackets).", evaluation.procedure_name(), join(clauses), evidence);
  if (!by_reward.empty()) text += fmt::format(" By the reward they were trained on, {}.", join(by_reward));
  if (evaluation.judge_agreement.known())
    text += fmt::format(
        " Judge and reward order the reference policy's answers to a prompt alike by {} (rank correlation).",
        with_interval(evaluation.judge_agreement, "{:.2f}"));
  return text + kl_remark(variants);
}

std::string result_table(const Json& json) {
  const EvaluationRecord evaluation = parse_evaluation(json);
  const std::string how = evaluation.procedure_name();
  std::vector<std::vector<std::string>> rows(1);
  rows[0] = {"variant", "transform"};
  if (evaluation.has_procedure()) {
    rows[0].push_back(how + " win rate");
    if (evaluation.independent_judge) rows[0].push_back("by the reward");
    if (evaluation.values_reward) rows[0].push_back("answer's reward");
    rows[0].push_back("closed form");
  }
  for (const char* column : {"standard win rate", "KL (nats)", "reward", "tokens"}) rows[0].push_back(column);
  for (const VariantRecord& variant : evaluation.variants) {
    auto& row = rows.emplace_back(std::vector<std::string>{variant.name, variant.transform});
    if (evaluation.has_procedure()) {
      row.push_back(with_interval(variant.inference_win_rate));
      if (evaluation.independent_judge) row.push_back(plain(variant.win_rate_by_reward.value, 3));
      if (evaluation.values_reward) row.push_back(with_interval(variant.inference_reward));
      row.push_back(plain(variant.predicted.inference_win_rate, 3));
    }
    row.push_back(with_interval(variant.standard_win_rate));
    row.push_back(with_interval(variant.kl, "{:.2f}"));
    row.push_back(plain(variant.reward.value, 2));
    row.push_back(plain(variant.response_length.value, 1));
  }
  return fmt::format(
             "Win rates against the reference policy on {} held-out prompts, {} answers to each{} (95 % "
             "intervals)\n\n",
             evaluation.prompts, evaluation.samples_per_prompt,
             evaluation.independent_judge ? ", decided by an independent judge" : "") +
         aligned_columns(rows) + "\n" + wrapped_lines(conclusion(evaluation), 100);
}

}  // namespace infalign::stages
