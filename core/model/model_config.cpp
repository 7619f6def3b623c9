// ModelConfig from GGUF metadata, and the checks that both sources share.
#include "core/model/model_config.h"

#include <cmath>

#include "core/common/error.h"
#include "core/common/utf8.h"
#include "core/model/config_checks.h"
#include "core/weights/architectures.h"
#include "core/weights/gguf.h"

namespace vi::model {

std::int64_t in_range(std::int64_t value, std::int64_t least, std::int64_t most,
                      std::string_view place) {
  if (value < least || value > most)
    fail<ContractError>("{}: expected {}..{}, got {}", place, least, most, value);
  return value;
}

double in_range(double value, double least, double most, std::string_view place) {
  if (!(value >= least && value <= most))
    fail<ContractError>("{}: expected {}..{}, got {}", place, least, most, value);
  return value;
}

double yarn_attention_factor(double factor) {
  return factor > 1.0 ? 0.1 * std::log(factor) + 1.0 : 1.0;
}

void check_config(const ModelConfig& c, std::string_view place) {
  if (c.n_q_heads % c.n_kv_heads != 0)
    fail<ContractError>("{}: expected query heads as a multiple of KV heads, got {} and {}", place,
                        c.n_q_heads, c.n_kv_heads);
  if (c.head_dim % 2 != 0)
    fail<ContractError>("{}: expected an even head_dim, got {}", place, c.head_dim);
  if (c.rope.scaling != RopeScalingKind::none && c.rope.scaling != RopeScalingKind::linear &&
      c.rope.freq_divisors.empty() && c.rope.original_max_position < 1)
    fail<ContractError>("{}: expected original_max_position_embeddings of 1 or more for {} RoPE",
                        place, rope_scaling_name(c.rope.scaling));
  if (c.rope.scaling == RopeScalingKind::llama3 && c.rope.freq_divisors.empty() &&
      !(c.rope.high_freq_factor > c.rope.low_freq_factor))
    fail<ContractError>("{}: expected high_freq_factor above low_freq_factor, got {} and {}", place,
                        c.rope.high_freq_factor, c.rope.low_freq_factor);
  const auto check_id = [&](std::int32_t id, const char* what) {
    if (id < 0 || id >= c.vocab)
      fail<ContractError>("{}: expected {} below the vocabulary's {}, got {}", place, what, c.vocab,
                          id);
  };
  if (c.bos_id != -1) check_id(c.bos_id, "a BOS id");
  for (const std::int32_t id : c.eos_ids) check_id(id, "EOS ids");
}

ModelConfig model_config_from_gguf(const GgufFile& file) {
  const std::string path = file.path().string();
  const std::string arch = file.architecture();
  const Architecture& flags = find_architecture(arch, path + ": key general.architecture");
  const auto integer = [&](const std::string& suffix, std::int64_t least, std::int64_t most,
                           std::int64_t fallback = -1) {
    const std::string key = arch + "." + suffix;
    const std::int64_t value = fallback >= 0 ? file.get_int(key, fallback) : file.get_int(key);
    return in_range(value, least, most, path + ": key " + key);
  };
  const auto real = [&](const std::string& suffix, double least, double most,
                        double fallback = -1) {
    const std::string key = arch + "." + suffix;
    const double value = fallback >= 0 ? file.get_double(key, fallback) : file.get_double(key);
    return in_range(value, least, most, path + ": key " + key);
  };

  ModelConfig c;
  c.architecture = arch;
  c.name = file.get_string("general.name", "");
  c.hidden = integer("embedding_length", 1, kMaxWidth);
  c.ffn = integer("feed_forward_length", 1, kMaxWidth);
  c.n_layers = static_cast<int>(integer("block_count", 1, kMaxLayers));
  c.n_q_heads = static_cast<int>(integer("attention.head_count", 1, kMaxHeads));
  c.n_kv_heads = static_cast<int>(integer("attention.head_count_kv", 1, kMaxHeads, c.n_q_heads));
  c.head_dim = static_cast<int>(integer("attention.key_length", 2, kMaxHeadDim,
                                        std::max<std::int64_t>(c.hidden / c.n_q_heads, 2)));
  if (integer("attention.value_length", 2, kMaxHeadDim, c.head_dim) != c.head_dim)
    fail<ContractError>("{}: key {}.attention.value_length: expected the key's {}", path, arch,
                        c.head_dim);
  if (integer("rope.dimension_count", 1, kMaxHeadDim, c.head_dim) != c.head_dim)
    fail<ContractError>("{}: key {}.rope.dimension_count: expected head_dim {} (no partial RoPE)",
                        path, arch, c.head_dim);
  if (integer("expert_count", 0, 1 << 20, 0) != 0)
    fail<ContractError>("{}: key {}.expert_count: expected a dense model (0)", path, arch);
  c.rms_eps = real("attention.layer_norm_rms_epsilon", 0.0, 1.0);
  c.max_position = integer("context_length", 1, kMaxPosition);
  c.sliding_window = integer("attention.sliding_window", 0, kMaxPosition, 0);
  const TensorInfo& embedding = file.at("model.embed_tokens.weight");
  c.vocab = in_range(embedding.rows(), 1, kMaxVocab, path + ": tensor token_embd.weight: rows");
  c.tie_embeddings = !file.find("lm_head.weight");
  c.qkv_bias = file.find("model.layers.0.self_attn.q_proj.bias") != nullptr;
  c.o_bias = file.find("model.layers.0.self_attn.o_proj.bias") != nullptr;
  c.mlp_bias = file.find("model.layers.0.mlp.up_proj.bias") != nullptr;
  c.qk_norm = flags.qk_norm;

  RopeConfig& rope = c.rope;
  rope.base = real("rope.freq_base", 1.0, 1e15, 10000.0);
  const std::string kind = file.get_string(arch + ".rope.scaling.type", "none");
  if (kind == "linear" || kind == "yarn") {
    rope.scaling = kind == "linear" ? RopeScalingKind::linear : RopeScalingKind::yarn;
    rope.factor = real("rope.scaling.factor", 1e-3, 1e6);
  } else if (kind != "none") {
    fail<ContractError>("{}: key {}.rope.scaling.type: expected none, linear or yarn, got {}", path,
                        arch, printable(kind));
  }
  if (rope.scaling == RopeScalingKind::yarn) {
    rope.original_max_position = integer("rope.scaling.original_context_length", 1, kMaxPosition);
    rope.attention_factor =
        real("rope.scaling.attn_factor", 1e-3, 1e3, 1.0) * yarn_attention_factor(rope.factor);
    rope.beta_fast = real("rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32.0);
    rope.beta_slow = real("rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1.0);
  }
  if (file.find("rope_freqs.weight")) {
    const std::int64_t shape[] = {c.head_dim / 2};
    file.expect("rope_freqs.weight", shape);
    rope.scaling = RopeScalingKind::llama3;
    rope.freq_divisors = file.read_f32("rope_freqs.weight");
    for (const float divisor : rope.freq_divisors)
      in_range(static_cast<double>(divisor), 1e-6, 1e6, path + ": tensor rope_freqs.weight");
  }

  const auto id = [&](const char* key) {
    return static_cast<std::int32_t>(
        in_range(file.get_int(key, -1), -1, kMaxVocab, fmt::format("{}: key {}", path, key)));
  };
  c.bos_id = id("tokenizer.ggml.bos_token_id");
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    const std::int32_t eos = id(key);
    if (eos >= 0 && (c.eos_ids.empty() || c.eos_ids[0] != eos)) c.eos_ids.push_back(eos);
  }
  check_config(c, path);
  return c;
}

}  // namespace vi::model
