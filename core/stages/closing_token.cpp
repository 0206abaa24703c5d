#include "core/stages/closing_token.h"

#include <algorithm>

#include "core/error.h"
#include "core/json/json.h"
#include "core/storage/durable.h"
#include "core/storage/json_object.h"

namespace infalign::stages {
namespace {

constexpr const char* kKey = "reward_read_at";

}  // namespace

void leave_off_stop(const text::Tokenizer& tokenizer, std::vector<std::int32_t>& answer) {
  const auto& stop = tokenizer.special().stop;
  const auto last = std::ranges::find_first_of(answer.rbegin(), answer.rend(), stop.begin(), stop.end());
  if (last == answer.rend()) return;
  const std::string behind = tokenizer.decode_continuation({last.base(), answer.end()}, false);
  if (behind.find_first_not_of(" \n") == std::string::npos) answer.erase(last.base() - 1, answer.end());
}

bool reads_at_stop_token(const std::filesystem::path& folder, const std::string& read_at) {
  if (read_at != "as_saved") return read_at == "stop_token";
  const auto file = folder / "config.json";
  const auto config = storage::read_json_object(file);
  const auto said = config.find(kKey);
  if (said == config.end()) return false;
  if (*said != "last_token" && *said != "stop_token")
    throw InputError(file.string() + ": " + kKey + " is " + json_text(*said) +
                     "; it has to be \"last_token\" or \"stop_token\"");
  return *said == "stop_token";
}

std::optional<std::int32_t> closing_token(const std::filesystem::path& folder,
                                          const text::Tokenizer& tokenizer, const std::string& read_at) {
  if (!reads_at_stop_token(folder, read_at)) return std::nullopt;
  const auto stop = tokenizer.special().eos;
  if (!stop)
    throw InputError(folder.string() +
                     ": its reward is to be read at a stop token, but neither generation_config.json nor "
                     "config.json nor tokenizer_config.json names one (eos_token_id)");
  return stop;
}

void write_read_at(const std::filesystem::path& folder, const std::string& read_at) {
  if (read_at == "as_saved") return;
  auto config = storage::read_json_object(folder / "config.json");
  config[kKey] = read_at;
  if (read_at == "stop_token") {
    const auto tokenizer = text::Tokenizer::load(folder);
    const auto& special = tokenizer.special();
    std::optional<std::int32_t> padding;
    for (const auto& token : {special.bos, special.pad})
      if (token && std::ranges::find(special.stop, *token) == special.stop.end()) padding = token;
    config["pad_token_id"] = padding ? Json(*padding) : Json();
    if (const auto file = folder / "tokenizer_config.json"; std::filesystem::exists(file)) {
      auto settings = storage::read_json_object(file);
      settings["pad_token"] = padding ? Json(tokenizer.decode({*padding}, false)) : Json();
      storage::write_file_durably(file, json_text(settings, 2) + "\n");
    }
  }
  storage::write_file_durably(folder / "config.json", json_text(config, 2) + "\n");
}

}  // namespace infalign::stages
