#include "core/stages/report.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "core/error.h"

namespace infalign::stages {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

json estimate(double value) { return {{"value", value}, {"low", value - 0.01}, {"high", value + 0.01}}; }

json variant(const std::string& name, const std::string& transform, double win_rate) {
  json result = {
      {"name", name}, {"transform", transform}, {"beta", 0.1}, {"steps", 2}, {"predicted", nullptr}};
  for (const char* key : {"kl", "kl_k3", "reward", "reference_reward", "response_length"})
    result[key] = estimate(0.5);
  result["standard_win_rate"] = estimate(win_rate - 0.05);
  result["inference_win_rate"] = estimate(win_rate);
  return result;
}

/// A small but whole evaluation.json.
json evaluation() {
  json second = variant("infalign", "optimal", 0.75);
  second["predicted"] = {{"kl", 0.5}, {"standard_win_rate", 0.71}, {"inference_win_rate", 0.87}};
  second["difference_to_first"] = second["difference_to_previous"] = {{"inference_win_rate", estimate(0.03)},
                                                                      {"standard_win_rate", estimate(-0.02)}};
  return {{"format_version", 1},
          {"procedure", "best_of_n"},
          {"n", 4},
          {"prompts", 8},
          {"samples_per_prompt", 16},
          {"judge", "reward"},
          {"variants", {variant("raw", "raw", 0.72), second}},
          {"calibration",
           {{"mode", "prompt"},
            {"rollouts", 4},
            {"uniformity_distance", 0.02},
            {"heldout_ranks", {0, 0.25, 0.5, 0.75, 1}}}},
          {"curves",
           {{{"transform", "optimal"},
             {"points",
              {{{"kl", 0.1}, {"standard_win_rate", 0.6}, {"inference_win_rate", 0.7}},
               {{"kl", 2.0}, {"standard_win_rate", 0.8}, {"inference_win_rate", 0.95}}}}}}},
          {"examples",
           {{{"prompt", "Once <upon> & a \"time\""},
             {"reference", {{"text", "plain"}, {"reward", 0.1}}},
             {"answers",
              {{{"variant", "raw"}, {"text", "<script>alert('x')</script>"}, {"reward", 0.4}},
               {{"variant", "infalign"}, {"text", "a\x01 b\nc"}, {"reward", nullptr}}}}}}},
          {"seconds", 1.5}};
}

constexpr const char* kMetrics =
    R"({"stage":"align","variant":"raw","step":1,"kl":0.1,"beta":0.2,"seconds":1,"tokens":100,"sampler_trainer_gap":3e-7}
{"stage":"align","variant":"raw","step":2,"kl":0.2,"beta":0.1,"seconds":1,"tokens":100}
{"stage":"align","variant":"infalign","step":1,"kl":null,"beta":0.2}
{"stage":"reward","step":1,"loss":0.69,"accuracy":0.5}
)";

class ReportTest : public testing::Test {
 protected:
  ReportTest() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() / fmt_name(test->name());
    std::filesystem::create_directories(folder_);
  }
  ~ReportTest() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name) << content;
  }
  void write_whole_run() {
    write("experiment.yaml", "name: tiny & small\nseed: 1\n");
    write("metrics.jsonl", kMetrics);
    write("evaluation.json", evaluation().dump());
  }
  std::string page(const std::string& gnuplot = "gnuplot") {
    write_report(folder_, gnuplot);
    std::ifstream file(folder_ / "report.html");
    std::ostringstream content;
    content << file.rdbuf();
    return content.str();
  }

  std::filesystem::path folder_;

 private:
  static std::string fmt_name(const std::string& test) {
    return "infalign_report_" + test + "_" + std::to_string(getpid());
  }
};

