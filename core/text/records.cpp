#include "core/text/records.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/text/byte_source.h"

namespace infalign::text {
namespace {

using Json = nlohmann::json;

/// Where a record stands, for messages: "file:line".
class Line {
 public:
  Line(const std::filesystem::path& path, std::int64_t number) : path_(path), number_(number) {}

  [[noreturn]] void refuse(const std::string& why) const {
    throw InputError(path_.string() + ":" + std::to_string(number_) + ": " + why);
  }

  Json parse(std::string_view text) const {
    try {
      return Json::parse(text);
    } catch (const Json::parse_error& error) {
      refuse("not valid JSON at byte " + std::to_string(error.byte));
    } catch (const Json::exception& error) {
      refuse("not valid JSON: " + std::string(error.what()));
    }
  }

  std::string text_at(const Json& record, const char* key) const {
    const auto value = record.find(key);
    if (value == record.end()) refuse("key '" + std::string(key) + "' is missing");
    if (!value->is_string()) refuse("'" + std::string(key) + "' must be a string");
    return value->get<std::string>();
  }

 private:
  const std::filesystem::path& path_;
  std::int64_t number_;
};

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r\n") == std::string_view::npos; }

/// Gives each JSON line of a file to `read(json, line)`.
template <class Read>
void for_each_json(const std::filesystem::path& path, const Read& read) {
  for_each_line(path, [&](std::string_view text, std::int64_t number) {
    const Line line(path, number);
    read(line.parse(text), line);
  });
}

/// An HH-RLHF pair: two dialogues that begin alike and part in the assistant's last answer.
Preference split_transcripts(const std::string& chosen, const std::string& rejected, const Line& line) {
  constexpr std::string_view kAssistant = "\n\nAssistant:";
  const auto parting = std::ranges::mismatch(chosen, rejected).in1;
  const std::string_view shared(chosen.begin(), parting);
  const std::size_t turn = shared.rfind(kAssistant);
  if (turn == std::string_view::npos)
    line.refuse(
        "without a 'prompt', 'chosen' and 'rejected' must be transcripts that share an \"\\n\\nAssistant:\"");
  const std::size_t border = turn + kAssistant.size();
  return {chosen.substr(0, border), chosen.substr(border), rejected.substr(border)};
}

}  // namespace

void for_each_line(const std::filesystem::path& path,
                   const std::function<void(std::string_view line, std::int64_t number)>& visit) {
  std::string partial;  // a line that goes on in the next block
  std::int64_t number = 0;
  const auto finish = [&](std::string_view line) {
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (const std::size_t offset = find_invalid_utf8(line); offset != std::string_view::npos)
      Line(path, number).refuse("invalid UTF-8 at byte " + std::to_string(offset + 1) + " of the line");
    if (!is_blank(line)) visit(line, number);
  };
  for_each_block(path, [&](std::string_view block) {
    for (std::size_t end; (end = block.find('\n')) != std::string_view::npos; block.remove_prefix(end + 1)) {
      if (partial.empty()) {
        finish(block.substr(0, end));
      } else {
        finish(partial += block.substr(0, end));
        partial.clear();
      }
    }
    partial += block;
  });
  if (!partial.empty()) finish(partial);
}

std::vector<std::string> read_prompts(const std::filesystem::path& path) {
  std::vector<std::string> prompts;
  for_each_json(path, [&](const Json& record, const Line& line) {
    if (!record.is_string() && !record.is_object()) line.refuse("expected {\"prompt\": ...} or a string");
    std::string prompt = record.is_string() ? record.get<std::string>() : line.text_at(record, "prompt");
    if (prompt.empty()) line.refuse("the prompt is empty");
    prompts.push_back(std::move(prompt));
  });
  if (prompts.empty()) throw InputError(path.string() + ": holds no prompts");
  return prompts;
}

std::vector<Preference> read_preferences(const std::filesystem::path& path) {
  std::vector<Preference> preferences;
  for_each_json(path, [&](const Json& record, const Line& line) {
    if (!record.is_object()) line.refuse("expected {\"prompt\": ..., \"chosen\": ..., \"rejected\": ...}");
    const std::string chosen = line.text_at(record, "chosen");
    const std::string rejected = line.text_at(record, "rejected");
    if (record.contains("prompt")) {
      preferences.push_back({line.text_at(record, "prompt"), chosen, rejected});
    } else {
      preferences.push_back(split_transcripts(chosen, rejected, line));
    }
  });
  if (preferences.empty()) throw InputError(path.string() + ": holds no preferences");
  return preferences;
}

std::string read_text(const std::filesystem::path& path) {
  std::string text;
  for_each_block(path, [&](std::string_view block) { text += block; });
  if (const std::size_t offset = find_invalid_utf8(text); offset != std::string::npos) {
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n');
    Line(path, line).refuse("invalid UTF-8 at byte " + std::to_string(offset) + " of the file");
  }
  return text;
}

}  // namespace infalign::text
