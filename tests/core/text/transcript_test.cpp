#include "core/text/transcript.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace infalign::text {
namespace {

using nlohmann::ordered_json;

TEST(Transcript, ItsLastAnswerBeginsBehindTheLastMark) {
  const std::string transcript = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d";
  EXPECT_EQ(transcript.substr(last_answer(transcript).value()), " d");
  EXPECT_EQ(last_answer("\n\nHuman: a"), std::nullopt);
  EXPECT_EQ(last_answer("\n\nAssistant:"), 12u);
}

TEST(Transcript, ItsTurnsAreMessages) {
  EXPECT_EQ(
      messages_of_transcript("\n\nHuman: a \n\nAssistant:  b\n\nc\n\nHuman: d\n\nAssistant:"),
      ordered_json::parse(R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\n\nc"},
                                    {"role": "user", "content": "d"}, {"role": "assistant", "content": ""}])"));
  EXPECT_EQ(messages_of_transcript(""), ordered_json::array());
}

TEST(Transcript, TurnsOfOneSideAreOneMessage) {
  EXPECT_EQ(messages_of_transcript("\n\nHuman: a\n\nHuman: b\n\nAssistant: c\n\nAssistant:"),
            ordered_json::parse(
                R"([{"role": "user", "content": "a\n\nb"}, {"role": "assistant", "content": "c"}])"));
}

TEST(Transcript, WhatComesBeforeTheFirstTurnIsTheSystems) {
  EXPECT_EQ(messages_of_transcript("Be kind.\n\nHuman: a"),
            ordered_json::parse(
                R"([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a"}])"));
}

}  // namespace
}  // namespace infalign::text
