#include "core/model/model_config.h"

#include "core/common/strict_json.h"
#include "core/weights/gguf.h"
#include "tests/core/model/text_fixtures.h"

namespace vi::model {
namespace {

RopeScalingKind kind_of(const std::string& name) {
  for (const auto kind : {RopeScalingKind::none, RopeScalingKind::linear, RopeScalingKind::llama3,
                          RopeScalingKind::dynamic, RopeScalingKind::yarn})
    if (rope_scaling_name(kind) == name) return kind;
  throw Error("no kind " + name);
}

TEST(Rope, FrequenciesAreTheReferences) {
  for (const auto& c : json_fixture("rope_cases.json")) {
    SCOPED_TRACE(c.dump().substr(0, 200));
    RopeConfig rope;
    rope.base = c["base"];
    rope.scaling = kind_of(c["kind"]);
    rope.factor = c.value("factor", 1.0);
    rope.low_freq_factor = c.value("low_freq_factor", 1.0);
    rope.high_freq_factor = c.value("high_freq_factor", 4.0);
    rope.original_max_position =
        c.value("original_max_position_embeddings", c.value("max_position", 0));
    const std::vector<double> got = rope_frequencies(rope, c["dim"], c.value("kv_len", 0));
    const std::vector<double> want = c["expected"];
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12 * want[i]) << i;
  }
}

TEST(Rope, DivisorsReplaceTheFormula) {
  RopeConfig rope;
  rope.scaling = RopeScalingKind::llama3;
  rope.freq_divisors = {1.0f, 8.0f};
  const std::vector<double> got = rope_frequencies(rope, 4);
  EXPECT_DOUBLE_EQ(got[0], 1.0);
  EXPECT_DOUBLE_EQ(got[1], 0.01 / 8);
}

TEST(ModelConfig, GgufAndFolderAgree) {
  const ModelConfig a = model_config_from_gguf(GgufFile(fixture("tiny.gguf")));
  const ModelConfig b = model_config_from_json(json_fixture("tiny_hf/config.json"),
                                               json_fixture("tiny_hf/generation_config.json"), "c");
  for (const ModelConfig* c : {&a, &b}) {
    EXPECT_EQ(c->architecture, "llama");
    EXPECT_EQ(c->name, "tiny");
    EXPECT_EQ(c->hidden, 8);
    EXPECT_EQ(c->ffn, 12);
    EXPECT_EQ(c->vocab, 264);
    EXPECT_EQ(c->n_layers, 2);
    EXPECT_EQ(c->n_q_heads, 4);
    EXPECT_EQ(c->n_kv_heads, 2);
    EXPECT_EQ(c->head_dim, 6);
    EXPECT_EQ(c->gqa_group(), 2);
    EXPECT_NEAR(c->rms_eps, 1e-5, 1e-12);
    EXPECT_EQ(c->rope.base, 5000.0);
    EXPECT_EQ(c->rope.scaling, RopeScalingKind::none);
    EXPECT_FALSE(c->tie_embeddings);
    EXPECT_TRUE(c->qkv_bias);
    EXPECT_TRUE(c->o_bias);
    EXPECT_FALSE(c->mlp_bias);
    EXPECT_FALSE(c->qk_norm);
    EXPECT_EQ(c->sliding_window, 0);
    EXPECT_EQ(c->max_position, 128);
    EXPECT_EQ(c->bos_id, 0);
    EXPECT_EQ(c->eos_ids, (std::vector<std::int32_t>{1}));
  }
}

ModelConfig changed(const char* patch, const char* generation = "null") {
  nlohmann::json json = json_fixture("tiny_hf/config.json");
  json.merge_patch(nlohmann::json::parse(patch));
  return model_config_from_json(json, nlohmann::json::parse(generation), "m/config.json");
}

TEST(ModelConfig, Variants) {
  const ModelConfig llama3 =
      changed(R"({"eos_token_id":[2,3],"rope_scaling":{"rope_type":"llama3","factor":8.0,
      "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":64}})");
  EXPECT_EQ(llama3.rope.scaling, RopeScalingKind::llama3);
  EXPECT_EQ(llama3.rope.factor, 8.0);
  EXPECT_EQ(llama3.rope.original_max_position, 64);
  EXPECT_EQ(llama3.eos_ids, (std::vector<std::int32_t>{2, 3}));
  EXPECT_EQ(changed(R"({"eos_token_id":1})", R"({"eos_token_id":[7,8,7]})").eos_ids,
            (std::vector<std::int32_t>{7, 8}));
  EXPECT_EQ(
      changed(R"({"rope_theta":null,"rope_parameters":{"rope_theta":7.0,"rope_type":"default"}})")
          .rope.base,
      7.0);
  const ModelConfig qwen2 =
      changed(R"({"model_type":"qwen2","attention_bias":null,"tie_word_embeddings":true})");
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.o_bias && qwen2.tie_embeddings);
  const ModelConfig qwen3 = changed(R"({"model_type":"qwen3","attention_bias":false})");
  EXPECT_TRUE(qwen3.qk_norm && !qwen3.qkv_bias);
  EXPECT_EQ(changed(R"({"model_type":"mistral","sliding_window":32})").sliding_window, 32);
  EXPECT_EQ(changed(R"({"model_type":"mistral","sliding_window":null})").window(0), 0);
  EXPECT_EQ(changed(R"({"use_sliding_window":true,"sliding_window":32})").window(0), 0);  // llama
  const ModelConfig slides = changed(
      R"({"model_type":"qwen2","use_sliding_window":true,"sliding_window":8,"max_window_layers":1})");
  EXPECT_EQ(slides.window(0), 0);
  EXPECT_EQ(slides.window(1), 8);
  const ModelConfig types = changed(
      R"({"model_type":"qwen3","use_sliding_window":true,"sliding_window":8,
          "layer_types":["sliding_attention","full_attention"]})");
  EXPECT_EQ(types.window(0), 8);
  EXPECT_EQ(types.window(1), 0);
  EXPECT_EQ(changed(R"({"model_type":"qwen2","use_sliding_window":false,"sliding_window":8})").window(1), 0);
  EXPECT_EQ(changed(R"({"head_dim":null})").head_dim, 2);
  EXPECT_NEAR(changed(R"({"rope_scaling":{"type":"yarn","factor":4.0}})").rope.attention_factor,
              1.1386, 1e-4);
}

