// A model from its path: a GGUF file, or a Hugging Face folder (config.json, safetensors,
// tokenizer.json, tokenizer_config.json, chat_template.jinja, generation_config.json).
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "core/chat/chat_template.h"
#include "core/model/model_config.h"
#include "core/tokenizer/tokenizer.h"
#include "core/weights/weights.h"

namespace vi::model {

struct Model {
  std::filesystem::path path;
  ModelConfig config;
  std::shared_ptr<const WeightFile> weights;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string chat_template;         // "" if the model has none
  std::string bos_token, eos_token;  // texts, "" if there is none
  Json chat_variables = Json::object();  // what every chat_prompt() gives the template besides

  bool has_chat_template() const { return !chat_template.empty(); }
  // The prompt of a conversation; its ids come from tokenizer->encode(prompt). ContractError
  // without a chat template. bos_token and eos_token of `options` are filled in; its variables go before chat_variables.
  std::string chat_prompt(const std::vector<ChatMessage>& messages, ChatOptions options = {}) const;
};

// ContractError naming the file and what is wrong: missing, damaged, not supported, or parts that
// do not fit together (a tokenizer larger than the embedding, ...).
Model open_model(const std::filesystem::path& path);

}  // namespace vi::model
