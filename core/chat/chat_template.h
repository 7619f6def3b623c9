// Chat templates: a model's Jinja text and a list of messages -> the prompt. Same bytes as Hugging Face's
// apply_chat_template (Jinja2 with trim_blocks, lstrip_blocks, loop controls, its tojson).
#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/common/json.h"

namespace vi::model {

struct ChatMessage {
  std::string role, content;
};

struct ChatOptions {
  bool add_generation_prompt = true;
  std::string bos_token, eos_token;   // texts; empty: the variable is the empty string
  Json tools = nullptr;               // a list of function schemas, or null
  Json variables = Json::object();    // further variables of the template, e.g. enable_thinking
  std::optional<std::tm> now;         // set: strftime_now() is defined and uses it
};

class ChatTemplate {
 public:
  // `place` is what errors start with, e.g. "model.gguf: tokenizer.chat_template". ContractError with the
  // line for a syntax error or for what lies outside the subset (docs in jinja.h).
  ChatTemplate(std::string_view source, std::string_view place);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // messages: a JSON list of objects with "role" and "content" and whatever else the template reads.
  // ContractError if the template raises or fails.
  std::string render_json(const Json& messages, const ChatOptions& options = {}) const;
  std::string render(const std::vector<ChatMessage>& messages, const ChatOptions& options = {}) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vi::model
