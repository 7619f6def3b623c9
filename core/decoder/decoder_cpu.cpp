// The decoder on the CPU by decoder_kernels.h. Activations are f32 words everywhere (rounded to
// bf16 by the kernels where that is the type); tensors appear at the seams only.
#include <algorithm>
#include <exception>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/interrupt.h"
#include "core/decoder/decoder_engine.h"
#include "core/decoder/decoder_kernels.h"

namespace vi::model {
namespace {

constexpr std::int64_t kChunkRows = 512;  // rows of a layer's temporaries
constexpr std::int64_t kLogitRows = 192;  // rows of logits alive at once
constexpr std::int64_t kLoadRows = 64;    // rows of a weight decoded at once, a multiple of a panel

struct Layer {
  PackedMatrix qkv, o, gate_up, down;
  std::vector<float> input_norm, post_norm, q_norm, k_norm;  // empty: none
  std::vector<float> qkv_bias, o_bias, gate_up_bias, down_bias;
};

const float* data(const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }

// Reads weights into panels, several threads at once; the first error wins.
class Loader {
 public:
  Loader(const WeightFile& file, bool bf16) : file_(file), bf16_(bf16) {}

  struct Part {
    std::string name;
    std::int64_t rows;
  };

  // The parts one below the other as one matrix. Parts are read in runs that do not share a panel's
  // words: each run writes its own rows only.
  PackedMatrix matrix(const std::vector<Part>& parts, std::int64_t columns) const {
    std::int64_t rows = 0;
    struct Run {
      const std::string* name;
      std::int64_t from, to, n;
    };
    std::vector<Run> runs;
    for (const Part& part : parts) {
      file_.expect(part.name, std::array{part.rows, columns});
      for (std::int64_t r = 0; r < part.rows; r += kLoadRows)
        runs.push_back({&part.name, r, rows + r, std::min(kLoadRows, part.rows - r)});
      rows += part.rows;
    }
    PackedMatrix out(rows, columns, bf16_);
    std::exception_ptr error;
#pragma omp parallel
    {
      std::vector<float> buffer(static_cast<std::size_t>(kLoadRows * columns));
#pragma omp for schedule(dynamic)
      for (std::size_t i = 0; i < runs.size(); ++i) {
        try {
          const auto size = static_cast<std::size_t>(runs[i].n * columns);
          file_.read_rows(*runs[i].name, runs[i].from, runs[i].n, std::span(buffer).first(size));
          out.set_rows(runs[i].to, runs[i].n, buffer.data());
        } catch (...) {
#pragma omp critical(vi_decoder_load)
          if (!error) error = std::current_exception();
        }
      }
    }
    if (error) std::rethrow_exception(error);
    return out;
  }

  // The parts one after another; nothing where `wanted` is false.
  std::vector<float> vector(bool wanted, const std::vector<Part>& parts) const {
    std::vector<float> out;
    if (!wanted) return out;
    for (const Part& part : parts) {
      file_.expect(part.name, std::array{part.rows});
      std::vector<float> values = file_.read_f32(part.name);
      if (bf16_)
        for (float& x : values) x = bf16_to_float(float_to_bf16(x));
      out.insert(out.end(), values.begin(), values.end());
    }
    return out;
  }

