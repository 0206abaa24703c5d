// The form of a configuration: YAML that is none, keys given twice, overrides and their places.
#include "core/experiment/document.h"

#include "core/experiment/experiment_fixture.h"

namespace infalign::experiment {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class Document : public ExperimentTest {};

TEST_F(Document, MalformedYamlIsShownByLineAndColumn) {
  EXPECT_THAT(refusal("name: a\noutput: [b\nstages: c\n"), StartsWith("run.yaml:3:7: not YAML: "));
  EXPECT_THAT(refusal("name: a\n\tb: c\n"), StartsWith("run.yaml:2:1: not YAML: "));
}

TEST_F(Document, AFileThatCannotBeReadSaysWhy) {
  const auto refusal_of = [](const std::filesystem::path& path) -> std::string {
    try {
      load_experiment(path);
    } catch (const ConfigurationError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refusal_of(folder_ / "none.yaml"),
              HasSubstr("none.yaml: cannot be read (No such file or directory)"));
  EXPECT_THAT(refusal_of(folder_), HasSubstr("it is a folder"));
}

TEST_F(Document, AKeyGivenTwiceIsRefusedWithBothPlaces) {
  EXPECT_EQ(refusal(good("  steps: 7\n")),
            "run.yaml:15: alignment.steps: given twice, first at run.yaml:13; keep one");
  EXPECT_EQ(refusal(good("seed: 1\nseed: 1\n")),
            "run.yaml:16: seed: given twice, first at run.yaml:15; keep one");
}

TEST_F(Document, AnchorsThatHoldThemselvesEnd) {
  EXPECT_THAT(refusal(good("sampling: &a\n  temperature: *a\n")), HasSubstr("nested too deeply"));
  EXPECT_THAT(refusal(good("? [a, b]\n: 1\n")), HasSubstr("run.yaml:15: a key must be a plain name"));
  EXPECT_THAT(refusal(good("---\nname: b\n")), HasSubstr("run.yaml: holds several YAML documents"));
}

TEST_F(Document, OverridesReachSectionsAndListsAndMakeWhatIsNotThere) {
  const std::string yaml = good("  variants: [{name: a}, {name: b, beta: 0.2}]\n");
  const Experiment e = load(yaml, {"alignment.variants.1.beta=0.1", "alignment.variants.0.transform=log",
                                   "sampling.temperature=0.5", "stages=[calibrate, align]",
                                   "alignment.steps=1", "alignment.steps=2"});
  EXPECT_EQ(e.alignment.variants[1].beta, 0.1);
  EXPECT_EQ(e.alignment.variants[0].transform, "log");
  EXPECT_EQ(e.sampling.temperature, 0.5);
  EXPECT_EQ(e.stages.size(), 2u);
  EXPECT_EQ(e.alignment.steps, 2) << "the last one counts";
  EXPECT_EQ(load(good(), {"alignment.variants=[{name: x}]"}).alignment.variants[0].name, "x");
}

TEST_F(Document, OverridesThatGoNowhereAreRefused) {
  EXPECT_EQ(refusal(good(), {"alignment.steps"}), "--set alignment.steps: expected key.path=value");
  EXPECT_EQ(refusal(good(), {"alignment..steps=1"}),
            "--set alignment..steps: expected key.path=value with names between the dots");
  EXPECT_EQ(
      refusal(good(), {"alignment.steps.first=1"}),
      "--set alignment.steps.first: alignment.steps has a value of its own (100), and no keys below it");
  EXPECT_EQ(refusal(good("  variants: [{name: a}]\n"), {"alignment.variants.1.beta=1"}),
            "--set alignment.variants.1.beta: alignment.variants is a list of 1; name an entry by its index, "
            "from 0");
  EXPECT_EQ(refusal(good(), {"alignment.step=3"}), "--set alignment.step: unknown key; did you mean steps?");
  EXPECT_THAT(refusal(good(), {"name=[a"}), StartsWith("--set name: the value is not YAML: "));
}

TEST_F(Document, AProblemInsideAnOverrideNamesTheKeyBelowIt) {
  EXPECT_EQ(refusal(good(), {"sampling={temperature: 0}"}),
            "--set sampling: sampling.temperature: expected number, above 0; found `0`");
}

TEST_F(Document, PlacesFallBackToTheSectionAround) {
  write("run.yaml", "a:\n  b: 1\n");
  Problems problems;
  const Node root = read_document(file(), {"a.c=2"}, problems);
  EXPECT_EQ(place_of(root, "a.b").line, 2);
  EXPECT_EQ(place_of(root, "a.x.y").line, 1);
  EXPECT_EQ(place_of(root, "a.c").text, "--set a.c");
  EXPECT_EQ(place_of(root, "z").text, file().string());
  EXPECT_TRUE(problems.empty());
}

}  // namespace
}  // namespace infalign::experiment
