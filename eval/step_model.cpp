#include "eval/step_model.h"

#include <ATen/ATen.h>

#include <cmath>
#include <optional>
#include <vector>

#include "core/codec/window.h"
#include "core/common/error.h"
#include "core/model/model_config.h"
#include "eval/device_modes.h"
#include "eval/gpu_backend.h"
#include "eval/modes.h"

namespace vi::eval {
namespace {

using codec::Codec;

class CacheModel : public StepModel {
 public:
  CacheModel(const model::Decoder& decoder, cache::KvCache& cache, std::shared_ptr<const Codec> codec, int chunk)
      : decoder_(decoder), cache_(cache), codec_(std::move(codec)), chunk_(chunk) {}
  const model::ModelConfig& config() const override { return decoder_.config(); }
  void reset() override { cache_.reset(); }
  at::Tensor prefill(std::span<const std::int32_t> prompt) override {
    if (chunk_ > 0 && codec_ && !codec_->spec().exact()) {
      ChunkedPrefillAttention hook(codec_, cache_, chunk_);
      return last_logits(decoder_.forward(prompt, 0, hook));
    }
    PrefillAttention hook(cache_);
    return last_logits(decoder_.forward(prompt, 0, hook));
  }
  at::Tensor step(std::int32_t id) override {
    DecodeAttention hook(cache_);
    return last_logits(decoder_.forward(std::span(&id, 1), cache_.len(0), hook));
  }

 private:
  at::Tensor last_logits(const at::Tensor& hidden) const {
    return decoder_.logits(hidden.narrow(0, hidden.size(0) - 1, 1));
  }
  const model::Decoder& decoder_;
  cache::KvCache& cache_;
  std::shared_ptr<const Codec> codec_;
  int chunk_;
};

// A CacheModel that owns its cache.
class OwningCacheModel final : public CacheModel {
 public:
  OwningCacheModel(const model::Decoder& decoder, std::unique_ptr<cache::KvCache> cache)
      : CacheModel(decoder, *cache, nullptr, 0), owned_(std::move(cache)) {}

 private:
  std::unique_ptr<cache::KvCache> owned_;
};

class ReconstructingModel final : public StepModel, private model::AttentionHook {
 public:
  ReconstructingModel(const model::Decoder& decoder, std::shared_ptr<const Codec> codec) : decoder_(decoder) {
    if (codec) codec_.emplace(std::move(codec), decoder.options().device);
    layers_.resize(static_cast<std::size_t>(decoder.config().n_layers));
  }
  const model::ModelConfig& config() const override { return decoder_.config(); }
  void reset() override {
    for (Layer& layer : layers_) layer = {};
  }
  at::Tensor prefill(std::span<const std::int32_t> prompt) override {
    VI_CHECK(layers_[0].len == 0, "prefill into a cache of {} tokens", layers_[0].len);
    const at::Tensor hidden = decoder_.forward(prompt, 0, *this);
    return decoder_.logits(hidden.narrow(0, hidden.size(0) - 1, 1));
  }
  at::Tensor step(std::int32_t id) override {
    return decoder_.logits(decoder_.forward(std::span(&id, 1), layers_[0].len, *this));
  }

 private:
  struct Layer {
    at::Tensor key, value;  // f32 [n_kv_heads, capacity, head_dim]
    std::int64_t len = 0, coded_key = 0, coded_value = 0;
  };

  at::Tensor attend(int index, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override {
    Layer& layer = layers_[static_cast<std::size_t>(index)];
    VI_CHECK(layer.len == first, "decode at position {} on a cache of {} tokens", first, layer.len);
    const std::int64_t n = k.size(1);
    append(layer.key, k, first);
    append(layer.value, v, first);
    layer.len += n;
    // A prompt attends exactly, then is coded; a token is coded where the rule says so, then attends.
    at::Tensor out;
    if (first == 0) out = causal_attention(q, k, v);
    code(index, true, layer.key, layer.len, layer.coded_key);
    code(index, false, layer.value, layer.len, layer.coded_value);
    if (first == 0) return out;
    VI_CHECK(n == 1, "decode takes one token at a time, not {}", n);
    const std::int64_t kv = k.size(0), d = k.size(2);
    const at::Tensor rows = q.to(at::kFloat).reshape({kv, -1, d});
    const at::Tensor scores = at::bmm(rows, layer.key.narrow(1, 0, layer.len).transpose(1, 2)) /
                              std::sqrt(static_cast<double>(d));
    return at::bmm(at::softmax(scores, -1), layer.value.narrow(1, 0, layer.len))
        .reshape({1, -1})
        .to(q.scalar_type());
  }

  static void append(at::Tensor& rows, const at::Tensor& more, std::int64_t len) {
    const std::int64_t n = more.size(1), capacity = rows.defined() ? rows.size(1) : 0;
    if (len + n > capacity) {
      const at::Tensor grown = at::zeros({more.size(0), len + n + (len + n) / 4 + 64, more.size(2)},
                                         more.options().dtype(at::kFloat));
      if (len > 0) grown.narrow(1, 0, len).copy_(rows.narrow(1, 0, len));
      rows = grown;
    }
    rows.narrow(1, len, n).copy_(more);
  }

  void code(int index, bool key, at::Tensor& rows, std::int64_t len, std::int64_t& coded) const {
    if (!codec_) return;
    const DeviceSide& side = key ? codec_->key() : codec_->value();
    if (!side.coded) return;
    const codec::WindowSpec& window = codec_->codec().spec().window;
    const std::int64_t now = codec::coded_tokens(window, key, len, side.seal);
    if (now == coded) return;
    at::Tensor part = rows.narrow(1, window.sinks + coded, now - coded);
    const codec::HeadCoder* coder =
        key ? codec_->codec().key(index, 0) : codec_->codec().value(index, 0);
    if (coder && (coder->sequential() || coder->wants_keys()))
      fail("{} whose codes depend on other tokens (pool, merge) need --device cpu",
           key ? "keys" : "values");
    part.copy_(codec_->reconstruct(index, key, part, 0, window.sinks + coded));
    coded = now;
  }

  const model::Decoder& decoder_;
  std::optional<DeviceCodec> codec_;
  std::vector<Layer> layers_;
};

}  // namespace

std::unique_ptr<StepModel> make_cache_model(const model::Decoder& decoder, cache::KvCache& cache,
                                            std::shared_ptr<const codec::Codec> codec, int prefill_chunk) {
  return std::make_unique<CacheModel>(decoder, cache, std::move(codec), prefill_chunk);
}

std::unique_ptr<StepModel> make_reconstructing_model(const model::Decoder& decoder,
                                                     std::shared_ptr<const codec::Codec> codec) {
  return std::make_unique<ReconstructingModel>(decoder, std::move(codec));
}

std::unique_ptr<StepModel> make_step_model(const model::Decoder& decoder,
                                           std::shared_ptr<const codec::Codec> codec, std::int64_t capacity,
                                           std::string* how) {
  const bool exact = !codec || codec->spec().exact();
  if (!decoder.options().device.is_cpu())
    return gpu_backend().make_step_model(decoder, exact ? nullptr : std::move(codec), capacity, how);
  const model::ModelConfig& c = decoder.config();
  if (how) *how = "cpu";
  return std::make_unique<OwningCacheModel>(
      decoder, exact ? cache::make_dense_cache(c.n_layers, c.n_q_heads, c.n_kv_heads, c.head_dim)
                     : cache::make_coded_cache(std::move(codec), c.n_q_heads));
}

}  // namespace vi::eval
