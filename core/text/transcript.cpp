#include "core/text/transcript.h"

#include <algorithm>
#include <string>

#include "core/json/json.h"

namespace infalign::text {
namespace {

constexpr std::string_view kHuman = "\n\nHuman:", kAssistant = "\n\nAssistant:";

std::string trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin));
}

}  // namespace

std::optional<std::size_t> last_answer(std::string_view transcript) {
  const std::size_t turn = transcript.rfind(kAssistant);
  if (turn == std::string_view::npos) return std::nullopt;
  return turn + kAssistant.size();
}

OrderedJson messages_of_transcript(std::string_view transcript) {
  auto messages = OrderedJson::array();
  std::size_t human = transcript.find(kHuman), assistant = transcript.find(kAssistant);
  if (std::string before = trimmed(transcript.substr(0, std::min(human, assistant))); !before.empty())
    messages.push_back({{"role", "system"}, {"content", std::move(before)}});
  while (std::min(human, assistant) != std::string_view::npos) {
    const bool is_user = human < assistant;
    const std::size_t begin = is_user ? human + kHuman.size() : assistant + kAssistant.size();
    (is_user ? human : assistant) = transcript.find(is_user ? kHuman : kAssistant, begin);
    const std::size_t end = std::min({human, assistant, transcript.size()});
    std::string content = trimmed(transcript.substr(begin, end - begin));
    const char* role = is_user ? "user" : "assistant";
    if (!messages.empty() && messages.back()["role"] == role) {
      auto& before = messages.back()["content"].get_ref<std::string&>();
      before += (before.empty() || content.empty() ? "" : "\n\n") + content;
    } else {
      messages.push_back({{"role", role}, {"content", std::move(content)}});
    }
  }
  return messages;
}

}  // namespace infalign::text
