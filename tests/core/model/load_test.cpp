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

// Copies tiny_hf to the test's own folder; every call gives a whole one again.
std::filesystem::path fresh_folder() {
  std::filesystem::path folder;
  for (const auto& entry : std::filesystem::directory_iterator(fixture("tiny_hf")))
    folder = scratch("f/" + entry.path().filename().string(), read_file(entry.path())).parent_path();
  return folder;
}

TEST(OpenModel, DamagedShardsAreNamed) {
  const std::string shard = "model-00002-of-00002.safetensors";
  const std::string bytes = read_file(fixture("tiny_hf") / shard);
  const auto rejects = [&](std::initializer_list<const char*> parts) {
    expect_contract_error([] { open_model(scratch("f/config.json", read_file(fixture("tiny_hf/config.json"))).parent_path()); }, parts);
  };
  fresh_folder();
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{100}, bytes.size() - 1}) {
    scratch("f/" + shard, bytes.substr(0, size));
    rejects({shard.c_str()});
  }
  std::filesystem::remove(fresh_folder() / shard);
  rejects({shard.c_str()});
  fresh_folder();
  nlohmann::json index = json_fixture("tiny_hf/model.safetensors.index.json");
  index["weight_map"]["lm_head.weight"] = "model-00003-of-00002.safetensors";
  scratch("f/model.safetensors.index.json", index.dump());
  rejects({"model-00003-of-00002.safetensors"});
  index["weight_map"]["lm_head.weight"] = "../other.safetensors";
  scratch("f/model.safetensors.index.json", index.dump());
  rejects({"model.safetensors.index.json", "same folder"});
  scratch("f/model.safetensors.index.json", "{}");
  rejects({"model.safetensors.index.json", "weight_map", "missing"});
}

TEST(OpenModel, WeightsOfAnotherTypeOrShapeAreNamed) {
  const auto folder = fresh_folder();
  const std::string shard = "model-00001-of-00002.safetensors";
  const std::string bytes = read_file(folder / shard);
  const std::size_t dtype = bytes.find("\"F32\"");
  ASSERT_NE(dtype, std::string::npos);
  std::string other = bytes;
  other.replace(dtype, 5, "\"F64\"");  // a type that is left out: the tensor is then missing where it is asked for
  scratch("f/" + shard, other);
  const Model model = open_model(folder);
  EXPECT_EQ(model.weights->tensors().size(), 28u);
  other.replace(dtype, 5, "\"F16\"");  // half the bytes that stand there
  scratch("f/" + shard, other);
  expect_contract_error([&] { open_model(folder); }, {shard.c_str(), "data_offsets", "F16"});
  scratch("f/" + shard, bytes);
  const std::int64_t shape[] = {3, 3};
  expect_contract_error([&] { open_model(folder).weights->expect("lm_head.weight", shape); },
                        {"lm_head.weight", "[3, 3]"});
}

TEST(OpenModel, LlamaTokenizersAddWhatTheirSettingsSay) {
  const auto folder = fresh_folder();
  nlohmann::json settings = json_fixture("tiny_hf/tokenizer_config.json");
  const auto prefix = [&](const char* name, const nlohmann::json& bos, const nlohmann::json& eos) {
    settings["tokenizer_class"] = name;
    settings["add_bos_token"] = bos;
    settings["add_eos_token"] = eos;
    scratch("f/tokenizer_config.json", settings.dump());
    return open_model(folder).tokenizer->encode("", {.add_special = true});
  };
  using Ids = std::vector<std::int32_t>;
  EXPECT_EQ(prefix("LlamaTokenizerFast", true, true), (Ids{0, 1}));
  EXPECT_EQ(prefix("LlamaTokenizerFast", false, nullptr), Ids{});
  EXPECT_EQ(prefix("PreTrainedTokenizerFast", false, true), (Ids{0}));  // the file's own post_processor
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
