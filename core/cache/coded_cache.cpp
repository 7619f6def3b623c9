#include "core/cache/coded_cache.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "core/attention/vq_decode.h"
#include "core/common/error.h"

namespace vi::cache {
namespace {

constexpr std::size_t kParallelTokens =
    64;  // coded in one append, all heads: below, threads cost more

}  // namespace

CodedCache::CodedCache(const CacheShape& shape, const codec::WindowSpec& window, CacheCoders coders,
                       std::shared_ptr<const void> owner)
    : shape_(shape), window_(window), coders_(std::move(coders)), owner_(std::move(owner)) {
  VI_CHECK(shape.n_layers > 0 && shape.n_kv_heads > 0 && shape.head_dim > 0 &&
               shape.n_q_heads > 0 && shape.n_q_heads % shape.n_kv_heads == 0,
           "cache shape: {} layers, {} query heads, {} KV heads, head_dim {}", shape.n_layers,
           shape.n_q_heads, shape.n_kv_heads, shape.head_dim);
  VI_CHECK(window.recent >= 0 && window.sinks >= 0, "cache window: recent {}, sinks {}",
           window.recent, window.sinks);
  const std::size_t n = static_cast<std::size_t>(shape.n_layers) * shape.n_kv_heads;
  VI_CHECK(coders_.key.size() == n && coders_.value.size() == n,
           "{} key and {} value coders for {} heads", coders_.key.size(), coders_.value.size(), n);
  reset();
}

void CodedCache::reset() {
  sides_.clear();
  sides_.reserve(2 * coders_.key.size());
  for (std::size_t i = 0; i < coders_.key.size(); ++i) {
    sides_.emplace_back(coders_.key[i], shape_.head_dim, window_, true);
    sides_.emplace_back(coders_.value[i], shape_.head_dim, window_, false);
  }
}

std::size_t CodedCache::index(int layer) const {
  VI_CHECK(layer >= 0 && layer < shape_.n_layers, "layer {} of {}", layer, shape_.n_layers);
  return static_cast<std::size_t>(layer) * shape_.n_kv_heads * 2;
}

void CodedCache::append(int layer, const float* k, const float* v, std::int64_t n,
                        std::int64_t head_stride) {
  SideCache* sides = sides_.data() + index(layer);
  VI_CHECK(n >= 0 && (shape_.n_kv_heads == 1 || head_stride >= n * shape_.head_dim),
           "append of {} tokens with {} floats between heads", n, head_stride);
  if (n == 0) return;
  const int n_sides = 2 * shape_.n_kv_heads;
  std::size_t coded = 0;
  for (int i = 0; i < n_sides; ++i) coded += sides[i].would_code(static_cast<std::size_t>(n));
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic) if (coded >= kParallelTokens)
  for (int i = 0; i < n_sides; ++i) {
    try {
      sides[i].append((i % 2 == 0 ? k : v) + i / 2 * head_stride, static_cast<std::size_t>(n),
                      i % 2 == 0 ? nullptr : k + i / 2 * head_stride);
    } catch (...) {
#pragma omp critical(vi_cache_failure)
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

std::vector<attention::HeadView> CodedCache::views(int layer) const {
  const SideCache* sides = sides_.data() + index(layer);
  std::vector<attention::HeadView> heads(shape_.n_kv_heads);
  for (std::size_t h = 0; h < heads.size(); ++h) {
    heads[h].key = sides[2 * h].view();
    heads[h].value = sides[2 * h + 1].view();
    heads[h].len = sides[2 * h].len();
    heads[h].n_sinks = std::min<std::size_t>(heads[h].len, window_.sinks);
  }
  return heads;
}

void CodedCache::attend(int layer, const float* q, float* out) const {
  const auto heads = views(layer);
  attention::decode_attention({shape_.n_q_heads, shape_.n_kv_heads, shape_.head_dim}, heads.data(),
                              q, out);
}

std::int64_t CodedCache::len(int layer) const {
  return static_cast<std::int64_t>(sides_[index(layer)].len());
}

std::size_t CodedCache::payload_bytes() const {
  std::size_t bytes = 0;
  for (const SideCache& side : sides_) bytes += side.payload_bytes();
  return bytes;
}
std::size_t CodedCache::window_bytes() const {
  std::size_t bytes = 0;
  for (const SideCache& side : sides_) bytes += side.window_bytes();
  return bytes;
}
std::size_t CodedCache::allocated_bytes() const {
  std::size_t bytes = sizeof *this;
  for (const SideCache& side : sides_) bytes += side.allocated_bytes();
  return bytes;
}

std::unique_ptr<KvCache> make_dense_cache(int n_layers, int n_q_heads, int n_kv_heads,
                                          int head_dim) {
  const std::vector<const quant::HeadCoder*> none(static_cast<std::size_t>(std::max(0, n_layers)) *
                                                  std::max(0, n_kv_heads));
  return std::make_unique<CodedCache>(CacheShape{n_layers, n_q_heads, n_kv_heads, head_dim},
                                      codec::WindowSpec{.recent = 0, .sinks = 0},
                                      CacheCoders{none, none});
}

std::unique_ptr<KvCache> make_coded_cache(std::shared_ptr<const codec::Codec> codec,
                                          int n_q_heads) {
  CacheCoders coders;
  for (int layer = 0; layer < codec->n_layers(); ++layer)
    for (int head = 0; head < codec->n_kv_heads(); ++head) {
      coders.key.push_back(codec->key(layer, head));
      coders.value.push_back(codec->value(layer, head));
    }
  const CacheShape shape{codec->n_layers(), n_q_heads, codec->n_kv_heads(), codec->head_dim()};
  const codec::WindowSpec window = codec->spec().window;
  return std::make_unique<CodedCache>(shape, window, std::move(coders), std::move(codec));
}

}  // namespace vi::cache
