#include "core/model/load.h"

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/strict_json.h"
#include "core/common/utf8.h"
#include "core/weights/gguf.h"
#include "core/weights/safetensors.h"

namespace vi::model {
namespace {

nlohmann::json read_if_there(const std::filesystem::path& file) {
  return std::filesystem::exists(file) ? read_strict_json(file) : nlohmann::json();
}

void check_fit(const Model& model) {
  if (model.tokenizer->vocab_size() > model.config.vocab)
    fail<ContractError>(
        "{}: expected a tokenizer of at most {} ids (the rows of the embedding), got {}",
        model.path.string(), model.config.vocab, model.tokenizer->vocab_size());
}

std::string text_of(const Tokenizer& tokenizer, std::optional<std::int32_t> id) {
  return id ? tokenizer.token_text(*id) : "";
}

Model open_gguf(const std::filesystem::path& path) {
  const auto file = std::make_shared<GgufFile>(path);
  Model model;
  model.path = path;
  model.config = model_config_from_gguf(*file);
  model.tokenizer = std::make_shared<Tokenizer>(Tokenizer::from_gguf(*file));
  model.chat_template = file->get_string("tokenizer.chat_template", "");
  model.bos_token = text_of(*model.tokenizer, model.tokenizer->bos_id());
  model.eos_token = text_of(*model.tokenizer, model.tokenizer->eos_id());
  model.weights = file;
  check_fit(model);
  return model;
}

// A string, or {"content": ...}.
std::string special_token(const JsonView& config, const char* key) {
  if (!config.has(key)) return "";
  const JsonView value = config.at(key);
  return value.raw().is_object() ? value.at("content").string() : value.string();
}

// A string, or a list of {"name", "template"}: the one named "default".
std::string template_of(const JsonView& config) {
  if (!config.has("chat_template")) return "";
  const JsonView value = config.at("chat_template");
  if (!value.raw().is_array()) return value.string();
  for (std::size_t i = 0; i < value.size(); ++i)
    if (value.at(i).at("name").string() == "default") return value.at(i).at("template").string();
  value.reject("a template named default");
}

// LlamaTokenizer's settings stand above tokenizer.json's post_processor (DeepSeek's distilled models
// have the BOS there alone). Other classes read them nowhere.
void read_add_tokens(const JsonView& config, Tokenizer& tokenizer) {
  const std::string name = config.string("tokenizer_class", "");
  if (name != "LlamaTokenizer" && name != "LlamaTokenizerFast") return;
  if (!config.has("add_bos_token") && !config.has("add_eos_token")) return;
  const auto ids = [&](const char* key, bool fallback, std::optional<std::int32_t> id) {
    std::vector<std::int32_t> out;
    if (!config.boolean(key, fallback)) return out;
    if (!id) config.at(key).reject("false, or a token of the vocabulary to add");
    out.push_back(*id);
    return out;
  };
  tokenizer.set_prefix_suffix(ids("add_bos_token", true, tokenizer.bos_id()),
                              ids("add_eos_token", false, tokenizer.eos_id()));
}

Model open_folder(const std::filesystem::path& path) {
  Model model;
  model.path = path;
  const std::filesystem::path config = path / "config.json";
  model.config = model_config_from_json(
      read_strict_json(config), read_if_there(path / "generation_config.json"), config.string());
  model.weights = std::make_shared<SafetensorsFile>(path);
  const auto tokenizer =
      std::make_shared<Tokenizer>(Tokenizer::from_json_file(path / "tokenizer.json"));
  const std::filesystem::path settings_file = path / "tokenizer_config.json";
  const nlohmann::json settings = read_if_there(settings_file);
  if (!settings.is_null()) {
    const JsonView view = JsonView(settings, settings_file.string()).object();
    model.chat_template = template_of(view);
    model.bos_token = special_token(view, "bos_token");
    model.eos_token = special_token(view, "eos_token");
  }
  if (std::filesystem::exists(path / "chat_template.jinja"))
    model.chat_template = read_file(path / "chat_template.jinja");
  const auto id = [&](const std::string& token) {
    return token.empty() ? std::nullopt : tokenizer->token_id(token);
  };
  tokenizer->set_bos_eos(id(model.bos_token), id(model.eos_token));
  if (!settings.is_null()) read_add_tokens(JsonView(settings, settings_file.string()), *tokenizer);
  model.tokenizer = tokenizer;
  check_fit(model);
  return model;
}

}  // namespace

std::string Model::chat_prompt(const std::vector<ChatMessage>& messages,
                               ChatOptions options) const {
  if (!has_chat_template())
    fail<ContractError>("{}: expected a chat template, the model has none", path.string());
  options.bos_token = bos_token;
  options.eos_token = eos_token;
  for (const auto& [name, value] : chat_variables.items())
    if (!options.variables.contains(name)) options.variables[name] = value;
  return ChatTemplate(chat_template, path.string() + ": chat_template").render(messages, options);
}

Model open_model(const std::filesystem::path& path) {
  std::error_code code;
  if (!std::filesystem::exists(path, code))
    fail<ContractError>("{}: expected a GGUF file or a Hugging Face folder, there is nothing",
                        path.string());
  return std::filesystem::is_directory(path, code) ? open_folder(path) : open_gguf(path);
}

}  // namespace vi::model
