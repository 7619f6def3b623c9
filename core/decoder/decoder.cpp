#include "core/decoder/decoder.h"

#include <algorithm>
#include <cmath>

#include "core/common/error.h"
#include "core/decoder/decoder_engine.h"

namespace vi::model {
namespace {

void check_config(const ModelConfig& c) {
  VI_CHECK(c.n_layers > 0 && c.hidden > 0 && c.ffn > 0 && c.vocab > 0, "an empty model");
  VI_CHECK(c.n_kv_heads > 0 && c.n_q_heads % c.n_kv_heads == 0, "{} query heads on {} KV heads",
           c.n_q_heads, c.n_kv_heads);
  VI_CHECK(c.head_dim > 0 && c.head_dim % 2 == 0, "head_dim {}", c.head_dim);
}

std::unique_ptr<DecoderEngine> make_engine(const ModelConfig& config, const WeightFile& weights,
                                           const DecoderOptions& options) {
  check_config(config);
  VI_CHECK(options.dtype == at::kFloat || options.dtype == at::kBFloat16, "dtype {}",
           at::toString(options.dtype));
  return options.plain || !options.device.is_cpu() ? make_plain_engine(config, weights, options)
                                                   : make_cpu_engine(config, weights, options);
}

void check_hidden(const ModelConfig& config, const at::Tensor& hidden) {
  VI_CHECK(hidden.dim() == 2 && hidden.size(1) == config.hidden, "hidden states of another shape");
}

}  // namespace

Decoder::Decoder(const ModelConfig& config, const WeightFile& weights,
                 const DecoderOptions& options)
    : engine_(make_engine(config, weights, options)) {}
Decoder::Decoder(std::unique_ptr<DecoderEngine> engine) : engine_(std::move(engine)) {
  check_config(engine_->config());
}
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&& other) noexcept = default;
Decoder& Decoder::operator=(Decoder&& other) noexcept = default;

const ModelConfig& Decoder::config() const { return engine_->config(); }
const DecoderOptions& Decoder::options() const { return engine_->options(); }

// Checks the ids and tells the hook the windows of layers; `end`: tokens of the longest sequence.
void Decoder::prepare(std::span<const std::int32_t> ids, std::int64_t end, AttentionHook& hook) const {
  const ModelConfig& c = config();
  for (const std::int32_t id : ids)
    if (id < 0 || id >= c.vocab) fail("token id {}: expected 0..{}", id, c.vocab - 1);
  if (c.sliding_window > 0) {
    if (end > c.sliding_window && !hook.takes_window())
      fail("{} tokens: expected at most {}, the model's sliding attention window (this kind of attention "
           "has none)",
           end, c.sliding_window);
    std::vector<std::int64_t> windows;
    for (int i = 0; i < c.n_layers; ++i) windows.push_back(c.window(i));
    hook.set_windows(std::move(windows));
  }
}

at::Tensor Decoder::forward(std::span<const std::int32_t> ids, std::int64_t first,
                            AttentionHook& hook) const {
  const auto n = std::ssize(ids);
  VI_CHECK(first >= 0, "position {}", first);
  prepare(ids, first + n, hook);
  if (n == 0)
    return at::empty({0, config().hidden},
                     at::TensorOptions().dtype(options().dtype).device(options().device));
  return engine_->forward(ids, first, hook);
}

at::Tensor Decoder::forward_each(std::span<const std::int32_t> ids, std::span<const std::int64_t> positions,
                                 AttentionHook& hook) const {
  VI_CHECK(!ids.empty() && ids.size() == positions.size(), "{} tokens at {} positions", ids.size(),
           positions.size());
  const auto [least, most] = std::minmax_element(positions.begin(), positions.end());
  VI_CHECK(*least >= 0, "position {}", *least);
  prepare(ids, *most + 1, hook);
  return engine_->run(ids, rope_rows(config(), positions), kManySequences, hook);
}

at::Tensor Decoder::logits(const at::Tensor& hidden) const {
  check_hidden(config(), hidden);
  return engine_->logits(hidden);
}

std::vector<double> Decoder::nll(const at::Tensor& hidden,
                                 std::span<const std::int32_t> targets) const {
  check_hidden(config(), hidden);
  VI_CHECK(hidden.size(0) == std::ssize(targets), "{} rows, {} targets", hidden.size(0),
           targets.size());
  for (const std::int32_t id : targets)
    if (id < 0 || id >= config().vocab) fail("token id {}: expected 0..{}", id, config().vocab - 1);
  return engine_->nll(hidden, targets);
}

std::string layer_weight(int layer, std::string_view part) {
  return fmt::format("model.layers.{}.{}", layer, part);
}

RopeTable rope_table(const ModelConfig& config, std::int64_t first, std::int64_t n) {
  const std::vector<double> frequency = rope_frequencies(config.rope, config.head_dim, first + n);
  const std::int64_t half = config.head_dim / 2;
  RopeTable table;
  table.cos.resize(static_cast<std::size_t>(n * half));
  table.sin.resize(static_cast<std::size_t>(n * half));
#pragma omp parallel for schedule(static) if (n >= 16)
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(first + r) * static_cast<float>(frequency[i]);
      table.cos[r * half + i] =
          static_cast<float>(std::cos(static_cast<double>(angle)) * config.rope.attention_factor);
      table.sin[r * half + i] =
          static_cast<float>(std::sin(static_cast<double>(angle)) * config.rope.attention_factor);
    }
  return table;
}

RopeTable rope_rows(const ModelConfig& config, std::span<const std::int64_t> positions) {
  RopeTable table;
  for (const std::int64_t position : positions) {
    const RopeTable row = rope_table(config, position, 1);
    table.cos.insert(table.cos.end(), row.cos.begin(), row.cos.end());
    table.sin.insert(table.sin.end(), row.sin.begin(), row.sin.end());
  }
  return table;
}

at::Tensor call_hook(AttentionHook& hook, int layer, const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v, std::int64_t first) {
  at::Tensor o = hook.attend(layer, q, k, v, first);
  VI_CHECK(o.dim() == 2 && o.size(0) == q.size(1) && o.size(1) == q.size(0) * q.size(2),
           "an attention hook's output of another shape, layer {}", layer);
  return o;
}

}  // namespace vi::model
