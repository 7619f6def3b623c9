// What a decoder must know about a model, read from GGUF metadata or config.json. Architectures are rows of a
// table of flags (core/weights/architectures.h).
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vi::model {

class GgufFile;

enum class RopeScalingKind { none, linear, llama3, dynamic, yarn };
std::string_view rope_scaling_name(RopeScalingKind kind);

struct RopeConfig {
  double base = 10000.0;
  RopeScalingKind scaling = RopeScalingKind::none;
  double factor = 1.0;                     // linear, llama3, dynamic, yarn
  double low_freq_factor = 1.0;            // llama3
  double high_freq_factor = 4.0;           // llama3
  std::int64_t original_max_position = 0;  // llama3, dynamic, yarn
  double beta_fast = 32.0, beta_slow = 1.0;  // yarn
  double attention_factor = 1.0;             // yarn: cos and sin are multiplied by it
  // Divisors of the unscaled frequencies [head_dim / 2] where the file gives them as a tensor (GGUF's
  // rope_freqs.weight, how Llama-3 scaling is stored there); they replace the formula of `scaling`.
  std::vector<float> freq_divisors;
};

// Angle per position of each pair of channels (i, i + head_dim / 2) [head_dim / 2]. `kv_len` matters for
// `dynamic` alone: the length of the whole sequence.
std::vector<double> rope_frequencies(const RopeConfig& rope, int head_dim, std::int64_t kv_len = 0);

struct ModelConfig {
  std::string architecture;  // a row of architectures(): "llama", "mistral", "qwen2", "qwen3"
  std::string name;          // general.name, or config.json's _name_or_path; for people only
  std::int64_t hidden = 0, ffn = 0, vocab = 0;
  int n_layers = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0;
  double rms_eps = 1e-5;
  RopeConfig rope;
  bool tie_embeddings = false;  // lm_head is embed_tokens
  bool qkv_bias = false;        // q_proj.bias, k_proj.bias, v_proj.bias exist
  bool o_bias = false;          // o_proj.bias exists
  bool mlp_bias = false;        // gate/up/down biases exist
  bool qk_norm = false;         // RMS norm of each query and key head before RoPE
  std::int64_t sliding_window = 0;  // 0: full attention; else each query sees this many newest tokens
  std::vector<bool> full_layers;    // layers without the window; empty: it holds in all
  std::int64_t max_position = 0;
  std::int32_t bos_id = -1;               // -1: none
  std::vector<std::int32_t> eos_ids;      // any of them ends a generation

  std::int64_t window(int layer) const {  // 0: full attention
    const auto at = static_cast<std::size_t>(layer);
    return at < full_layers.size() && full_layers[at] ? 0 : sliding_window;
  }
  int gqa_group() const { return n_q_heads / n_kv_heads; }
};

ModelConfig model_config_from_gguf(const GgufFile& file);
// `config` is config.json; `generation_config` may be null (its eos_token_id list wins). `place`: the
// path that errors name.
ModelConfig model_config_from_json(const nlohmann::json& config, const nlohmann::json& generation_config,
                                   std::string_view place);

}  // namespace vi::model
