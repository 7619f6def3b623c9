#include "eval/generation/step_model.h"

#include <ATen/ATen.h>

#include "core/model/model_config.h"
#include "eval/gpu_backend.h"
#include "eval/modes/modes.h"

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
    if (chunk_ > 0 && codec_ && !codec_->exact()) {
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

}  // namespace

std::unique_ptr<StepModel> make_cache_model(const model::Decoder& decoder, cache::KvCache& cache,
                                            std::shared_ptr<const codec::Codec> codec, int prefill_chunk) {
  return std::make_unique<CacheModel>(decoder, cache, std::move(codec), prefill_chunk);
}

std::unique_ptr<StepModel> make_step_model(const model::Decoder& decoder,
                                           std::shared_ptr<const codec::Codec> codec, std::int64_t capacity,
                                           std::string* how) {
  const bool exact = !codec || codec->exact();
  if (!decoder.options().device.is_cpu())
    return gpu_backend().make_step_model(decoder, exact ? nullptr : std::move(codec), capacity, how);
  const model::ModelConfig& c = decoder.config();
  if (how) *how = "cpu";
  return std::make_unique<OwningCacheModel>(
      decoder, exact ? cache::make_dense_cache(c.n_layers, c.n_q_heads, c.n_kv_heads, c.head_dim)
                     : cache::make_coded_cache(std::move(codec), c.n_q_heads));
}

}  // namespace vi::eval
