#include "cuda/torch/engine.h"

#include <algorithm>

#include "core/common/error.h"
#include "core/common/interrupt.h"

namespace vi::cuda {
namespace {

constexpr std::int64_t kChunkRows = 8192;   // rows of a layer's temporaries
constexpr std::int64_t kLogitRows = 512;    // rows of f32 logits alive at once

}  // namespace

WeightSource weights_of(const model::WeightFile& weights) {
  return [&weights](const std::string& name, at::IntArrayRef shape) {
    weights.expect(name, {shape.data(), shape.size()});
    at::Tensor t = at::empty(shape, at::TensorOptions().dtype(at::kFloat));
    weights.read_f32(name, {t.data_ptr<float>(), static_cast<std::size_t>(t.numel())});
    return t;
  };
}

WeightSource synthetic_weights(at::Device device, at::ScalarType dtype, std::uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  generator.set_current_seed(seed);
  return [=](const std::string& name, at::IntArrayRef shape) {
    at::Tensor t = at::empty(shape, at::TensorOptions().dtype(dtype).device(device));
    return name.ends_with("norm.weight") ? t.fill_(1) : t.normal_(0, 0.02);
  };
}

model::ModelConfig llama_8b_config() {
  model::ModelConfig c;
  c.architecture = "llama";
  c.name = "synthetic weights, Llama-3.1-8B's shape";
  c.hidden = 4096, c.ffn = 14336, c.vocab = 128256;
  c.n_layers = 32, c.n_q_heads = 32, c.n_kv_heads = 8, c.head_dim = 128;
  c.rope.base = 500000;
  c.max_position = 131072;
  return c;
}

GpuEngine::GpuEngine(const model::ModelConfig& config, const WeightSource& source,
                     const model::DecoderOptions& options)
    : DecoderEngine(config, options) {
  const model::ModelConfig& c = config_;
  VI_CHECK(dtype() == at::kFloat || dtype() == at::kBFloat16 || dtype() == at::kHalf, "dtype {}",
           at::toString(dtype()));
  const std::int64_t d = c.head_dim, q = c.n_q_heads * d, kv = c.n_kv_heads * d;
  const auto tensor_options = at::TensorOptions().dtype(dtype()).device(device());
  struct Part {
    std::string name;
    std::int64_t rows;
  };
  // Parts one below the other, each copied to its place: never two copies of a matrix on the device.
  const auto matrix = [&](const std::vector<Part>& parts, std::int64_t columns) {
    std::int64_t rows = 0;
    for (const Part& part : parts) rows += part.rows;
    at::Tensor out = at::empty({rows, columns}, tensor_options);
    rows = 0;
    for (const Part& part : parts) {
      out.narrow(0, rows, part.rows).copy_(source(part.name, {part.rows, columns}));
      rows += part.rows;
    }
    return out;
  };
  const auto vector = [&](bool wanted, const std::vector<Part>& parts) {
    if (!wanted) return at::Tensor();
    std::vector<at::Tensor> all;
    for (const Part& part : parts) all.push_back(source(part.name, {part.rows}).to(device(), dtype()));
    return at::cat(all);
  };
  embedding_ = matrix({{"model.embed_tokens.weight", c.vocab}}, c.hidden);
  head_.weight = c.tie_embeddings ? embedding_ : matrix({{"lm_head.weight", c.vocab}}, c.hidden);
  final_norm_ = vector(true, {{"model.norm.weight", c.hidden}});
  for (int i = 0; i < c.n_layers; ++i) {
    check_interrupt();
    const auto at = [&](std::string_view part) { return model::layer_weight(i, part); };
    GpuLayer& l = layers_.emplace_back();
    l.qkv = {matrix({{at("self_attn.q_proj.weight"), q},
                     {at("self_attn.k_proj.weight"), kv},
                     {at("self_attn.v_proj.weight"), kv}},
                    c.hidden),
             vector(c.qkv_bias, {{at("self_attn.q_proj.bias"), q},
                                 {at("self_attn.k_proj.bias"), kv},
                                 {at("self_attn.v_proj.bias"), kv}})};
    l.o = {matrix({{at("self_attn.o_proj.weight"), c.hidden}}, q),
           vector(c.o_bias, {{at("self_attn.o_proj.bias"), c.hidden}})};
    l.gate_up = {matrix({{at("mlp.gate_proj.weight"), c.ffn}, {at("mlp.up_proj.weight"), c.ffn}}, c.hidden),
                 vector(c.mlp_bias, {{at("mlp.gate_proj.bias"), c.ffn}, {at("mlp.up_proj.bias"), c.ffn}})};
    l.down = {matrix({{at("mlp.down_proj.weight"), c.hidden}}, c.ffn),
              vector(c.mlp_bias, {{at("mlp.down_proj.bias"), c.hidden}})};
    l.input_norm = vector(true, {{at("input_layernorm.weight"), c.hidden}});
    l.post_norm = vector(true, {{at("post_attention_layernorm.weight"), c.hidden}});
    l.q_norm = vector(c.qk_norm, {{at("self_attn.q_norm.weight"), d}});
    l.k_norm = vector(c.qk_norm, {{at("self_attn.k_norm.weight"), d}});
  }
}

MemoryPlan GpuEngine::plan(const model::ModelConfig& c, at::ScalarType dtype) {
  const std::int64_t d = c.head_dim, q = c.n_q_heads * d, kv = c.n_kv_heads * d;
  const std::int64_t layer = (q + 2 * kv) * c.hidden + q * c.hidden + 3 * c.ffn * c.hidden + 2 * c.hidden;
  MemoryPlan plan;
  plan.add("weights", (c.n_layers * layer + (c.tie_embeddings ? 1 : 2) * c.vocab * c.hidden) *
                          static_cast<std::int64_t>(c10::elementSize(dtype)));
  return plan;
}

at::Tensor GpuEngine::index(std::span<const std::int32_t> ids) const {
  at::Tensor t = at::empty({std::ssize(ids)}, at::TensorOptions().dtype(at::kLong));
  std::copy(ids.begin(), ids.end(), t.data_ptr<std::int64_t>());
  return t.to(device());
}

at::Tensor GpuEngine::run(std::span<const std::int32_t> ids, const model::RopeTable& rope,
                          std::int64_t first, model::AttentionHook& hook) const {
  return run_ids(index(ids), rope, first, hook);
}

at::Tensor GpuEngine::forward_ids(const at::Tensor& ids, std::int64_t first,
                                  model::AttentionHook& hook) const {
  return run_ids(ids, model::rope_table(config_, first, ids.numel()), first, hook);
}

at::Tensor GpuEngine::run_ids(const at::Tensor& ids, const model::RopeTable& table, std::int64_t first,
                              model::AttentionHook& hook) const {
  const model::ModelConfig& c = config_;
  const std::int64_t n = ids.numel(), d = c.head_dim, most = std::min(n, kChunkRows);
  const auto rope_tensor = [&](const std::vector<float>& values) {
    at::Tensor t = at::empty({n, d / 2}, at::TensorOptions().dtype(at::kFloat));
    std::copy(values.begin(), values.end(), t.data_ptr<float>());
    return t.to(device());
  };
  const at::Tensor cos = rope_tensor(table.cos), sin = rope_tensor(table.sin);
  at::Tensor x = at::embedding(embedding_, ids);
  const auto options = x.options();
  at::Tensor normed = at::empty({most, c.hidden}, options);
  at::Tensor gate = at::empty({most, c.ffn}, options);
  const auto head_norm = [&](const at::Tensor& rows, const at::Tensor& weight) {
    const at::Tensor f = rows.to(at::kFloat);
    return (f * at::rsqrt(f.square().mean(-1, true) + c.rms_eps)).to(rows.scalar_type()) * weight;
  };
  for (const GpuLayer& l : layers_) {
    check_interrupt();
    const int layer = static_cast<int>(&l - layers_.data());
    at::Tensor q = at::empty({c.n_q_heads, n, d}, options);
    at::Tensor k = at::empty({c.n_kv_heads, n, d}, options), v = at::empty({c.n_kv_heads, n, d}, options);
    for (std::int64_t r = 0; r < n; r += kChunkRows) {
      const std::int64_t m = std::min(kChunkRows, n - r);
      at::Tensor y = normed.narrow(0, 0, m);
      rms_norm(x.narrow(0, r, m), l.input_norm, c.rms_eps, y, false);
      const at::Tensor rows = at::linear(y, l.qkv.weight, l.qkv.bias).view({m, -1, d}).transpose(0, 1);
      const at::Tensor co = cos.narrow(0, r, m), si = sin.narrow(0, r, m);
      const auto turn = [&](const at::Tensor& from, at::Tensor to) {
        const auto halves = from.chunk(2, -1);
        to = to.narrow(1, r, m);
        to.narrow(2, 0, d / 2).copy_(halves[0] * co - halves[1] * si);
        to.narrow(2, d / 2, d / 2).copy_(halves[1] * co + halves[0] * si);
      };
      at::Tensor qr = rows.narrow(0, 0, c.n_q_heads), kr = rows.narrow(0, c.n_q_heads, c.n_kv_heads);
      if (c.qk_norm) qr = head_norm(qr, l.q_norm), kr = head_norm(kr, l.k_norm);
      turn(qr.to(at::kFloat), q);
      turn(kr.to(at::kFloat), k);
      v.narrow(1, r, m).copy_(rows.narrow(0, c.n_q_heads + c.n_kv_heads, c.n_kv_heads));
    }
    const at::Tensor o = model::call_hook(hook, layer, q, k, v, first).to(options);
    q = k = v = at::Tensor();
    for (std::int64_t r = 0; r < n; r += kChunkRows) {
      const std::int64_t m = std::min(kChunkRows, n - r);
      at::Tensor rows = x.narrow(0, r, m), y = normed.narrow(0, 0, m), g = gate.narrow(0, 0, m);
      rows.addmm_(o.narrow(0, r, m), l.o.weight.t());
      if (l.o.bias.defined()) rows.add_(l.o.bias);
      rms_norm(rows, l.post_norm, c.rms_eps, y, false);
      silu_mul(at::linear(y, l.gate_up.weight, l.gate_up.bias), g, false);
      rows.addmm_(g, l.down.weight.t());
      if (l.down.bias.defined()) rows.add_(l.down.bias);
    }
  }
  for (std::int64_t r = 0; r < n; r += kChunkRows) {
    at::Tensor rows = x.narrow(0, r, std::min(kChunkRows, n - r)), y = normed.narrow(0, 0, rows.size(0));
    rms_norm(rows, final_norm_, c.rms_eps, y, false);
    rows.copy_(y);
  }
  return x;
}

at::Tensor GpuEngine::logits(const at::Tensor& hidden) const {
  return at::linear(hidden.to(device(), dtype()), head_.weight).to(at::kFloat);
}

std::vector<double> GpuEngine::nll(const at::Tensor& hidden, std::span<const std::int32_t> targets) const {
  std::vector<double> out;
  for (std::int64_t r = 0; r < std::ssize(targets); r += kLogitRows) {
    const std::int64_t m = std::min(kLogitRows, std::ssize(targets) - r);
    const at::Tensor scores = logits(hidden.narrow(0, r, m));
    const at::Tensor wanted = scores.gather(1, index(targets.subspan(r, m)).unsqueeze(1)).squeeze(1);
    const at::Tensor rest = (at::logsumexp(scores, 1) - wanted).to(at::kCPU, at::kDouble).contiguous();
    out.insert(out.end(), rest.const_data_ptr<double>(), rest.const_data_ptr<double>() + m);
  }
  return out;
}

}  // namespace vi::cuda