TEST(ModelConfig, BadInputIsNamed) {
  const auto rejects = [](const char* patch, std::initializer_list<const char*> parts) {
    SCOPED_TRACE(patch);
    expect_contract_error([&] { changed(patch); }, parts);
  };
  rejects(R"({"model_type":"gpt_neox"})", {"m/config.json", "model_type", "llama", "gpt_neox"});
  rejects(R"({"hidden_size":null})", {"m/config.json", "hidden_size", "missing"});
  rejects(R"({"hidden_size":-4})", {"hidden_size", "-4"});
  rejects(R"({"hidden_size":"8"})", {"hidden_size", "integer"});
  rejects(R"({"hidden_size":1e300})", {"hidden_size", "integer"});
  rejects(R"({"num_hidden_layers":99999999999})", {"num_hidden_layers"});
  rejects(R"({"num_key_value_heads":3})", {"multiple"});
  rejects(R"({"num_key_value_heads":0})", {"num_key_value_heads"});
  rejects(R"({"head_dim":7})", {"even head_dim"});
  rejects(R"({"hidden_act":"gelu"})", {"hidden_act", "silu"});
  rejects(R"({"rope_scaling":{"type":"su","factor":2}})", {"rope_scaling.type", "yarn", "su"});
  rejects(R"({"rope_scaling":{"type":"linear"}})", {"rope_scaling.factor", "missing"});
  rejects(R"({"rope_scaling":{"type":"linear","factor":0}})", {"rope_scaling.factor"});
  rejects(R"({"rope_scaling":{"type":"llama3","factor":8}})", {"original_max_position_embeddings"});
  rejects(R"({"rope_scaling":[]})", {"rope_scaling", "object"});
  rejects(R"({"eos_token_id":264})", {"EOS", "264"});
  rejects(R"({"eos_token_id":[[1]]})", {"eos_token_id[0]", "integer"});
  rejects(R"({"bos_token_id":-2})", {"bos_token_id"});
  const char* qwen = R"({"model_type":"qwen2","use_sliding_window":true,"sliding_window":8,)";
  rejects((std::string(qwen) + R"("layer_types":["full_attention"]})").c_str(), {"layer_types", "2 entries"});
  rejects((std::string(qwen) + R"("layer_types":["full_attention","chunked"]})").c_str(),
          {"layer_types[1]", "chunked"});
  rejects((std::string(qwen) + R"("max_window_layers":-1})").c_str(), {"max_window_layers"});
  rejects(R"({"model_type":"mistral","sliding_window":0})", {"sliding_window"});
}

TEST(StrictJson, RefusesWhatIsAmbiguousOrDeep) {
  expect_contract_error([] { parse_strict_json(R"({"a":1,"a":2})", "f"); }, {"f", "key a", "once"});
  expect_contract_error([] { parse_strict_json(std::string(100000, '['), "f"); }, {"f", "64 deep"});
  expect_contract_error([] { parse_strict_json("{\"a\":\"\xff\"}", "f"); }, {"f: byte 6", "UTF-8"});
  expect_contract_error([] { parse_strict_json("{\"a\":", "f"); }, {"f: byte", "JSON"});
  expect_contract_error([] { parse_strict_json("", "f"); }, {"f", "JSON"});
  EXPECT_EQ(parse_strict_json(R"([{"a":[1,2,{"b":null}]},-1.5,"x",true])", "f").dump(),
            R"([{"a":[1,2,{"b":null}]},-1.5,"x",true])");
}

TEST(ModelConfig, EmbeddedModel) {
  if (!std::filesystem::exists(smollm_gguf()))
    GTEST_SKIP() << "no " << smollm_gguf() << ": run `make setup`";
  const ModelConfig c = model_config_from_gguf(GgufFile(smollm_gguf()));
  EXPECT_EQ(c.n_layers, 30);
  EXPECT_EQ(c.hidden, 576);
  EXPECT_EQ(c.ffn, 1536);
  EXPECT_EQ(c.n_q_heads, 9);
  EXPECT_EQ(c.n_kv_heads, 3);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.vocab, 49152);
  EXPECT_EQ(c.rope.base, 100000.0);
  EXPECT_TRUE(c.tie_embeddings);
  EXPECT_EQ(c.max_position, 8192);
  EXPECT_EQ(c.eos_ids, (std::vector<std::int32_t>{2}));
}

}  // namespace
}  // namespace vi::model
