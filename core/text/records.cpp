#include "core/text/records.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/json/json.h"
#include "core/text/byte_source.h"
#include "core/text/tokenizer/json_file.h"
#include "core/text/transcript.h"

namespace infalign::text {
namespace {

using Record = OrderedJson;

/// Where a record stands, for messages: "file:line".
class Line {
 public:
  Line(const std::filesystem::path& path, std::int64_t number) : path_(path), number_(number) {}

  [[noreturn]] void refuse(const std::string& why) const { throw InputError(name() + ": " + why); }

  std::string name() const { return path_.string() + ":" + std::to_string(number_); }

  Record parse(std::string_view text) const { return parse_ordered_json(text, name()); }

  std::string text_at(const Record& record, const char* key) const {
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
  const auto parting = std::ranges::mismatch(chosen, rejected).in1;
  const auto border = last_answer(std::string_view(chosen.begin(), parting));
  if (!border)
    line.refuse(
        "without a 'prompt', 'chosen' and 'rejected' must be transcripts that share an \"\\n\\nAssistant:\"");
  return {chosen.substr(0, *border), chosen.substr(*border), rejected.substr(*border)};
}

/// A template that is loaded when it is first needed.
class LazyTemplate {
 public:
  explicit LazyTemplate(const ChatTemplateSource& source) : source_(source) {}

  const ChatTemplate* get() {
    if (!loaded_ && source_) template_ = source_();
    loaded_ = true;
    return template_ ? &*template_ : nullptr;
  }

 private:
  const ChatTemplateSource& source_;
  bool loaded_ = false;
  std::optional<ChatTemplate> template_;
};

/// Messages of a line as text.
class Chat {
 public:
  Chat(LazyTemplate& lazy, const Line& line) : template_(lazy.get()), line_(line) {}

  std::string render(const Record& messages, bool add_generation_prompt) const {
    if (!template_) line_.refuse("messages need a chat template, and the model has none");
    try {
      return template_->render(messages, add_generation_prompt);
    } catch (const InputError& error) {
      line_.refuse(error.what());
    }
  }

  Prompt prompt(const Record& messages) const {
    if (messages.empty()) line_.refuse("the list of messages is empty");
    if (role_of(messages.back()) == "assistant")
      line_.refuse("the last message is the assistant's, but a prompt is what it shall answer");
    return {render(messages, true), true};
  }

  /// What the whole dialogue `messages` adds to the text of its prompt.
  std::string answer(const std::string& prompt, const Record& messages) const {
    const std::string whole = render(messages, false);
    if (!whole.starts_with(prompt))
      line_.refuse("the chat template writes the prompt in another way once an answer follows it");
    return whole.substr(prompt.size());
  }

 private:
  static std::string role_of(const Record& message) {
    return message.is_object() && message.contains("role") && message["role"].is_string() ? message["role"]
                                                                                          : "";
  }