 private:
  const WeightFile& file_;
  bool bf16_;
};

class CpuEngine final : public DecoderEngine {
 public:
  CpuEngine(const ModelConfig& config, const WeightFile& weights, const DecoderOptions& options)
      : DecoderEngine(config, options), kernels_(options.dtype == at::kBFloat16) {
    const ModelConfig& c = config_;
    const std::int64_t d = c.head_dim, q = c.n_q_heads * d, kv = c.n_kv_heads * d;
    const Loader load(weights, options.dtype == at::kBFloat16);
    embedding_ = load.matrix({{"model.embed_tokens.weight", c.vocab}}, c.hidden);
    if (!c.tie_embeddings) head_ = load.matrix({{"lm_head.weight", c.vocab}}, c.hidden);
    final_norm_ = load.vector(true, {{"model.norm.weight", c.hidden}});
    for (int i = 0; i < c.n_layers; ++i) {
      check_interrupt();
      const auto at = [&](std::string_view part) { return layer_weight(i, part); };
      Layer& l = layers_.emplace_back();
      l.qkv = load.matrix({{at("self_attn.q_proj.weight"), q},
                           {at("self_attn.k_proj.weight"), kv},
                           {at("self_attn.v_proj.weight"), kv}},
                          c.hidden);
      l.o = load.matrix({{at("self_attn.o_proj.weight"), c.hidden}}, q);
      l.gate_up = load.matrix(
          {{at("mlp.gate_proj.weight"), c.ffn}, {at("mlp.up_proj.weight"), c.ffn}}, c.hidden);
      l.down = load.matrix({{at("mlp.down_proj.weight"), c.hidden}}, c.ffn);
      l.input_norm = load.vector(true, {{at("input_layernorm.weight"), c.hidden}});
      l.post_norm = load.vector(true, {{at("post_attention_layernorm.weight"), c.hidden}});
      l.q_norm = load.vector(c.qk_norm, {{at("self_attn.q_norm.weight"), d}});
      l.k_norm = load.vector(c.qk_norm, {{at("self_attn.k_norm.weight"), d}});
      l.qkv_bias = load.vector(c.qkv_bias, {{at("self_attn.q_proj.bias"), q},
                                            {at("self_attn.k_proj.bias"), kv},
                                            {at("self_attn.v_proj.bias"), kv}});
      l.o_bias = load.vector(c.o_bias, {{at("self_attn.o_proj.bias"), c.hidden}});
      l.gate_up_bias = load.vector(
          c.mlp_bias, {{at("mlp.gate_proj.bias"), c.ffn}, {at("mlp.up_proj.bias"), c.ffn}});
      l.down_bias = load.vector(c.mlp_bias, {{at("mlp.down_proj.bias"), c.hidden}});
    }
  }

  at::Tensor run(std::span<const std::int32_t> ids, const RopeTable& rope, std::int64_t first,
                 AttentionHook& hook) const override {
    const ModelConfig& c = config_;
    const auto n = std::ssize(ids);
    std::vector<float> x(static_cast<std::size_t>(n * c.hidden));
#pragma omp parallel for schedule(static)
    for (std::int64_t r = 0; r < n; ++r) embedding_.get_row(ids[r], x.data() + r * c.hidden);
    for (int i = 0; i < c.n_layers; ++i) {
      check_interrupt();
      const auto options = at::TensorOptions().dtype(at::kFloat);
      at::Tensor q = at::empty({c.n_q_heads, n, c.head_dim}, options);
      at::Tensor k = at::empty({c.n_kv_heads, n, c.head_dim}, options), v = at::empty_like(k);
      heads(layers_[i], x.data(), rope, n, q.data_ptr<float>(), k.data_ptr<float>(),
            v.data_ptr<float>());
      at::Tensor o = call_hook(hook, i, q.to(options_.dtype), k.to(options_.dtype),
                               v.to(options_.dtype), first);
      o = o.to(at::kCPU, at::kFloat).contiguous();
      mlp(layers_[i], o.data_ptr<float>(), n, x.data());
    }
    at::Tensor hidden = at::empty({n, c.hidden}, at::TensorOptions().dtype(at::kFloat));
    kernels_.rms_norm(x.data(), c.hidden, n, c.hidden, final_norm_.data(), eps(),
                      hidden.data_ptr<float>(), c.hidden);
    return hidden.to(options_.dtype);
  }

  at::Tensor logits(const at::Tensor& hidden) const override {
    const at::Tensor x = hidden.to(at::kCPU, at::kFloat).contiguous();
    at::Tensor out = at::empty({x.size(0), config_.vocab}, x.options());
    if (x.size(0) > 0)
      kernels_.linear(head(), x.data_ptr<float>(), x.size(0), nullptr, nullptr,
                      out.data_ptr<float>());
    return out;
  }

  std::vector<double> nll(const at::Tensor& hidden,
                          std::span<const std::int32_t> targets) const override {
    std::vector<double> out(targets.size());
    for (std::int64_t r0 = 0; r0 < std::ssize(targets); r0 += kLogitRows) {
      check_interrupt();
      const std::int64_t rows = std::min(kLogitRows, std::ssize(targets) - r0);
      const at::Tensor scores = logits(hidden.narrow(0, r0, rows));
      const float* s = scores.data_ptr<float>();
      kernels_.log_sum_exp(s, rows, config_.vocab, out.data() + r0);
      for (std::int64_t r = 0; r < rows; ++r)
        out[r0 + r] -= static_cast<double>(s[r * config_.vocab + targets[r0 + r]]);
    }
    return out;
  }

