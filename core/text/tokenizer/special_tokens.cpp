#include "core/text/tokenizer/special_tokens.h"

#include <string>
#include <vector>

#include "core/json/json.h"
#include "core/text/tokenizer/construct.h"
#include "core/text/tokenizer/json_file.h"

namespace infalign::text {
namespace {

using Ids = std::vector<std::int32_t>;

/// The value of `key` as ids: of one, of a list, or none (absent, null, or the -1 by which early Llama files
/// say "none").
Ids ids_at(const Construct& file, std::string_view key) {
  const auto value = file.json().find(key);
  if (value == file.json().end() || value->is_null() || *value == -1) return {};
  Ids ids;
  if (!value->is_array()) return {file.token_id(*value)};
  for (const Json& id : *value) ids.push_back(file.token_id(id));
  return ids;
}

/// The token that tokenizer_config.json names at `key`, as a string or as an object with "content".
std::optional<std::string> name_at(const Construct& file, std::string_view key) {
  const auto value = file.json().find(key);
  if (value != file.json().end() && value->is_object()) return file.within(*value, key).text("content");
  return file.optional_text(key);
}

}  // namespace

SpecialTokens read_special_tokens(const std::filesystem::path& model_folder,
                                  const std::function<std::optional<std::int32_t>(std::string_view)>& id_of) {
  Ids bos, eos, pad;
  for (const char* name : {"generation_config.json", "config.json"}) {
    const std::filesystem::path path = model_folder / name;
    if (!std::filesystem::exists(path)) continue;
    const Json json = read_json_file(path);
    const Construct file(json, path.string());
    if (bos.empty()) bos = ids_at(file, "bos_token_id");
    if (eos.empty()) eos = ids_at(file, "eos_token_id");
    if (pad.empty()) pad = ids_at(file, "pad_token_id");
  }
  if (const auto path = model_folder / "tokenizer_config.json"; std::filesystem::exists(path)) {
    const Json json = read_json_file(path);
    const Construct file(json, path.string());
    const auto resolve = [&](std::string_view key, Ids& ids) {
      if (!ids.empty()) return;
      const auto token = name_at(file, key);
      if (!token) return;
      const auto id = id_of(*token);
      if (!id)
        file.refuse("'" + std::string(key) + "' names '" + *token + "', which the tokenizer does not have");
      ids = {*id};
    };
    resolve("bos_token", bos);
    resolve("eos_token", eos);
    resolve("pad_token", pad);
  }
  const auto first = [](const Ids& ids) { return ids.empty() ? std::nullopt : std::optional(ids.front()); };
  return {first(bos), first(eos), first(pad), eos};
}

}  // namespace infalign::text
