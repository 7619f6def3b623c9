// What the fuzzers of core/model's text side do with one input; the corpus test runs the same. An
// input may throw a ContractError of one line, and nothing else.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "core/chat/jinja.h"
#include "core/common/error.h"
#include "core/common/strict_json.h"
#include "core/model/model_config.h"
#include "core/tokenizer/tokenizer.h"
#include "core/weights/gguf.h"
#include "core/weights/safetensors.h"

namespace vi::fuzz {

using Bytes = std::span<const std::uint8_t>;

template <class F>
void expect_contract(F&& f) {
  try {
    f();
  } catch (const ContractError& error) {
    const std::string text = error.what();
    if (text.empty() || text.find('\n') != std::string::npos || text.size() > 4096)
      throw std::logic_error("expected a message of one line: " + text);
  }
}

inline std::string as_text(Bytes input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

inline void read_weights(const model::WeightFile& file) {
  for (const model::TensorInfo& t : file.tensors()) {
    if (t.columns() > 1 << 20) continue;
    std::vector<float> row(static_cast<std::size_t>(t.columns()));
    for (const std::int64_t r : {std::int64_t{0}, t.rows() / 2, t.rows() - 1})
      expect_contract([&] { file.read_rows(t.name, r, 1, row); });
  }
}

inline void use_tokenizer(const model::Tokenizer& tokenizer) {
  constexpr std::string_view kText =
      "Hello  world's 123\n\n \xc3\xa9t\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 <|end|> <l> x\t\r\n";
  expect_contract([&] {
    const auto ids = tokenizer.encode(kText, {.add_special = true});
    tokenizer.decode(ids);
    tokenizer.decode(ids, true);
    std::vector<std::int32_t> streamed;
    model::StreamEncoder encoder(tokenizer,
                                 [&](std::span<const std::int32_t> part) {
                                   streamed.insert(streamed.end(), part.begin(), part.end());
                                 },
                                 {.add_special = true});
    for (const char c : kText) encoder.feed({&c, 1});
    encoder.finish();
    if (streamed != ids) throw std::logic_error("the stream's ids differ");
  });
}

inline void gguf(Bytes input) {
  expect_contract([&] {
    const model::GgufFile file({input.begin(), input.end()}, "fuzz.gguf");
    read_weights(file);
    expect_contract([&] {
      const model::ModelConfig config = model::model_config_from_gguf(file);
      model::rope_frequencies(config.rope, config.head_dim, config.max_position + 1);
    });
    use_tokenizer(model::Tokenizer::from_gguf(file));
  });
}

inline void safetensors(Bytes input) {
  expect_contract([&] {
    read_weights(model::SafetensorsFile({input.begin(), input.end()}, "fuzz.safetensors"));
  });
}

inline void tokenizer_json(Bytes input) {
  expect_contract(
      [&] { use_tokenizer(model::Tokenizer::from_json(as_text(input), "tokenizer.json")); });
}

inline void config_json(Bytes input) {
  expect_contract([&] {
    const nlohmann::json json = model::parse_strict_json(as_text(input), "config.json");
    const model::ModelConfig config = model::model_config_from_json(json, json, "config.json");
    model::rope_frequencies(config.rope, config.head_dim, config.max_position + 1);
  });
}

inline void jinja(Bytes input) {
  expect_contract([&] {
    const model::jinja::Template program(as_text(input), "template");
    static const Json variables =
        Json::parse(R"({"messages": [{"role": "user", "content": "Hi <there>\n"},
      {"role": "assistant", "content": "<think>\nx\n</think>\n\nyo", "tool_calls": [{"function": {"name": "f",
      "arguments": {"a": 1, "b": [null, true, 1.5]}}}]}], "tools": [{"type": "function"}], "add_generation_prompt":
      true, "bos_token": "<s>", "eos_token": "</s>", "n": 3, "text": "a\u00e9\u4e2d"})");
    program.render(variables, std::nullopt, {.steps = 20000, .output_bytes = 1 << 20});
  });
}

}  // namespace vi::fuzz
