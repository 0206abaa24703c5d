// Which segments are kept together.
#include "kernels/attention/families.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

std::vector<std::size_t> ends(const std::vector<Segment>& segments) {
  std::vector<std::size_t> result;
  std::size_t begin = 0;
  for (const Family& family : families_of(segments)) {
    EXPECT_EQ(family.begin, begin);  // nothing is left out
    begin = family.end;
    result.push_back(family.end);
  }
  return result;
}

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Families, AreAPromptWithItsResponses) {
  EXPECT_THAT(ends({}), IsEmpty());
  EXPECT_THAT(ends({{0, 5, 0, 0}}), ElementsAre(1));
  EXPECT_THAT(ends({{0, 5, 0, 0}, {5, 3, 0, 5}, {8, 3, 0, 5}, {11, 4, 0, 0}, {15, 2, 11, 4}}),
              ElementsAre(3, 5));
  EXPECT_THAT(ends({{0, 5, 0, 0}, {5, 3, 0, 0}, {8, 3, 0, 0}}), ElementsAre(1, 2, 3));
}

TEST(Families, HoldTogetherWhatIsInterleaved) {
  EXPECT_THAT(ends({{0, 2, 0, 0}, {2, 2, 0, 0}, {4, 1, 0, 2}, {5, 1, 2, 2}, {6, 1, 0, 0}}),
              ElementsAre(4, 5));
  EXPECT_THAT(ends({{0, 3, 3, 5}, {3, 5, 0, 0}, {8, 1, 0, 0}}), ElementsAre(2, 3));  // the prefix comes last
  EXPECT_THAT(ends({{4, 2, 0, 0}, {0, 4, 0, 0}, {6, 2, 0, 0}}), ElementsAre(2, 3));  // rows out of order
}

}  // namespace
}  // namespace infalign::kernels
