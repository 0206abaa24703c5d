#include "core/model/packed_batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "core/model/test_models.h"

namespace infalign::model {
namespace {

using ::testing::ElementsAre;
using testing::Tokens;

/// A sequence alone, then a prompt with two responses.
PackedBatch example() {
  PackedBatch batch;
  batch.add(Tokens{1, 2, 3});
  const std::int32_t prompt = batch.add(Tokens{4, 5});
  batch.add(Tokens{6, 7, 8}, prompt);
  batch.add(Tokens{9}, prompt);
  return batch;
}

TEST(PackedBatch, ContinuesPositionsAfterThePrefix) {
  const PackedBatch batch = example();
  EXPECT_THAT(batch.tokens, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 2, 0, 1, 2, 3, 4, 2));
  ASSERT_EQ(batch.segments.size(), 4u);
  EXPECT_EQ(batch.segments[1].begin, 3);
  EXPECT_EQ(batch.segments[1].prefix_length, 0);
  EXPECT_EQ(batch.segments[3].begin, 8);
  EXPECT_EQ(batch.segments[3].length, 1);
  EXPECT_EQ(batch.segments[3].prefix_begin, 3);
  EXPECT_EQ(batch.segments[3].prefix_length, 2);
}

TEST(PackedBatch, RefusesWhatHasNoMeaning) {
  PackedBatch batch = example();
  EXPECT_THROW(batch.add(Tokens{}), std::invalid_argument);
  EXPECT_THROW(batch.add(Tokens{}, 0), std::invalid_argument);
  EXPECT_THROW(batch.add(Tokens{1}, 2), std::invalid_argument) << "a prefix that has a prefix";
  EXPECT_THROW(batch.add(Tokens{1}, 7), std::out_of_range);
}

TEST(PackedBatch, ClearsForReuse) {
  PackedBatch batch = example();
  batch.clear();
  EXPECT_EQ(batch.size(), 0);
  EXPECT_EQ(batch.add(Tokens{1}), 0);
  EXPECT_EQ(batch.segments[0].begin, 0);
}

TEST(Targets, OfASequenceAreItsTokensAfterTheFirst) {
  Targets targets;
  targets.add_sequence(example(), 0);
  EXPECT_THAT(targets.rows, ElementsAre(0, 1));
  EXPECT_THAT(targets.tokens, ElementsAre(2, 3));
}

TEST(Targets, OfAContinuationBeginAtThePromptsLastRow) {
  Targets targets;
  targets.add_continuation(example(), 2);
  targets.add_continuation(example(), 3);
  EXPECT_THAT(targets.rows, ElementsAre(4, 5, 6, 4));
  EXPECT_THAT(targets.tokens, ElementsAre(6, 7, 8, 9));
  EXPECT_THROW(targets.add_continuation(example(), 0), std::invalid_argument);
}

}  // namespace
}  // namespace infalign::model
