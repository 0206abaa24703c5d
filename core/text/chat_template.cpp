#include "core/text/chat_template.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "core/json/json.h"
#include "core/text/built_in_templates.h"
#include "core/text/jinja/render.h"
#include "core/text/records.h"
#include "core/text/tokenizer/construct.h"
#include "core/text/tokenizer/json_file.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

constexpr std::size_t kLongestTemplate = std::size_t{1} << 20;

std::string joined_names(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string way_out() {
  return " (model.chat_template or --chat-template gives another format: a Jinja file, or one of " +
         joined_names(ChatTemplate::built_in_names()) + ")";
}

/// The special tokens that tokenizer_config.json names, as strings or as objects with "content".
TemplateVariables special_tokens_of(const std::filesystem::path& folder) {
  constexpr std::array kNames = {"bos_token", "eos_token", "unk_token", "sep_token",
                                 "pad_token", "cls_token", "mask_token"};
  TemplateVariables variables;
  const auto path = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(path)) return variables;
  const Json json = read_json_file(path);
  const Construct file(json, path.string());
  for (const char* name : kNames) {
    const auto value = json.find(name);
    if (value == json.end() || value->is_null()) continue;
    variables.emplace_back(name,
                           value->is_object() ? file.within(*value, name).text("content") : file.text(name));
  }
  return variables;
}

/// "chat_template" of tokenizer_config.json: a string, or a list of {"name", "template"}.
std::optional<std::string> template_in_config(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  const Json json = read_json_file(path);
  const Construct file(json, path.string());
  const auto value = json.find("chat_template");
  if (value == json.end() || value->is_null()) return std::nullopt;
  if (!value->is_array()) return file.text("chat_template");
  for (const Json& one : *value) {
    const Construct entry = file.within(one, "chat_template");
    if (entry.text("name") == "default") return entry.text("template");
  }
  file.refuse("'chat_template' lists templates, but none with the name 'default'");
}

jinja::Value messages_value(const OrderedJson& messages) {
  if (!messages.is_array()) throw jinja::TemplateError("the messages must be a list");
  jinja::Values values;
  for (const auto& message : messages) {
    if (!message.is_object() || !message.contains("role"))
      throw jinja::TemplateError("each message must be an object with \"role\" and \"content\"");
    std::vector<std::pair<jinja::Value, jinja::Value>> entries;
    for (const auto& [key, value] : message.items())  // like transformers: null is as good as absent
      if (!value.is_null()) entries.emplace_back(key, jinja::Value::from_json(value));
    values.push_back(jinja::Value::dictionary(entries));
  }
  return jinja::Value::sequence(jinja::SequenceKind::kList, std::move(values));
}

}  // namespace

struct ChatTemplate::Impl {
  std::string name;
  jinja::Block block;
  TemplateVariables variables;
};

std::optional<ChatTemplate> ChatTemplate::load(const std::filesystem::path& model_folder,
                                               const std::string& choice) {
  const auto file = choice.empty() ? model_folder / "chat_template.jinja" : std::filesystem::path(choice);
  if (const auto* built_in = find_built_in_template(choice))
    return parse(*built_in, "the built-in chat template " + choice, special_tokens_of(model_folder));
  if (!choice.empty() && !std::filesystem::exists(file))
    throw InputError("chat template '" + choice + "' is neither a file nor one of " +
                     joined_names(built_in_names()));
  if (std::filesystem::exists(file))
    return parse(read_text(file), file.string(), special_tokens_of(model_folder));
  const auto config = model_folder / "tokenizer_config.json";
  const auto source = template_in_config(config);
  if (!source) return std::nullopt;
  return parse(*source, config.string() + ": chat_template", special_tokens_of(model_folder));
}

ChatTemplate ChatTemplate::parse(std::string_view source, const std::string& name,
                                 TemplateVariables variables) {
  if (source.size() > kLongestTemplate) throw InputError(name + ": a chat template of more than 1 MiB");
  if (const auto offset = find_invalid_utf8(source); offset != std::string_view::npos)
    throw InputError(name + ": invalid UTF-8 at byte " + std::to_string(offset));
  try {
    return ChatTemplate(std::make_unique<Impl>(Impl{name, jinja::parse(source), std::move(variables)}));
  } catch (const jinja::TemplateError& error) {
    throw InputError(name + ": " + error.what() + way_out());
  }
}

std::vector<std::string> ChatTemplate::built_in_names() { return built_in_template_names(); }

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const OrderedJson& messages, bool add_generation_prompt) const {
  try {
    std::vector<std::pair<std::string, jinja::Value>> variables;
    for (const auto& [name, value] : impl_->variables) variables.emplace_back(name, value);
    variables.emplace_back("messages", messages_value(messages));
    variables.emplace_back("add_generation_prompt", add_generation_prompt);
    for (const char* absent : {"tools", "documents"}) variables.emplace_back(absent, jinja::Value());
    return jinja::render(impl_->block, variables);
  } catch (const jinja::RaisedByTemplate& error) {
    throw InputError(impl_->name + " refuses these messages: " + error.what());
  } catch (const jinja::TemplateError& error) {
    throw InputError(impl_->name + ": " + error.what() + way_out());
  }
}

}  // namespace infalign::text
