#include "core/text/built_in_templates.h"

#include <map>

namespace infalign::text {
namespace {

constexpr std::string_view kChatml = R"({%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\n' -}}
{%- endif -%})";

constexpr std::string_view kGemma = R"({%- if messages[0].role == 'system' -%}
  {{- raise_exception('the gemma format has no system message') -}}
{%- endif -%}
{{- bos_token -}}
{%- for message in messages -%}
  {%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
    {{- raise_exception('user and assistant must take turns, the user first') -}}
  {%- endif -%}
  {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' -}}
  {{- message.content | trim + '<end_of_turn>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<start_of_turn>model\n' -}}
{%- endif -%})";

/// Llama 2 and Mistral differ in where the system message and the spaces go.
constexpr std::string_view kLlama2 = R"({%- set ns = namespace(system='', turns=messages) -%}
{%- if messages[0].role == 'system' -%}
  {%- set ns.system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' -%}
  {%- set ns.turns = messages[1:] -%}
{%- endif -%}
{%- for message in ns.turns -%}
  {%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
    {{- raise_exception('user and assistant must take turns, the user first') -}}
  {%- endif -%}
  {%- if message.role == 'user' -%}
    {{- bos_token + '[INST] ' + (ns.system if loop.first else '') + message.content | trim + ' [/INST]' -}}
  {%- else -%}
    {{- ' ' + message.content | trim + ' ' + eos_token -}}
  {%- endif -%}
{%- endfor -%})";

constexpr std::string_view kMistral = R"({%- set ns = namespace(system='', turns=messages) -%}
{%- if messages[0].role == 'system' -%}
  {%- set ns.system = messages[0].content + '\n\n' -%}
  {%- set ns.turns = messages[1:] -%}
{%- endif -%}
{{- bos_token -}}
{%- for message in ns.turns -%}
  {%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
    {{- raise_exception('user and assistant must take turns, the user first') -}}
  {%- endif -%}
  {%- if message.role == 'user' -%}
    {{- '[INST] ' + (ns.system if loop.first else '') + message.content + ' [/INST]' -}}
  {%- else -%}
    {{- ' ' + message.content + eos_token -}}
  {%- endif -%}
{%- endfor -%})";

constexpr std::string_view kLlama3 = R"({{- bos_token -}}
{%- for message in messages -%}
  {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{%- endif -%})";

constexpr std::string_view kPhi3 = R"({%- for message in messages -%}
  {{- '<|' + message.role + '|>\n' + message.content + '<|end|>\n' -}}
{%- endfor -%}
{{- '<|assistant|>\n' if add_generation_prompt else eos_token -}})";

constexpr std::string_view kZephyr = R"({%- for message in messages -%}
  {{- '<|' + message.role + '|>\n' + message.content + eos_token + '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|assistant|>\n' -}}
{%- endif -%})";

/// HH-RLHF's transcripts.
constexpr std::string_view kTranscript = R"({%- for message in messages -%}
  {%- if message.role not in ['user', 'assistant'] -%}
    {{- raise_exception('a transcript has only user and assistant') -}}
  {%- endif -%}
  {{- '\n\n' + ('Human' if message.role == 'user' else 'Assistant') + ': ' + message.content -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '\n\nAssistant:' -}}
{%- endif -%})";

const std::map<std::string_view, std::string_view> kTemplates = {
    {"chatml", kChatml},   {"gemma", kGemma}, {"llama2", kLlama2},         {"llama3", kLlama3},
    {"mistral", kMistral}, {"phi3", kPhi3},   {"transcript", kTranscript}, {"zephyr", kZephyr},
};

}  // namespace

const std::string_view* find_built_in_template(std::string_view name) {
  const auto entry = kTemplates.find(name);
  return entry == kTemplates.end() ? nullptr : &entry->second;
}

std::vector<std::string> built_in_template_names() {
  std::vector<std::string> names;
  for (const auto& [name, source] : kTemplates) names.emplace_back(name);
  return names;
}

}  // namespace infalign::text