  const ChatTemplate* template_;
  const Line& line_;
};

Record with_appended(Record messages, const Record& more) {
  for (const Record& message : more) messages.push_back(message);
  return messages;
}

/// The messages with which two dialogues begin, up to the user's last.
Record shared_messages(const Record& chosen, const Record& rejected, const Line& line) {
  const auto parting = std::ranges::mismatch(chosen, rejected).in1;
  Record shared = Record(Record::array_t(chosen.begin(), parting));
  while (!shared.empty() && shared.back().is_object() && shared.back().value("role", Record()) == "assistant")
    shared.erase(shared.size() - 1);
  if (shared.empty()) line.refuse("'chosen' and 'rejected' must begin with the same messages");
  return shared;
}

Preference chat_preference(const Record& prompt, const Record& chosen, const Record& rejected,
                           const Chat& chat) {
  Preference preference{chat.prompt(prompt).text, "", "", true};
  preference.chosen = chat.answer(preference.prompt, chosen);
  preference.rejected = chat.answer(preference.prompt, rejected);
  return preference;
}

/// `chosen` and `rejected` as lists of messages, which go on from the list `prompt` or begin alike.
Preference messages_preference(const Record& record, LazyTemplate& chat_template, const Line& line) {
  const Chat chat(chat_template, line);
  const Record& chosen = record["chosen"];
  const Record& rejected = record["rejected"];
  const auto prompt = record.find("prompt");
  if (prompt != record.end() && prompt->is_array())
    return chat_preference(*prompt, with_appended(*prompt, chosen), with_appended(*prompt, rejected), chat);
  const Record shared = shared_messages(chosen, rejected, line);
  const auto is_prompt = [&](const Record& message) {
    return message.is_object() && message.contains("content") && message["content"] == *prompt;
  };
  if (prompt != record.end() && std::ranges::none_of(shared, is_prompt))
    line.refuse("'prompt' is none of the messages with which 'chosen' and 'rejected' begin");
  return chat_preference(shared, chosen, rejected, chat);
}

Preference text_preference(const Record& record, LazyTemplate& chat_template, const Line& line) {
  const std::string chosen = line.text_at(record, "chosen");
  const std::string rejected = line.text_at(record, "rejected");
  if (record.contains("prompt")) return {line.text_at(record, "prompt"), chosen, rejected};
  Preference as_written = split_transcripts(chosen, rejected, line);
  if (!chat_template.get()) return as_written;
  const Record a = messages_of_transcript(chosen), b = messages_of_transcript(rejected);
  return chat_preference(shared_messages(a, b, line), a, b, Chat(chat_template, line));
}

Preference read_preference(const Record& record, LazyTemplate& chat_template, const Line& line) {
  if (!record.is_object()) line.refuse("expected {\"prompt\": ..., \"chosen\": ..., \"rejected\": ...}");
  const auto is_list = [&](const char* key) { return record.contains(key) && record[key].is_array(); };
  if (is_list("chosen") != is_list("rejected"))
    line.refuse("'chosen' and 'rejected' must both be strings or both be lists of messages");
  if (is_list("prompt") && !is_list("chosen"))
    line.refuse("'chosen' and 'rejected' must be lists of messages, as 'prompt' is one");
  Preference preference = is_list("chosen") ? messages_preference(record, chat_template, line)
                                            : text_preference(record, chat_template, line);
  if (const auto margin = record.find("margin"); margin != record.end() && !margin->is_null()) {
    if (!margin->is_number()) line.refuse("'margin' must be a number");
    preference.margin = margin->get<double>();
  }
  return preference;
}

Prompt prompt_of(const Record& record, LazyTemplate& chat_template, const Line& line) {
  if (!record.is_string() && !record.is_object())
    line.refuse("expected {\"prompt\": ...}, {\"messages\": [...]}, a preference or a string");
  for (const char* key : {"messages", "prompt"})
    if (record.is_object() && record.contains(key) && record[key].is_array())
      return Chat(chat_template, line).prompt(record[key]);
  const bool is_preference = record.is_object() && !record.contains("prompt") && record.contains("chosen");
  if (is_preference) {
    Preference pair = read_preference(record, chat_template, line);
    return {std::move(pair.prompt), pair.is_chat};
  }
  std::string prompt = record.is_string() ? record.get<std::string>() : line.text_at(record, "prompt");
  if (prompt.empty()) line.refuse("the prompt is empty");
  return {std::move(prompt)};
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
  std::vector<std::string> texts;
  for (Prompt& prompt : read_prompts(path, ChatTemplateSource())) texts.push_back(std::move(prompt.text));
  return texts;
}

std::vector<Prompt> read_prompts(const std::filesystem::path& path, const ChatTemplateSource& source) {
  LazyTemplate chat(source);
  std::vector<Prompt> prompts;
  for_each_json(path, [&](const Record& record, const Line& line) {
    prompts.push_back(prompt_of(record, chat, line));
  });
  if (prompts.empty()) throw InputError(path.string() + ": holds no prompts");
  return prompts;
}

std::vector<Preference> read_preferences(const std::filesystem::path& path,
                                         const ChatTemplateSource& source) {
  LazyTemplate chat(source);
  std::vector<Preference> preferences;
  for_each_json(path, [&](const Record& record, const Line& line) {
    preferences.push_back(read_preference(record, chat, line));
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
