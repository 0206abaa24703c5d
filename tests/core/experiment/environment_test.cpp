#include "core/experiment/environment.h"

#include "core/experiment/experiment_fixture.h"

namespace infalign::experiment {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Environment, ExpandsVariablesAndDefaults) {
  const ScopedVariable set("INFALIGN_TEST_SET", "value"), empty("INFALIGN_TEST_EMPTY", ""),
      unset("INFALIGN_TEST_UNSET", nullptr);
  EXPECT_EQ(expand_environment("a/${INFALIGN_TEST_SET}/b").text, "a/value/b");
  EXPECT_EQ(expand_environment("${INFALIGN_TEST_SET:-other}").text, "value");
  EXPECT_EQ(expand_environment("${INFALIGN_TEST_UNSET:-../x}/y").text, "../x/y");
  EXPECT_EQ(expand_environment("${INFALIGN_TEST_EMPTY:-default}").text, "default");
  EXPECT_EQ(expand_environment("${INFALIGN_TEST_UNSET:-}").text, "");
  EXPECT_EQ(expand_environment("$HOME $ {} $${X}").text, "$HOME $ {} ${X}");
  EXPECT_THAT(expand_environment("${INFALIGN_TEST_SET}${INFALIGN_TEST_UNSET:-a}").variables,
              ElementsAre("INFALIGN_TEST_SET", "INFALIGN_TEST_UNSET"));
}

TEST(Environment, SaysWhatIsWrong) {
  const ScopedVariable unset("INFALIGN_TEST_UNSET", nullptr);
  EXPECT_EQ(expand_environment("${INFALIGN_TEST_UNSET}").problem,
            "INFALIGN_TEST_UNSET is not set in the environment; set it, or write "
            "${INFALIGN_TEST_UNSET:-default}");
  EXPECT_THAT(expand_environment("a ${B").problem, HasSubstr("lacks its closing brace"));
  EXPECT_THAT(expand_environment("${1}").problem, HasSubstr("is not of the form"));
  EXPECT_THAT(expand_environment("${A:-${B}}").problem, HasSubstr("is not of the form"));
}

TEST(Environment, EscapedTextExpandsToItself) {
  for (const std::string text : {"plain", "${X}", "$${X}", "$$${", "a$", "{}"}) {
    const Expansion expansion = expand_environment(escape_environment(text));
    EXPECT_EQ(expansion.text, text);
    EXPECT_EQ(expansion.problem, "");
  }
}

class EnvironmentInFiles : public ExperimentTest {};

TEST_F(EnvironmentInFiles, ReachesEveryKindOfValue) {
  const ScopedVariable seed("INFALIGN_TEST_SEED", "7"), out("INFALIGN_TEST_OUT", "/somewhere");
  const Experiment e = load(good("seed: ${INFALIGN_TEST_SEED}\n"), {"output=${INFALIGN_TEST_OUT}/run"});
  EXPECT_EQ(e.seed, 7u);
  EXPECT_EQ(e.output, "/somewhere/run");
}

TEST_F(EnvironmentInFiles, AnUnsetVariableIsAProblemOfItsLine) {
  const ScopedVariable unset("INFALIGN_TEST_UNSET", nullptr);
  EXPECT_EQ(refusal(good("seed: ${INFALIGN_TEST_UNSET}\n")),
            "run.yaml:15: seed: INFALIGN_TEST_UNSET is not set in the environment; set it, or write "
            "${INFALIGN_TEST_UNSET:-default}");
}

TEST_F(EnvironmentInFiles, AnAbsentInputNamesTheVariableItCameFrom) {
  const std::vector<std::string> overrides = {"prompts.heldout=${INFALIGN_DATA:-nowhere}/h.jsonl"};
  {
    const ScopedVariable unset("INFALIGN_DATA", nullptr);
    EXPECT_EQ(refusal(good(), overrides),
              "--set prompts.heldout: there is no file nowhere/h.jsonl; set INFALIGN_DATA to the folder that "
              "holds it "
              "(it is not set)");
  }
  {
    const ScopedVariable absolute("INFALIGN_DATA", "/void");
    EXPECT_THAT(refusal(good(), overrides),
                HasSubstr("/void/h.jsonl; set INFALIGN_DATA to the folder that holds it "
                          "(it is /void)"));
  }
  const ScopedVariable relative("INFALIGN_DATA", "data");
  EXPECT_THAT(refusal(good(), overrides),
              HasSubstr("(it is data, which counts from the configuration's folder: better absolute)"));
}

}  // namespace
}  // namespace infalign::experiment
