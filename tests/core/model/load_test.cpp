#include "core/model/load.h"

#include "tests/core/model/text_fixtures.h"

namespace vi::model {
namespace {

TEST(OpenModel, GgufAndFolderGiveTheSame) {
  const Model a = open_model(fixture("tiny.gguf")), b = open_model(fixture("tiny_hf"));
  for (const Model* m : {&a, &b}) {
    EXPECT_EQ(m->config.vocab, m->tokenizer->vocab_size());
    EXPECT_EQ(m->bos_token, "<|begin|>");
    EXPECT_EQ(m->eos_token, "<|end|>");
    EXPECT_EQ(m->tokenizer->bos_id(), 0);
    EXPECT_EQ(m->tokenizer->prefix_ids(), (std::vector<std::int32_t>{0}));
    EXPECT_TRUE(m->has_chat_template());
    EXPECT_EQ(m->weights->tensors().size(), 29u);
  }
  const std::string text = "hello  hello<|end|>12 \xc3\xa9";
  EXPECT_EQ(a.tokenizer->encode(text), b.tokenizer->encode(text));
  EXPECT_EQ(a.chat_prompt({{"user", "hello"}}), b.chat_prompt({{"user", "hello"}}));
}

TEST(OpenModel, BadInputIsNamed) {
  expect_contract_error([] { open_model("nowhere/at/all"); }, {"nowhere/at/all", "nothing"});
  expect_contract_error([] { open_model(fixture("chat")); }, {"config.json"});
  expect_contract_error([] { open_model(fixture("bpe_cases.json")); }, {"bpe_cases.json", "GGUF"});
  const auto copy = [](const char* name, const std::string& bytes) { return scratch(std::string("m/") + name, bytes); };
  for (const auto& entry : std::filesystem::directory_iterator(fixture("tiny_hf")))
    copy(entry.path().filename().c_str(), read_file(entry.path()));
  const auto folder = copy("chat_template.jinja", "{{ messages[0].content }}!").parent_path();
  EXPECT_EQ(open_model(folder).chat_prompt({{"user", "x"}}), "x!");
  copy("chat_template.jinja", "{% if %}");
  expect_contract_error([&] { open_model(folder).chat_prompt({{"user", "x"}}); }, {"chat_template", "line 1"});
  nlohmann::json config = json_fixture("tiny_hf/config.json");
  config["vocab_size"] = 100;
  copy("config.json", config.dump());
  expect_contract_error([&] { open_model(folder); }, {"tokenizer", "100"});
  copy("config.json", "{");
  expect_contract_error([&] { open_model(folder); }, {"config.json", "JSON"});
}

TEST(OpenModel, EmbeddedModel) {
  if (!std::filesystem::exists(smollm_gguf())) GTEST_SKIP() << "no " << smollm_gguf() << ": run `make setup`";
  const Model m = open_model(smollm_gguf());
  EXPECT_EQ(m.config.architecture, "llama");
  EXPECT_EQ(m.eos_token, "<|im_end|>");
  EXPECT_TRUE(m.tokenizer->prefix_ids().empty());
  const std::string prompt = m.chat_prompt({{"user", "Hi"}});
  EXPECT_EQ(prompt,
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(m.tokenizer->encode(prompt).front(), 1);
}

}  // namespace
}  // namespace vi::model
