// The decoder by plain ATen operations, on any device: the naive twin of decoder_cpu.cpp.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>

#include "core/common/interrupt.h"
#include "core/decoder/decoder_engine.h"

namespace vi::model {
namespace {

constexpr std::int64_t kLogitRows = 192;

struct Layer {
  at::Tensor q, k, v, o, gate, up, down;
  at::Tensor q_bias, k_bias, v_bias, o_bias, gate_bias, up_bias, down_bias;  // undefined: none
  at::Tensor input_norm, post_norm, q_norm, k_norm;
};

class PlainEngine final : public DecoderEngine {
 public:
  PlainEngine(const ModelConfig& config, const WeightFile& weights, const DecoderOptions& options)
      : DecoderEngine(config, options) {
    const ModelConfig& c = config_;
    const std::int64_t d = c.head_dim, q = c.n_q_heads * d, kv = c.n_kv_heads * d;
    const auto load = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
      weights.expect(name, shape);
      at::Tensor t = at::empty(shape, at::TensorOptions().dtype(at::kFloat));
      weights.read_f32(name, {t.data_ptr<float>(), static_cast<std::size_t>(t.numel())});
      return t.to(options_.device, options_.dtype);
    };
    embedding_ = load("model.embed_tokens.weight", {c.vocab, c.hidden});
    head_ = c.tie_embeddings ? embedding_ : load("lm_head.weight", {c.vocab, c.hidden});
    final_norm_ = load("model.norm.weight", {c.hidden});
    for (int i = 0; i < c.n_layers; ++i) {
      check_interrupt();
      const auto at = [&](std::string_view part) { return layer_weight(i, part); };
      Layer& l = layers_.emplace_back();
      l.q = load(at("self_attn.q_proj.weight"), {q, c.hidden});
      l.k = load(at("self_attn.k_proj.weight"), {kv, c.hidden});
      l.v = load(at("self_attn.v_proj.weight"), {kv, c.hidden});
      l.o = load(at("self_attn.o_proj.weight"), {c.hidden, q});
      l.gate = load(at("mlp.gate_proj.weight"), {c.ffn, c.hidden});
      l.up = load(at("mlp.up_proj.weight"), {c.ffn, c.hidden});
      l.down = load(at("mlp.down_proj.weight"), {c.hidden, c.ffn});
      l.input_norm = load(at("input_layernorm.weight"), {c.hidden});
      l.post_norm = load(at("post_attention_layernorm.weight"), {c.hidden});
      if (c.qk_norm) {
        l.q_norm = load(at("self_attn.q_norm.weight"), {d});
        l.k_norm = load(at("self_attn.k_norm.weight"), {d});
      }
      if (c.qkv_bias) {
        l.q_bias = load(at("self_attn.q_proj.bias"), {q});
        l.k_bias = load(at("self_attn.k_proj.bias"), {kv});
        l.v_bias = load(at("self_attn.v_proj.bias"), {kv});
      }
      if (c.o_bias) l.o_bias = load(at("self_attn.o_proj.bias"), {c.hidden});
      if (c.mlp_bias) {
        l.gate_bias = load(at("mlp.gate_proj.bias"), {c.ffn});
        l.up_bias = load(at("mlp.up_proj.bias"), {c.ffn});
        l.down_bias = load(at("mlp.down_proj.bias"), {c.hidden});
      }
    }
  }

  at::Tensor run(std::span<const std::int32_t> ids, const RopeTable& table, std::int64_t first,
                 AttentionHook& hook) const override {
    const auto n = std::ssize(ids);
    const at::Tensor cos = rope_tensor(table.cos, n), sin = rope_tensor(table.sin, n);
    at::Tensor x = at::embedding(embedding_, index(ids));
    for (int i = 0; i < config_.n_layers; ++i) {
      check_interrupt();
      const Layer& l = layers_[i];
      const at::Tensor y = norm(x, l.input_norm);
      at::Tensor q = split(at::linear(y, l.q, l.q_bias), config_.n_q_heads);
      at::Tensor k = split(at::linear(y, l.k, l.k_bias), config_.n_kv_heads);
      const at::Tensor v = split(at::linear(y, l.v, l.v_bias), config_.n_kv_heads);
      if (config_.qk_norm) {
        q = norm(q, l.q_norm);
        k = norm(k, l.k_norm);
      }
      const at::Tensor o = call_hook(hook, i, turn(q, cos, sin).contiguous(),
                                     turn(k, cos, sin).contiguous(), v.contiguous(), first);
      x = x + at::linear(o.to(x.options()), l.o, l.o_bias);
      const at::Tensor z = norm(x, l.post_norm);
      x = x +
          at::linear(at::silu(at::linear(z, l.gate, l.gate_bias)) * at::linear(z, l.up, l.up_bias),
                     l.down, l.down_bias);
    }
    return norm(x, final_norm_);
  }

  at::Tensor logits(const at::Tensor& hidden) const override {
    return at::linear(hidden.to(head_.options()), head_).to(at::kFloat);
  }

  std::vector<double> nll(const at::Tensor& hidden,
                          std::span<const std::int32_t> targets) const override {
    std::vector<double> out;
    for (std::int64_t r0 = 0; r0 < std::ssize(targets); r0 += kLogitRows) {
      const std::int64_t rows = std::min(kLogitRows, std::ssize(targets) - r0);
      const at::Tensor scores = logits(hidden.narrow(0, r0, rows));
      const at::Tensor wanted =
          scores.gather(1, index(targets.subspan(r0, rows)).unsqueeze(1)).squeeze(1);
      const at::Tensor rest =
          (at::logsumexp(scores, 1) - wanted).to(at::kCPU, at::kDouble).contiguous();
      out.insert(out.end(), rest.data_ptr<double>(), rest.data_ptr<double>() + rows);
    }
    return out;
  }

 private:
  at::Tensor index(std::span<const std::int32_t> ids) const {
    at::Tensor t = at::empty({std::ssize(ids)}, at::TensorOptions().dtype(at::kLong));
    std::copy(ids.begin(), ids.end(), t.data_ptr<std::int64_t>());
    return t.to(options_.device);
  }
  at::Tensor rope_tensor(const std::vector<float>& values, std::int64_t n) const {
    at::Tensor t = at::empty({n, config_.head_dim / 2}, at::TensorOptions().dtype(at::kFloat));
    std::copy(values.begin(), values.end(), t.data_ptr<float>());
    return t.to(options_.device);
  }
  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) const {
    const at::Tensor f = x.to(at::kFloat);
    const at::Tensor scale = at::rsqrt(f.pow(2).mean(-1, true) + config_.rms_eps);
    return (f * scale).to(x.scalar_type()) * weight;
  }
  at::Tensor split(const at::Tensor& x, int heads) const {  // [n, heads * d] -> [heads, n, d]
    return x.view({x.size(0), heads, config_.head_dim}).transpose(0, 1);
  }
  at::Tensor turn(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) const {
    const at::Tensor f = x.to(at::kFloat);
    const auto halves = f.chunk(2, -1);
    return at::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1)
        .to(x.scalar_type());
  }

  at::Tensor embedding_, head_, final_norm_;
  std::vector<Layer> layers_;
};

}  // namespace

std::unique_ptr<DecoderEngine> make_plain_engine(const ModelConfig& config,
                                                 const WeightFile& weights,
                                                 const DecoderOptions& options) {
  return std::make_unique<PlainEngine>(config, weights, options);
}

}  // namespace vi::model
