#include "eval/generation/batch_model.h"

#include <algorithm>
#include <fstream>
#include <vector>

#include "core/cache/kv_cache.h"
#include "core/common/error.h"
#include "core/common/out_of_memory.h"
#include "core/model/model_config.h"
#include "eval/gpu_backend.h"
#include "eval/modes/modes.h"

namespace vi::eval {
namespace {

class CacheBatch final : public BatchModel {
 public:
  CacheBatch(const model::Decoder& decoder, const std::shared_ptr<const codec::Codec>& codec, int slots)
      : decoder_(decoder) {
    const model::ModelConfig& c = decoder.config();
    for (int i = 0; i < slots; ++i)
      caches_.push_back(codec ? cache::make_coded_cache(codec, c.n_q_heads)
                              : cache::make_dense_cache(c.n_layers, c.n_q_heads, c.n_kv_heads, c.head_dim));
  }
  const model::ModelConfig& config() const override { return decoder_.config(); }
  int slots() const override { return static_cast<int>(caches_.size()); }
  at::Tensor prefill(int slot, std::span<const std::int32_t> prompt) override {
    cache::KvCache& cache = *caches_.at(static_cast<std::size_t>(slot));
    cache.reset();
    PrefillAttention hook(cache);
    const at::Tensor hidden = decoder_.forward(prompt, 0, hook);
    return decoder_.logits(hidden.narrow(0, hidden.size(0) - 1, 1));
  }
  at::Tensor step(std::span<const SlotToken> tokens) override {
    std::vector<std::int32_t> ids;
    std::vector<std::int64_t> positions;
    std::vector<cache::KvCache*> caches;
    for (const SlotToken& token : tokens) {
      caches.push_back(caches_.at(static_cast<std::size_t>(token.slot)).get());
      ids.push_back(token.id);
      positions.push_back(caches.back()->len(0));
    }
    BatchDecodeAttention hook(std::move(caches));
    return decoder_.logits(decoder_.forward_each(ids, positions, hook));
  }
  void release(int slot) override { caches_.at(static_cast<std::size_t>(slot))->reset(); }

 private:
  const model::Decoder& decoder_;
  std::vector<std::unique_ptr<cache::KvCache>> caches_;
};

// Bytes that Linux would give without swapping; 0 where it does not say.
double available_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string word; file >> word;)
    if (double kib = 0; word == "MemAvailable:" && file >> kib) return kib * 1024;
  return 0;
}

// Linux gives memory that it does not have and kills later: more than one full slot is refused beforehand.
void check_host_memory(const model::ModelConfig& c, const codec::Codec* codec, int slots, std::int64_t capacity) {
  if (slots == 1) return;
  const double elements = 2.0 * c.n_layers * c.n_kv_heads * c.head_dim * static_cast<double>(capacity);
  // Exact rows are f32; the accountant counts them at 16 bits.
  const double bytes = slots * elements * (codec ? std::min(4.0, codec->fullest_bits(capacity).total / 4) : 4.0);
  if (const double most = available_bytes(); most > 0 && bytes > most)
    fail<OutOfMemoryError>("{} caches of {} tokens need {:.1f} GiB, {:.1f} GiB are available", slots, capacity,
                           bytes / (1 << 30), most / (1 << 30));
}

}  // namespace

std::unique_ptr<BatchModel> make_batch_model(const model::Decoder& decoder,
                                             std::shared_ptr<const codec::Codec> codec, int slots,
                                             std::int64_t capacity, std::string* how) {
  VI_CHECK(slots > 0 && capacity > 0, "{} slots of {} tokens", slots, capacity);
  if (codec && codec->exact()) codec = nullptr;
  if (!decoder.options().device.is_cpu())
    return gpu_backend().make_batch_model(decoder, std::move(codec), slots, capacity, how);
  check_host_memory(decoder.config(), codec.get(), slots, capacity);
  if (how) *how = "cpu";
  return std::make_unique<CacheBatch>(decoder, codec, slots);
}

}  // namespace vi::eval