/// The first thing that keeps `page` from being well-formed: a tag that closes nothing, is never closed, or a
/// bare & or <; "" if none.
std::string trouble_with(const std::string& page) {
  std::vector<std::string> open;
  const std::regex tag(
      "<(/?)([A-Za-z][A-Za-z0-9:]*)((?:\\s+[-A-Za-z0-9:]+\\s*=\\s*(?:\"[^\"<]*\"|'[^'<]*'))*)\\s*(/?)>");
  const std::regex entity("&(amp|lt|gt|quot|#39);");
  std::string text = page.substr(page.find('\n') + 1);  // after the doctype
  for (std::smatch match; std::regex_search(text, match, tag); text = match.suffix()) {
    const std::string between = std::regex_replace(match.prefix().str(), entity, "");
    if (between.find_first_of("<&") != std::string::npos) return "not text: " + between.substr(0, 80);
    if (std::regex_replace(match[3].str(), entity, "").find('&') != std::string::npos)
      return "attribute: " + match.str();
    if (match[1].length()) {
      if (open.empty() || open.back() != match[2]) return "closes nothing: " + match.str();
      open.pop_back();
    } else if (!match[4].length()) {
      open.push_back(match[2]);
    }
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

TEST(TroubleWith, FindsWhatItLooksFor) {
  EXPECT_EQ(trouble_with("<!DOCTYPE html>\n<p a=\"b\">x &amp; y</p>"), "");
  EXPECT_THAT(trouble_with("\n<p><b></p></b>"), HasSubstr("closes nothing"));
  EXPECT_THAT(trouble_with("\n<p><b></b>"), HasSubstr("never closed"));
  EXPECT_THAT(trouble_with("\n<p>a & b</p>"), HasSubstr("not text"));
}

TEST_F(ReportTest, WholePageIsWellFormedAndSelfContained) {
  write_whole_run();
  const std::string html = page();
  EXPECT_EQ(trouble_with(html), "");
  const std::string own =
      std::regex_replace(html, std::regex("xmlns(:xlink)?=\"http://www.w3.org/[^\"]*\""), "");
  EXPECT_THAT(own, Not(HasSubstr("http")));
  EXPECT_THAT(own, Not(HasSubstr("src=")));
  EXPECT_THAT(own, Not(HasSubstr("@import")));
}

TEST_F(ReportTest, ModelTextIsNeverMarkup) {
  write_whole_run();
  const std::string html = page();
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
  EXPECT_THAT(html, HasSubstr("Once &lt;upon&gt; &amp; a &quot;time&quot;"));
  EXPECT_THAT(html, HasSubstr("a\xEF\xBF\xBD b\nc"));
  EXPECT_THAT(html, HasSubstr("<h1>tiny &amp; small</h1>"));
}

TEST_F(ReportTest, HostileVariantNameStaysText) {
  json hostile = evaluation();
  hostile["variants"][1]["name"] = "x' \"`touch /tmp/no`\" <b>";
  hostile["curves"][0]["transform"] = "o' \"`touch /tmp/no`\" <b>&";
  write("evaluation.json", hostile.dump());
  const std::string html = page();
  EXPECT_EQ(trouble_with(html), "");
  EXPECT_THAT(html, Not(HasSubstr("<b>")));
}

TEST_F(ReportTest, ShowsEveryPartOfTheRun) {
  write_whole_run();
  const std::string html = page();
  for (const char* part :
       {"Best-of-4 win rate", "infalign beats raw by 0.030", "id=\"calibration\"", "KL divergence (nats)",
        "Reward model: loss", "highest 0.40", "seed: 1", "How to read this page", "3e-07"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
}

TEST_F(ReportTest, WithoutGnuplotTheNumbersStandAsTables) {
  write_whole_run();
  const std::string html = page("no-such-program-here");
  EXPECT_EQ(trouble_with(html), "");
  EXPECT_THAT(html, HasSubstr("No picture: no-such-program-here could not be started"));
  EXPECT_THAT(html, HasSubstr("optimal (closed form)"));
  EXPECT_THAT(html, Not(HasSubstr("<svg")));
}

TEST_F(ReportTest, RunWithoutEvaluationStillHasAPage) {
  write("metrics.jsonl", kMetrics);
  const std::string html = page();
  EXPECT_EQ(trouble_with(html), "");
  EXPECT_THAT(html, HasSubstr("This run has no evaluation.json"));
  EXPECT_THAT(html, HasSubstr("KL divergence (nats)"));
  EXPECT_THAT(html, HasSubstr("This run has no experiment.yaml"));
}

TEST_F(ReportTest, EmptyFolderStillHasAPage) {
  const std::string html = page();
  EXPECT_EQ(trouble_with(html), "");
  EXPECT_THAT(html, HasSubstr("This run has no training steps"));
}

TEST_F(ReportTest, EvaluationWithOnlyItsVersionStillHasAPage) {
  write("evaluation.json", R"({"format_version": 1})");
  EXPECT_EQ(trouble_with(page()), "");
}

TEST_F(ReportTest, BrokenEvaluationIsRefused) {
  write("evaluation.json", "{\"format_version\": 1, \"var");
  EXPECT_THROW(page(), InputError);
  write("evaluation.json", R"({"format_version": 1, "n": "four"})");
  EXPECT_THROW(page(), InputError);
  write("evaluation.json", R"({"format_version": 2})");
  EXPECT_THROW(page(), InputError);
}

TEST(WriteReport, NamesAFolderThatIsNotThere) {
  try {
    write_report("/no/such/run");
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("/no/such/run"));
  }
}

}  // namespace
}  // namespace infalign::stages
