#include "tests/support/tiny_model.h"

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "core/common/json.h"
#include "core/common/rng.h"

namespace vi::test {
namespace fs = std::filesystem;
namespace {

constexpr int kHidden = 64, kLayers = 2, kQueryHeads = 4, kKvHeads = 2, kHeadDim = 32, kFfn = 96, kVocab = 257;

void write_file(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

// GPT-2's map of bytes to printable characters, as UTF-8.
std::vector<std::string> byte_alphabet() {
  std::vector<std::string> alphabet(256);
  int extra = 0;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
    const int code = printable ? b : 256 + extra++;
    std::string& text = alphabet[static_cast<std::size_t>(b)];
    if (code < 0x80) {
      text = static_cast<char>(code);
    } else {
      text += static_cast<char>(0xc0 | (code >> 6));
      text += static_cast<char>(0x80 | (code & 63));
    }
  }
  return alphabet;
}

}  // namespace

void write_tiny_model(const fs::path& folder, std::uint64_t seed) {
  fs::create_directories(folder);
  write_file(folder / "config.json",
             Json{{"model_type", "llama"}, {"architectures", {"LlamaForCausalLM"}}, {"hidden_size", kHidden},
                  {"intermediate_size", kFfn}, {"num_hidden_layers", kLayers}, {"num_attention_heads", kQueryHeads},
                  {"num_key_value_heads", kKvHeads}, {"head_dim", kHeadDim}, {"vocab_size", kVocab},
                  {"rms_norm_eps", 1e-5}, {"rope_theta", 10000.0}, {"max_position_embeddings", 2048},
                  {"hidden_act", "silu"}, {"tie_word_embeddings", true}, {"eos_token_id", 256},
                  {"attention_bias", false}, {"mlp_bias", false}, {"torch_dtype", "float32"}}.dump(1));
  Json vocab = Json::object();
  int id = 0;
  for (const std::string& text : byte_alphabet()) vocab[text] = id++;
  write_file(folder / "tokenizer.json",
             Json{{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr},
                  {"added_tokens", Json::array({Json{{"id", 256}, {"content", "<|end|>"}, {"single_word", false},
                                                     {"lstrip", false}, {"rstrip", false}, {"normalized", false},
                                                     {"special", true}}})},
                  {"normalizer", nullptr},
                  {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
                  {"post_processor", nullptr}, {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
                  {"model", {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr}, {"continuing_subword_prefix", nullptr},
                             {"end_of_word_suffix", nullptr}, {"fuse_unk", false}, {"byte_fallback", false},
                             {"ignore_merges", false}, {"vocab", vocab}, {"merges", Json::array()}}}}.dump(1));
  Rng rng(seed);
  Json header = Json::object();
  std::vector<float> data;
  const auto add = [&](const std::string& name, std::vector<int> shape, double scale, double mean = 0.0) {
    std::size_t n = 1;
    for (int s : shape) n *= static_cast<std::size_t>(s);
    header[name] = Json{{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {data.size() * 4, (data.size() + n) * 4}}};
    for (std::size_t i = 0; i < n; ++i) data.push_back(static_cast<float>(mean + scale * rng.normal()));
  };
  add("model.embed_tokens.weight", {kVocab, kHidden}, 0.5);
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string p = "model.layers." + std::to_string(layer) + ".";
    add(p + "input_layernorm.weight", {kHidden}, 0.05, 1.0);
    add(p + "self_attn.q_proj.weight", {kQueryHeads * kHeadDim, kHidden}, 0.2);
    add(p + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kHidden}, 0.2);
    add(p + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kHidden}, 0.2);
    add(p + "self_attn.o_proj.weight", {kHidden, kQueryHeads * kHeadDim}, 0.2);
    add(p + "post_attention_layernorm.weight", {kHidden}, 0.05, 1.0);
    add(p + "mlp.gate_proj.weight", {kFfn, kHidden}, 0.1);
    add(p + "mlp.up_proj.weight", {kFfn, kHidden}, 0.1);
    add(p + "mlp.down_proj.weight", {kHidden, kFfn}, 0.1);
  }
  add("model.norm.weight", {kHidden}, 0.05, 1.0);
  const std::string json = header.dump();
  std::ofstream out(folder / "model.safetensors", std::ios::binary);
  const std::uint64_t size = json.size();
  out.write(reinterpret_cast<const char*>(&size), 8);
  out << json;
  out.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size() * 4));
}

void write_text(const fs::path& file, std::size_t words, std::uint64_t seed) {
  static const char* const kWords[] = {"the", "cache", "holds", "keys", "and", "values", "of", "each", "layer", "a", "query",
                                       "sees", "them", "all", "smooth", "channel", "rotates", "into", "codes", "again"};
  Rng rng(seed);
  std::ofstream out(file, std::ios::binary);
  for (std::size_t i = 0; i < words; ++i) out << kWords[rng.below(std::size(kWords))] << (i % 13 == 12 ? ".\n" : " ");
}

}  // namespace vi::test
