// ModelConfig from Hugging Face's config.json and generation_config.json.
#include <algorithm>
#include <cmath>

#include "core/common/error.h"
#include "core/common/strict_json.h"
#include "core/common/utf8.h"
#include "core/model/config_checks.h"
#include "core/weights/architectures.h"

namespace vi::model {
namespace {

std::int64_t integer(const JsonView& json, const char* key, std::int64_t least, std::int64_t most) {
  const std::int64_t value = json.at(key).integer();
  if (value < least || value > most)
    json.at(key).reject(fmt::format("{}..{}, got {}", least, most, value));
  return value;
}

std::int64_t integer(const JsonView& json, const char* key, std::int64_t least, std::int64_t most,
                     std::int64_t fallback) {
  return json.has(key) ? integer(json, key, least, most) : fallback;
}

double real(const JsonView& json, const char* key, double least, double most, double fallback) {
  const double value = json.number(key, fallback);
  if (!(value >= least && value <= most))
    json.at(key).reject(fmt::format("{}..{}, got {}", least, most, value));
  return value;
}

// "rope_theta" + "rope_scaling", or "rope_parameters" with both.
RopeConfig read_rope(const JsonView& config, std::int64_t max_position) {
  RopeConfig rope;
  rope.base = real(config, "rope_theta", 1.0, 1e15, 10000.0);
  const bool together = config.has("rope_parameters");
  if (!together && !config.has("rope_scaling")) return rope;
  const JsonView scaling = config.at(together ? "rope_parameters" : "rope_scaling").object();
  rope.base = real(scaling, "rope_theta", 1.0, 1e15, rope.base);
  const char* kind_key = scaling.has("rope_type") ? "rope_type" : "type";
  const std::string kind = scaling.string(kind_key, "default");
  if (kind == "default") return rope;
  if (kind == "linear")
    rope.scaling = RopeScalingKind::linear;
  else if (kind == "llama3")
    rope.scaling = RopeScalingKind::llama3;
  else if (kind == "dynamic")
    rope.scaling = RopeScalingKind::dynamic;
  else if (kind == "yarn")
    rope.scaling = RopeScalingKind::yarn;
  else
    scaling.at(kind_key).reject("default, linear, llama3, dynamic or yarn, got " + printable(kind));
  scaling.at("factor");
  rope.factor = real(scaling, "factor", 1e-3, 1e6, 1.0);
  // `dynamic` counts from max_position_embeddings whatever else is there, as transformers does.
  rope.original_max_position =
      rope.scaling == RopeScalingKind::dynamic
          ? max_position
          : integer(scaling, "original_max_position_embeddings", 1, kMaxPosition, max_position);
  if (rope.scaling == RopeScalingKind::llama3) {
    scaling.at("original_max_position_embeddings");
    rope.low_freq_factor = real(scaling, "low_freq_factor", 1e-6, 1e6, 1.0);
    rope.high_freq_factor = real(scaling, "high_freq_factor", 1e-6, 1e6, 4.0);
  }
  if (rope.scaling == RopeScalingKind::yarn) {
    rope.beta_fast = real(scaling, "beta_fast", 1e-3, 1e6, 32.0);
    rope.beta_slow = real(scaling, "beta_slow", 1e-3, 1e6, 1.0);
    if (scaling.has("mscale") || !scaling.boolean("truncate", true))
      scaling.reject("yarn without mscale and with truncation");
    rope.attention_factor =
        real(scaling, "attention_factor", 1e-3, 1e3, yarn_attention_factor(rope.factor));
  }
  return rope;
}

// An id, a list of ids, or null.
std::vector<std::int32_t> read_ids(const JsonView& json, const char* key) {
  std::vector<std::int32_t> ids;
  if (!json.has(key)) return ids;
  const JsonView value = json.at(key);
  const auto add = [&](const JsonView& v) {
    const std::int64_t id = v.integer();
    if (id < 0 || id >= kMaxVocab) v.reject("a token id");
    if (std::find(ids.begin(), ids.end(), static_cast<std::int32_t>(id)) == ids.end())
      ids.push_back(static_cast<std::int32_t>(id));
  };
  if (value.raw().is_array()) {
    if (value.size() > 1000) value.reject("at most 1000 ids");
    for (std::size_t i = 0; i < value.size(); ++i) add(value.at(i));
  } else {
    add(value);
  }
  return ids;
}

// Mistral slides in all layers; Qwen, where use_sliding_window says so, in those that layer_types names or
// from max_window_layers on. Llama has no window.
void read_window(const JsonView& json, ModelConfig& c) {
  const bool qwen = c.architecture.starts_with("qwen");
  if (c.architecture == "llama" || (qwen && !json.boolean("use_sliding_window", false))) return;
  c.sliding_window = integer(json, "sliding_window", 1, kMaxPosition, 0);
  if (c.sliding_window == 0 || !qwen) return;
  if (!json.has("layer_types")) {
    const std::int64_t first = integer(json, "max_window_layers", 0, 1 << 20, 28);
    for (int i = 0; i < c.n_layers; ++i) c.full_layers.push_back(i < first);
    return;
  }
  const JsonView types = json.at("layer_types").array();
  if (types.size() != static_cast<std::size_t>(c.n_layers))
    types.reject(fmt::format("{} entries, got {}", c.n_layers, types.size()));
  for (std::size_t i = 0; i < types.size(); ++i) {
    const std::string type = types.at(i).string();
    if (type != "full_attention" && type != "sliding_attention")
      types.at(i).reject("full_attention or sliding_attention, got " + printable(type));
    c.full_layers.push_back(type == "full_attention");
  }
}

}  // namespace

ModelConfig model_config_from_json(const nlohmann::json& config_json,
                                   const nlohmann::json& generation_config,
                                   std::string_view place) {
  const JsonView json = JsonView(config_json, std::string(place)).object();
  ModelConfig c;
  c.architecture = json.at("model_type").string();
  const Architecture& flags =
      find_architecture(c.architecture, std::string(place) + ": model_type");
  c.name = json.string("_name_or_path", "");
  c.hidden = integer(json, "hidden_size", 1, kMaxWidth);
  c.ffn = integer(json, "intermediate_size", 1, kMaxWidth);
  c.vocab = integer(json, "vocab_size", 1, kMaxVocab);
  c.n_layers = static_cast<int>(integer(json, "num_hidden_layers", 1, kMaxLayers));
  c.n_q_heads = static_cast<int>(integer(json, "num_attention_heads", 1, kMaxHeads));
  c.n_kv_heads = static_cast<int>(integer(json, "num_key_value_heads", 1, kMaxHeads, c.n_q_heads));
  c.head_dim = static_cast<int>(
      integer(json, "head_dim", 2, kMaxHeadDim, std::max<std::int64_t>(c.hidden / c.n_q_heads, 2)));
  c.rms_eps = real(json, "rms_norm_eps", 0.0, 1.0, 1e-6);
  c.max_position = integer(json, "max_position_embeddings", 1, kMaxPosition);
  c.rope = read_rope(json, c.max_position);
  const std::string activation = json.string("hidden_act", "silu");
  if (activation != "silu") json.at("hidden_act").reject("silu, got " + printable(activation));
  if (real(json, "partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0)
    json.at("partial_rotary_factor").reject("1 (no partial RoPE)");
  c.tie_embeddings = json.boolean("tie_word_embeddings", false);
  c.qk_norm = flags.qk_norm;
  const bool attention_bias = json.boolean("attention_bias", false);
  c.qkv_bias = flags.qkv_bias || attention_bias;
  c.o_bias = !flags.qkv_bias && attention_bias;
  c.mlp_bias = json.boolean("mlp_bias", false);
  read_window(json, c);
  const std::vector<std::int32_t> bos = read_ids(json, "bos_token_id");
  if (!bos.empty()) c.bos_id = bos[0];
  c.eos_ids = read_ids(json, "eos_token_id");
  if (!generation_config.is_null()) {
    const JsonView generation =
        JsonView(generation_config, std::string(place) + ": generation_config.json").object();
    if (generation.has("eos_token_id")) c.eos_ids = read_ids(generation, "eos_token_id");
  }
  check_config(c, place);
  return c;
}

}  // namespace vi::model
