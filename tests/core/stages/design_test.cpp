#include "core/stages/design.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "core/error.h"

namespace infalign::stages {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

DesignOptions asked(const std::string& procedure, const std::string& transforms) {
  DesignOptions options;
  options.procedure = procedure;
  options.transforms = transforms;
  options.json = true;
  return options;
}

std::vector<json> answers(const DesignOptions& options) {
  std::stringstream out;
  design(options, out);
  std::vector<json> lines;
  for (std::string line; std::getline(out, line);) lines.push_back(json::parse(line));
  return lines;
}

/// What the command says when it refuses.
std::string refusal(const DesignOptions& options) {
  std::ostringstream out;
  try {
    design(options, out);
  } catch (const ConfigurationError& error) {
    EXPECT_THAT(std::string(error.what()),
                testing::AnyOf(testing::StartsWith("design: "), testing::StartsWith("--")));
    EXPECT_THAT(std::string(error.what()), Not(HasSubstr("\n")));
    return error.what();
  }
  ADD_FAILURE() << "not refused: " << out.str();
  return "";
}

TEST(ProcedureSpec, IsReadWithItsNumberAndKeys) {
  EXPECT_EQ(parse_procedure("--x", "best_of_n:4").settings.n, 4);
  EXPECT_EQ(parse_procedure("--x", "standard").settings.n, 1);
  const ProcedureSpec kth = parse_procedure("--x", "kth_of_n:8:k=7");
  EXPECT_EQ(kth.settings.n, 8);
  EXPECT_EQ(kth.settings.k, 7);
  EXPECT_EQ(kth.label(), "kth_of_n 8 k=7");
  EXPECT_EQ(kth.yaml(), "procedure: kth_of_n, n: 8, k: 7");
  EXPECT_EQ(parse_procedure("--x", "soft_best_of_n:strength=4").settings.strength, 4);
  EXPECT_THAT(parse_procedure("--x", "best_of_random_n:weights=0.5/0/0.5").settings.weights,
              ElementsAre(0.5, 0, 0.5));
  EXPECT_THAT(parse_procedure("--x", "best_of_random_n", {{"weights", "0.5,0,0.5"}}).settings.weights,
              ElementsAre(0.5, 0, 0.5));
  EXPECT_EQ(parse_procedure("--x", "above_quantile:quantile=0.25").settings.quantile, 0.25);
  EXPECT_EQ(parse_procedures("--x", "best_of_n:2,worst_of_n:4").size(), 2u);
}

TEST(ProcedureSpec, IsRefusedInOneLineThatSaysWhatWouldBeRight) {
  const std::pair<const char*, const char*> cases[] = {
      {"best_of_m:4", "known: standard, best_of_n"},
      {"best_of_n", "best_of_n:4"},
      {"best_of_n:0", "whole number from 1"},
      {"best_of_n:four", "write best_of_n:4"},
      {"best_of_n:4:7", "no key=value"},
      {"best_of_n:4:k=2", "best_of_n takes no k; kth_of_n does"},
      {"kth_of_n:4:k=5", "between 1 and n"},
      {"kth_of_n:4:j=5", "known: n, k, strength"},
      {"soft_best_of_n", "strength"},
      {"above_quantile:quantile=x", "not a number"},
      {"standard:4", "takes no n"},
      {"best_of_n:99999999999", "whole number from 1"}};
  for (const auto& [spec, words] : cases) {
    try {
      parse_procedure("--procedure", spec);
      ADD_FAILURE() << spec << " is not refused";
    } catch (const ConfigurationError& error) {
      EXPECT_THAT(std::string(error.what()), HasSubstr(words)) << spec;
      EXPECT_THAT(std::string(error.what()), HasSubstr("--procedure")) << spec;
      EXPECT_THAT(std::string(error.what()), Not(HasSubstr("\n"))) << spec;
    }
  }
}

TEST(TransformSpec, IsReadWithItsParameter) {
  const auto specs = parse_transforms(
      "--transform", "identity,exponential:-10,truncated:0.5,points:0/0/0.5/0.1/1/1,optimal");
  ASSERT_EQ(specs.size(), 5u);
  EXPECT_EQ(specs[1].settings.exponent, -10);
  EXPECT_FALSE(specs[1].choose_exponent);
  EXPECT_EQ(specs[1].yaml(), "transform: exponential, exponent: -10");
  EXPECT_EQ(specs[2].settings.cut, 0.5);
  EXPECT_THAT(specs[3].settings.points, ElementsAre(0, 0, 0.5, 0.1, 1, 1));
  EXPECT_TRUE(parse_transforms("--transform", "exponential")[0].choose_exponent);
}

TEST(TransformSpec, IsRefusedInOneLineThatSaysWhatWouldBeRight) {
  const std::pair<const char*, const char*> cases[] = {{"square", "known: identity"},
                                                       {"exponential:x", "write exponential:10"},
                                                       {"exponential:0", "must not be 0"},
                                                       {"truncated:1", "[0, 1)"},
                                                       {"points:0/1", "from u = 0 to u = 1"},
                                                       {"log:2", "takes no parameter"},
                                                       {"raw", "no closed form"},
                                                       {"identity,", "unknown transform"}};
  for (const auto& [spec, words] : cases)
    EXPECT_THAT(refusal(asked("best_of_n:4", spec)), HasSubstr(words)) << spec;
}

TEST(Design, ReachesTheMethodsNumbersAtKlOneHalf) {
  struct Case {
    const char *procedure, *transforms;
    std::vector<double> rates;
  };
  for (const Case& c :
       {Case{"best_of_n:4",
             "identity,log,exponential:5,exponential:10,optimal",
             {.7998, .7682, .8566, .8715, .8733}},
        Case{"worst_of_n:4", "identity,log,exponential:-10,optimal", {.8860, .9270, .9476, .9479}}}) {
    DesignOptions options = asked(c.procedure, c.transforms);
    options.kl = 0.5;
    const auto rows = answers(options);
    ASSERT_EQ(rows.size(), c.rates.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      EXPECT_NEAR(rows[i]["inference_win_rate"], c.rates[i], 5e-5) << rows[i];
      EXPECT_NEAR(rows[i]["kl"], 0.5, 1e-9) << rows[i];
    }
  }
}

TEST(Design, WritesTheKeysThatScriptsRead) {
  DesignOptions options = asked("best_of_n", "exponential:10");
  options.keys["n"] = "4";
  options.beta = 0.1;
  options.measure = "best_of_n:2,worst_of_n:4";
  std::ostringstream out;
  design(options, out);
  const auto row = nlohmann::ordered_json::parse(out.str());
  std::vector<std::string> keys;
  for (const auto& [key, value] : row.items()) keys.push_back(key);
  EXPECT_THAT(keys, ElementsAre("transform", "procedure", "n", "beta", "kl", "standard_win_rate",
                                "inference_win_rate", "density_at_0", "density_at_1", "win_rates"));
  EXPECT_EQ(row["transform"], "exponential:10");
  EXPECT_EQ(row["procedure"], "best_of_n");
  EXPECT_EQ(row["n"], 4);
  EXPECT_EQ(row["beta"], 0.1);
  EXPECT_THAT(row["win_rates"].size(), 2u);
  EXPECT_GT(row["win_rates"]["best_of_n 2"], 0.5);
  EXPECT_GT(row["win_rates"]["worst_of_n 4"], 0.5);
}

TEST(Design, LeavesTransformsUnnormalisedOnRequest) {
  DesignOptions options = asked("best_of_n:4", "exponential:3");
  options.beta = 1;
  const double normalised = answers(options)[0]["kl"];
  options.beta = std::expm1(3.0);
  options.raw_scale = true;
  EXPECT_NEAR(answers(options)[0]["kl"], normalised, 1e-9);
}

TEST(Design, MeetsAnOpponentAndAMixture) {
  DesignOptions options = asked("best_of_n:4", "optimal");
  options.opponent = "standard";
  const auto against = answers(options)[0];
  EXPECT_EQ(against["deployment"], "best_of_n 4 against standard");
  EXPECT_GT(against["inference_win_rate"], 0.95);

  DesignOptions mixed = asked("", "optimal");
  mixed.mix = "0.5:standard,0.5:best_of_n:4";
  const auto mixture = answers(mixed)[0];
  EXPECT_EQ(mixture["n"], 4);
  EXPECT_GT(mixture["inference_win_rate"], 0.7);
  mixed.json = false;
  std::ostringstream out;
  design(mixed, out);
  EXPECT_THAT(out.str(), HasSubstr("- {share: 0.5, procedure: best_of_n, n: 4}"));
}

TEST(Design, EndsItsTableWithTheConfigurationToPaste) {
  DesignOptions options = asked("best_of_n:4", "");
  options.json = false;
  std::ostringstream out;
  design(options, out);
  EXPECT_THAT(out.str(), testing::EndsWith("inference: {procedure: best_of_n, n: 4}\n"
                                           "alignment: {transform: optimal, target_kl: 0.5}\n"));
  for (const char* transform : {"identity", "log", "exponential:1"})
    EXPECT_THAT(out.str(), HasSubstr(std::string("\n") + transform));
}

TEST(Design, TellsInALineWhatATransformCannotReach) {
  DesignOptions options =
      asked("best_of_n:4", "identity,points:0/0/0.5/1/1/1");  // flat above 1/2: KL < log 2
  options.kl = 0.8;
  const auto rows = answers(options);
  EXPECT_FALSE(rows[0].contains("error"));
  EXPECT_THAT(std::string(rows[1]["error"]), HasSubstr("KL 0.8"));
  options.transforms = "points:0/0/0.5/1/1/1";
  EXPECT_THAT(refusal(options), HasSubstr("KL 0.8"));
}

TEST(Design, RefusesQuestionsThatMakeNoSense) {
  EXPECT_THAT(refusal(asked("", "identity")), HasSubstr("--procedure best_of_n --n 4"));
  for (const char* procedure : {"majority_vote:4", "retry_until:4:threshold=1"})
    EXPECT_THAT(refusal(asked(procedure, "identity")), HasSubstr("no closed form")) << procedure;
  DesignOptions options = asked("best_of_n:4", "identity");
  options.beta = 0.1, options.kl = 0.5;
  EXPECT_THAT(refusal(options), HasSubstr("not both"));
  options.kl.reset(), options.beta = -1;
  EXPECT_THAT(refusal(options), HasSubstr("above 0"));
  options.beta.reset(), options.mix = "1:standard";
  EXPECT_THAT(refusal(options), HasSubstr("--mix"));
  options.mix = "", options.measure = "majority_vote:4";
  EXPECT_THAT(refusal(options), HasSubstr("no closed form"));
  options.measure = "", options.html = "page.html";
  EXPECT_THAT(refusal(options), HasSubstr("--sweep"));
  DesignOptions mixed = asked("", "identity");
  for (const char* mix : {"standard", "0:standard", "x:standard", "0.5:"}) {
    mixed.mix = mix;
    EXPECT_THAT(refusal(mixed), HasSubstr("--mix")) << mix;
  }
}

TEST(Sweep, RisesWithTheKlAndNobodyBeatsTheOptimum) {
  DesignOptions options = asked("best_of_n:4", "identity,optimal");
  options.sweep = true;
  options.kl_max = 2;
  const auto points = answers(options);
  const auto half = static_cast<std::ptrdiff_t>(points.size() / 2);
  for (std::ptrdiff_t i = 0; i < half; ++i) {
    const json &identity = points[static_cast<std::size_t>(i)],
               &optimal = points[static_cast<std::size_t>(i + half)];
    EXPECT_NEAR(identity["kl"], optimal["kl"], 1e-6);
    EXPECT_LT(identity["inference_win_rate"], optimal["inference_win_rate"]);
    if (i == 0) continue;
    const json& before = points[static_cast<std::size_t>(i + half - 1)];
    EXPECT_GT(optimal["inference_win_rate"], before["inference_win_rate"]);
  }
  EXPECT_NEAR(points.back()["kl"], 2, 1e-6);
}

TEST(Sweep, DrawsASelfContainedPage) {
  DesignOptions options = asked("best_of_n:4", "");
  options.sweep = true;
  options.kl_max = 1;
  options.html = std::filesystem::path(testing::TempDir()) / "infalign_design.html";
  std::ostringstream out;
  design(options, out);
  std::ifstream in(options.html);
  const std::string html((std::istreambuf_iterator<char>(in)), {});
  const std::string own =
      std::regex_replace(html, std::regex("xmlns(:xlink)?=\"http://www.w3.org/[^\"]*\""), "");
  EXPECT_THAT(own, Not(HasSubstr("http")));
  EXPECT_THAT(own, Not(HasSubstr("<script")));
  EXPECT_THAT(own, HasSubstr("alignment: {transform: optimal, target_kl: 0.5}"));
  EXPECT_THAT(own, HasSubstr("0.873"));
  std::filesystem::remove(options.html);
}

TEST(Recommendation, NamesTheExponentialAndTheRollouts) {
  DesignOptions options = asked("best_of_n:4", "optimal");
  options.recommend = true;
  const json recommendation = answers(options).back();
  EXPECT_GT(recommendation["exponent"], 5);
  EXPECT_LT(recommendation["inference_win_rate"], recommendation["optimal_inference_win_rate"]);
  EXPECT_GT(recommendation["optimal_rollouts"]["fixed"], recommendation["optimal_rollouts"]["fresh"]);
  options.json = false;
  std::ostringstream out;
  design(options, out);
  EXPECT_THAT(out.str(), HasSubstr("calibration: {rollouts_per_prompt: 256}"));
}

TEST(RolloutsAdvice, SpeaksOnlyWhereRolloutsAreFew) {
  alignment::TransformSettings optimal;
  optimal.kind = alignment::TransformKind::kOptimal;
  const auto best = alignment::make_procedure("best_of_n", 4);
  EXPECT_THAT(rollouts_advice(optimal, best, 0.5, 16), HasSubstr("16 rollouts per prompt can cost 0.04"));
  EXPECT_THAT(rollouts_advice(optimal, best, 4, 8), HasSubstr("do not carry"));
  EXPECT_EQ(rollouts_advice(optimal, best, 0.5, 1024), "");
  EXPECT_EQ(rollouts_advice(optimal, alignment::make_procedure("majority_vote", 4), 0.5, 16), "");
}

}  // namespace
}  // namespace infalign::stages
