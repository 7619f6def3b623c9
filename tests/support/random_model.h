// A random Llama-like model in memory, without files or tokenizer, for tests of the decoder and of
// what runs on it.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/common/rng.h"
#include "core/model/model_config.h"
#include "core/weights/weights.h"

namespace vi::testing {

inline model::ModelConfig random_config() {
  model::ModelConfig c;
  c.architecture = "llama";
  c.hidden = 48, c.ffn = 40, c.vocab = 61;
  c.n_layers = 2, c.n_q_heads = 4, c.n_kv_heads = 2, c.head_dim = 16;
  c.max_position = 512;
  return c;
}

class RandomWeights final : public model::WeightFile {
 public:
  explicit RandomWeights(const model::ModelConfig& c, std::uint64_t seed = 1) {
    Rng rng(seed);
    std::vector<std::pair<std::string, std::vector<std::int64_t>>> all;
    const std::int64_t q = c.n_q_heads * c.head_dim, kv = c.n_kv_heads * c.head_dim;
    all.push_back({"model.embed_tokens.weight", {c.vocab, c.hidden}});
    if (!c.tie_embeddings) all.push_back({"lm_head.weight", {c.vocab, c.hidden}});
    all.push_back({"model.norm.weight", {c.hidden}});
    for (int i = 0; i < c.n_layers; ++i) {
      const auto add = [&](bool wanted, const std::string& part, std::vector<std::int64_t> shape) {
        if (wanted)
          all.push_back({"model.layers." + std::to_string(i) + "." + part, std::move(shape)});
      };
      add(true, "self_attn.q_proj.weight", {q, c.hidden});
      add(true, "self_attn.k_proj.weight", {kv, c.hidden});
      add(true, "self_attn.v_proj.weight", {kv, c.hidden});
      add(true, "self_attn.o_proj.weight", {c.hidden, q});
      add(true, "mlp.gate_proj.weight", {c.ffn, c.hidden});
      add(true, "mlp.up_proj.weight", {c.ffn, c.hidden});
      add(true, "mlp.down_proj.weight", {c.hidden, c.ffn});
      add(true, "input_layernorm.weight", {c.hidden});
      add(true, "post_attention_layernorm.weight", {c.hidden});
      add(c.qkv_bias, "self_attn.q_proj.bias", {q});
      add(c.qkv_bias, "self_attn.k_proj.bias", {kv});
      add(c.qkv_bias, "self_attn.v_proj.bias", {kv});
      add(c.o_bias, "self_attn.o_proj.bias", {c.hidden});
      add(c.mlp_bias, "mlp.gate_proj.bias", {c.ffn});
      add(c.mlp_bias, "mlp.up_proj.bias", {c.ffn});
      add(c.mlp_bias, "mlp.down_proj.bias", {c.hidden});
      add(c.qk_norm, "self_attn.q_norm.weight", {c.head_dim});
      add(c.qk_norm, "self_attn.k_norm.weight", {c.head_dim});
    }
    std::sort(all.begin(), all.end());
    std::vector<model::TensorInfo> infos;
    for (auto& [name, shape] : all) {
      model::TensorInfo info{name, model::TensorType::f32, shape};
      std::vector<float> values(static_cast<std::size_t>(info.elements()));
      const bool norm = name.find("norm") != std::string::npos;
      for (float& x : values)
        x = static_cast<float>(norm ? 1 + 0.2 * rng.normal() : 0.25 * rng.normal());
      values_.push_back(std::move(values));
      infos.push_back(std::move(info));
    }
    set_tensors("random", std::move(infos));
  }

 protected:
  void decode_row(std::size_t index, std::int64_t row, float* out) const override {
    const std::int64_t n = tensors()[index].columns();
    std::copy_n(values_[index].begin() + row * n, n, out);
  }
  std::vector<std::filesystem::path> files() const override { return {}; }

 private:
  std::vector<std::vector<float>> values_;  // parallel to tensors()
};

inline std::vector<std::int32_t> random_ids(std::int64_t n, std::int64_t vocab,
                                            std::uint64_t seed) {
  Rng rng(seed);
  std::vector<std::int32_t> out(static_cast<std::size_t>(n));
  for (auto& id : out) id = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(vocab)));
  return out;
}

}  // namespace vi::testing
