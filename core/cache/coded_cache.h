// The one KvCache there is: per (layer, KV head, side) a SideCache, attention by
// attention/vq_decode.h. A side without a coder is exact, so the dense cache is this one without
// coders. After an Error from append (a row that is not finite) the layer holds part of the tokens:
// reset it.
#pragma once

#include <memory>
#include <vector>

#include "core/cache/kv_cache.h"
#include "core/cache/side_cache.h"

namespace vi::cache {

struct CacheShape {
  int n_layers = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0;
};

// Coders [n_layers * n_kv_heads], null where the side is exact; they outlive the cache.
struct CacheCoders {
  std::vector<const quant::HeadCoder*> key, value;
};

class CodedCache final : public KvCache {
 public:
  // `owner` is kept alive with the cache (the codec that owns the coders).
  CodedCache(const CacheShape& shape, const codec::WindowSpec& window, CacheCoders coders,
             std::shared_ptr<const void> owner = nullptr);
  void append(int layer, const float* k, const float* v, std::int64_t n,
              std::int64_t head_stride) override;
  void attend(int layer, const float* q, float* out) const override;
  std::int64_t len(int layer) const override;
  std::size_t payload_bytes() const override;
  std::size_t window_bytes() const override;
  std::size_t allocated_bytes() const override;
  void reset() override;

  // What attention reads of a layer: [n_kv_heads], valid until the next append.
  std::vector<attention::HeadView> views(int layer) const;

 private:
  std::size_t index(int layer) const;
  CacheShape shape_;
  codec::WindowSpec window_;
  CacheCoders coders_;
  std::shared_ptr<const void> owner_;
  std::vector<SideCache> sides_;  // [n_layers * n_kv_heads * 2]: key, value
};

}  // namespace vi::cache
