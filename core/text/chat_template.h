// From messages to the exact text that a chat model was trained on. The format is a Jinja template that comes
// with the model, rendered by the engine in jinja/; it knows the part of Jinja that chat templates use, and
// refuses the rest by name. For a model without a template, or with one that is refused, common formats are
// built in.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json/forward.h"

namespace infalign::text {

/// What a template may write by name, such as bos_token: ("bos_token", "<s>").
using TemplateVariables = std::vector<std::pair<std::string, std::string>>;

class ChatTemplate {
 public:
  /// The template of a model folder: `choice`, the name of a built-in format or the path of a Jinja file;
  /// without a choice chat_template.jinja, else "chat_template" of tokenizer_config.json (of several, the one
  /// named default); nullopt where there is none. Errors: InputError that names file, line and construct for
  /// one that is not supported.
  static std::optional<ChatTemplate> load(const std::filesystem::path& model_folder,
                                          const std::string& choice = {});

  /// Reads the text of a template; `name` stands for its file in messages. Errors: InputError.
  static ChatTemplate parse(std::string_view source, const std::string& name,
                            TemplateVariables variables = {});

  /// The formats that are built in: "chatml", "gemma", "llama2", ...
  static std::vector<std::string> built_in_names();

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// The text of `messages`, a list of objects with "role" and "content", as transformers'
  /// apply_chat_template renders it; with `add_generation_prompt` up to where the assistant's next answer
  /// begins. Special tokens are written out: encode it with add_special = false. Safe to call from several
  /// threads. Errors: InputError if the template refuses the messages (with its own words) or does what is
  /// not supported.
  std::string render(const OrderedJson& messages, bool add_generation_prompt) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace infalign::text