 private:
  float eps() const { return static_cast<float>(config_.rms_eps); }
  const PackedMatrix& head() const { return config_.tie_embeddings ? embedding_ : head_; }

  // x -> q, k, v after q/k norm and RoPE.
  void heads(const Layer& l, const float* x, const RopeTable& rope, std::int64_t n, float* q,
             float* k, float* v) const {
    const ModelConfig& c = config_;
    const std::int64_t d = c.head_dim, width = (c.n_q_heads + 2 * c.n_kv_heads) * d;
    const std::int64_t most = std::min(n, kChunkRows);
    std::vector<float> normed(static_cast<std::size_t>(most * c.hidden));
    std::vector<float> rows(static_cast<std::size_t>(most * width));
    for (std::int64_t r0 = 0; r0 < n; r0 += kChunkRows) {
      const std::int64_t m = std::min(kChunkRows, n - r0);
      kernels_.rms_norm(x + r0 * c.hidden, c.hidden, m, c.hidden, l.input_norm.data(), eps(),
                        normed.data(), c.hidden);
      kernels_.linear(l.qkv, normed.data(), m, data(l.qkv_bias), nullptr, rows.data());
      const float* cos = rope.cos.data() + r0 * d / 2;
      const float* sin = rope.sin.data() + r0 * d / 2;
      const auto each = [&](std::int64_t column, int count, const std::vector<float>& norm,
                            bool turn, float* to) {
        for (int h = 0; h < count; ++h) {
          float* from = rows.data() + column + h * d;
          if (!norm.empty()) kernels_.rms_norm(from, width, m, d, norm.data(), eps(), from, width);
          kernels_.rope(from, width, m, c.head_dim, turn ? cos : nullptr, sin,
                        to + (h * n + r0) * d);
        }
      };
      each(0, c.n_q_heads, l.q_norm, true, q);
      each(c.n_q_heads * d, c.n_kv_heads, l.k_norm, true, k);
      each((c.n_q_heads + c.n_kv_heads) * d, c.n_kv_heads, {}, false, v);
    }
  }

  // x += W_o o; x += W_down (silu(gate) * up).
  void mlp(const Layer& l, const float* o, std::int64_t n, float* x) const {
    const ModelConfig& c = config_;
    const std::int64_t q = static_cast<std::int64_t>(c.n_q_heads) * c.head_dim;
    const std::int64_t most = std::min(n, kChunkRows);
    std::vector<float> normed(static_cast<std::size_t>(most * c.hidden));
    std::vector<float> both(static_cast<std::size_t>(most * 2 * c.ffn));
    std::vector<float> gated(static_cast<std::size_t>(most * c.ffn));
    for (std::int64_t r0 = 0; r0 < n; r0 += kChunkRows) {
      const std::int64_t m = std::min(kChunkRows, n - r0);
      float* rows = x + r0 * c.hidden;
      kernels_.linear(l.o, o + r0 * q, m, data(l.o_bias), rows, rows);
      kernels_.rms_norm(rows, c.hidden, m, c.hidden, l.post_norm.data(), eps(), normed.data(),
                        c.hidden);
      kernels_.linear(l.gate_up, normed.data(), m, data(l.gate_up_bias), nullptr, both.data());
      kernels_.silu_mul(both.data(), m, c.ffn, gated.data());
      kernels_.linear(l.down, gated.data(), m, data(l.down_bias), rows, rows);
    }
  }

  DecoderKernels kernels_;
  PackedMatrix embedding_, head_;
  std::vector<float> final_norm_;
  std::vector<Layer> layers_;
};

}  // namespace

std::unique_ptr<DecoderEngine> make_cpu_engine(const ModelConfig& config, const WeightFile& weights,
                                               const DecoderOptions& options) {
  return std::make_unique<CpuEngine>(config, weights, options);
}

}  // namespace vi::model
