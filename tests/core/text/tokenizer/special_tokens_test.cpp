#include "core/text/tokenizer/special_tokens.h"

#include <gmock/gmock.h>

#include "core/error.h"
#include "core/text/test_data.h"

namespace infalign::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

std::optional<std::int32_t> letter_id(std::string_view token) {
  if (token.size() != 1) return std::nullopt;
  return token[0] - 'a';
}

TEST(SpecialTokens, AbsentFilesNameNothing) {
  const TemporaryFolder folder;
  const auto special = read_special_tokens(folder.path(), letter_id);
  EXPECT_EQ(special.bos, std::nullopt);
  EXPECT_EQ(special.eos, std::nullopt);
  EXPECT_EQ(special.pad, std::nullopt);
  EXPECT_THAT(special.stop, IsEmpty());
}

TEST(SpecialTokens, GenerationConfigComesFirst) {
  const TemporaryFolder folder;
  folder.write("generation_config.json", R"({"bos_token_id": 3, "eos_token_id": [9, 8], "pad_token_id": 0})");
  folder.write("config.json", R"({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 4})");
  folder.write("tokenizer_config.json", R"({"bos_token": "a", "eos_token": "b", "pad_token": "c"})");
  const auto special = read_special_tokens(folder.path(), letter_id);
  EXPECT_EQ(special.bos, 3);
  EXPECT_EQ(special.eos, 9);
  EXPECT_EQ(special.pad, 0);
  EXPECT_THAT(special.stop, ElementsAre(9, 8));
}

TEST(SpecialTokens, EachIsLookedForByItself) {
  const TemporaryFolder folder;
  folder.write("generation_config.json", R"({"eos_token_id": 2})");
  folder.write("config.json", R"({"bos_token_id": 1, "eos_token_id": 7, "pad_token_id": -1})");
  folder.write("tokenizer_config.json",
               R"({"pad_token": {"content": "d", "lstrip": false}, "eos_token": null})");
  const auto special = read_special_tokens(folder.path(), letter_id);
  EXPECT_EQ(special.bos, 1);
  EXPECT_EQ(special.pad, 3);
  EXPECT_THAT(special.stop, ElementsAre(2));
}

TEST(SpecialTokens, RefusesWhatIsNotAToken) {
  const TemporaryFolder folder;
  folder.write("tokenizer_config.json", R"({"eos_token": "absent"})");
  EXPECT_THAT([&] { read_special_tokens(folder.path(), letter_id); },
              ThrowsMessage<InputError>(HasSubstr("'eos_token' names 'absent'")));
  folder.write("tokenizer_config.json", R"({"eos_token": 5})");
  EXPECT_THROW(read_special_tokens(folder.path(), letter_id), InputError);
  folder.write("config.json", R"({"eos_token_id": "2"})");
  EXPECT_THAT([&] { read_special_tokens(folder.path(), letter_id); },
              ThrowsMessage<InputError>(HasSubstr("config.json")));
  folder.write("config.json", "[]");
  EXPECT_THROW(read_special_tokens(folder.path(), letter_id), InputError);
}

}  // namespace
}  // namespace infalign::text
