// docs/configuration.md is the reference that the program itself would print.
#include <fstream>
#include <iterator>

#include "core/experiment/experiment_fixture.h"

namespace infalign::experiment {
namespace {

using testing::HasSubstr;

const std::filesystem::path kDocument =
    std::filesystem::path(INFALIGN_SOURCE_DIR) / "docs" / "configuration.md";

TEST(Reference, StandsInTheDocumentation) {
  if (std::getenv("INFALIGN_WRITE_REFERENCE") != nullptr)
    std::ofstream(kDocument) << configuration_reference();
  std::ifstream stream(kDocument);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  EXPECT_EQ(text, configuration_reference())
      << "write it anew: INFALIGN_WRITE_REFERENCE=1 test_core_experiment --gtest_filter='Reference.*'";
}

TEST(Reference, TellsTypeRangeDefaultAndMeaning) {
  const std::string text = configuration_reference();
  EXPECT_THAT(text, HasSubstr("| `temperature` | number, above 0 | `1.0` | "));
  EXPECT_THAT(text, HasSubstr("| `output` | path | required | "));
  EXPECT_THAT(text, HasSubstr("| `reference` | path | none | "));
  EXPECT_THAT(
      text,
      HasSubstr(
          "\n## model.judge\n\nOther rewards, which decide who wins at evaluation; none: the reward does.\n\n"
          "Its keys are those of `model.reward`.\n"));
  EXPECT_THAT(text, HasSubstr("| `mode` | one of prompt, global, hierarchical | `prompt` | "));
  EXPECT_THAT(text, HasSubstr("\n## alignment.variants\n"));
}

}  // namespace
}  // namespace infalign::experiment
