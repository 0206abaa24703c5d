// Prompts and preferences as JSON lines, plain or gzip (told by content), checked line by line. A prompt is a
// string or a list of messages, which the model's chat template makes a string of.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/chat_template.h"
#include "core/text/utf8.h"

namespace infalign::text {

/// Gives the chat template once messages are met: one that is not needed need not be there, or be understood.
using ChatTemplateSource = std::function<std::optional<ChatTemplate>()>;

struct Prompt {
  std::string text;
  bool is_chat =
      false;  // rendered from messages: special tokens are written out, so encode with add_special = false
};

struct Preference {
  std::string prompt;  // may be empty
  std::string chosen;
  std::string rejected;
  bool is_chat = false;               // as in Prompt
  std::optional<double> margin = {};  // by which the annotator preferred `chosen`, where the record says so
};

/// Calls visit(line, number) for each line of a file, plain or gzip, that is not blank; numbers count from 1.
/// Lines end with "\n" or "\r\n", which is not given on. `line` is valid only during the call. Errors:
/// InputError naming file (and line) for a file that cannot be read, broken gzip, or invalid UTF-8.
void for_each_line(const std::filesystem::path& path,
                   const std::function<void(std::string_view line, std::int64_t number)>& visit);

/// `{"prompt": "..."}` a line, a bare JSON string, or a preference as below, whose prompt it is. Errors:
/// InputError with file and line number for invalid JSON, a missing key, an empty prompt, or a file without
/// prompts.
std::vector<std::string> read_prompts(const std::filesystem::path& path);

/// The same, and `{"messages": [...]}` or `{"prompt": [...]}` with a list of {"role", "content"} that ends
/// with the user's message, rendered by `chat` up to where the answer begins. Errors: InputError as above,
/// for messages without a template (`chat` gives none), and where the template refuses them.
std::vector<Prompt> read_prompts(const std::filesystem::path& path, const ChatTemplateSource& chat);

/// `{"prompt": "...", "chosen": "...", "rejected": "..."}` a line, or HH-RLHF transcripts as they are
/// (`chosen` and `rejected` whole dialogues "\n\nHuman: ...\n\nAssistant: ..." without a `prompt`: the prompt
/// is the shared beginning through the last "\n\nAssistant:"). With a template also lists of messages:
/// `chosen` and `rejected` go on from the list `prompt`, or are whole dialogues that begin alike (a string
/// `prompt` beside them must be one of their messages); and with a template transcripts are such messages,
/// written in its way. A number "margin" may stand beside them. Errors: InputError with file and line number,
/// or for a file without preferences.
std::vector<Preference> read_preferences(const std::filesystem::path& path,
                                         const ChatTemplateSource& chat = {});

/// The whole of a text file, plain or gzip, as valid UTF-8. Errors: InputError.
std::string read_text(const std::filesystem::path& path);

}  // namespace infalign::text
