// What the decoder's attention sees: the exact keys and values, their reconstruction by a codec, a
// cache. Each mode is one AttentionHook; its name stands in every result line. One softmax covers
// exact and reconstructed tokens. Heads work on f32 rows, whatever the model's type. Tensors on a GPU
// stay there (eval/modes/device_modes.h), but for the hooks of a CPU cache.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/cache/kv_cache.h"
#include "core/codec/codec.h"
#include "core/decoder/attention_hook.h"

namespace vi::eval {

class DeviceCodec;

// Exact causal attention over the tokens of one call (first must be 0).
class ExactAttention final : public model::AttentionHook {
 public:
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override;
  bool takes_window() const override { return true; }
};

// `all`: every key and value reconstructed, the query's own included. first must be 0.
class AllAttention final : public model::AttentionHook {
 public:
  explicit AllAttention(std::shared_ptr<const codec::Codec> codec) : codec_(std::move(codec)) {}
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override;
  bool takes_window() const override { return true; }

 private:
  std::shared_ptr<const codec::Codec> codec_;
  std::shared_ptr<const DeviceCodec> tables_;  // off the CPU, made at the first call
};

// `window`: each query sees its newest `recent` tokens (its own included) and the first `sinks`
// tokens exactly, the rest reconstructed; a sliding window for every method. Tokens are coded from
// the first one after the sinks on, as the cache codes them. first must be 0.
class WindowAttention final : public model::AttentionHook {
 public:
  explicit WindowAttention(std::shared_ptr<const codec::Codec> codec);  // recent, sinks of its spec
  WindowAttention(std::shared_ptr<const codec::Codec> codec, int recent, int sinks);
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override;
  bool takes_window() const override { return true; }

 private:
  std::shared_ptr<const codec::Codec> codec_;
  std::shared_ptr<const DeviceCodec> tables_;  // off the CPU, made at the first call
  std::int64_t recent_, sinks_;
};

// Prefill: exact attention over the prompt, whose keys and values are then appended to the cache.
// first must be 0 and the cache empty.
class PrefillAttention final : public model::AttentionHook {
 public:
  explicit PrefillAttention(cache::KvCache& cache) : cache_(cache) {}
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override;

 private:
  cache::KvCache& cache_;
};

// `chunked` prefill: the prompt in chunks of `chunk` tokens; a chunk's queries see their own chunk
// exactly and of earlier chunks what the cache would give back: coded tokens reconstructed, the
// cache's exact window and sinks exactly. Keys and values are appended to the cache.
class ChunkedPrefillAttention final : public model::AttentionHook {
 public:
  ChunkedPrefillAttention(std::shared_ptr<const codec::Codec> codec, cache::KvCache& cache,
                          int chunk);
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override;

 private:
  std::shared_ptr<const codec::Codec> codec_;
  cache::KvCache& cache_;
  std::int64_t chunk_;
};

// Decode: each new token is appended to the cache, then attends to it. Several tokens in one call
// go one after another. first must be the cache's length.
class DecodeAttention final : public model::AttentionHook {
 public:
  explicit DecodeAttention(cache::KvCache& cache) : cache_(cache) {}
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override;

 private:
  cache::KvCache& cache_;
};

// One new token each of several sequences (Decoder::forward_each): row i is appended to caches[i], then
// attends to it.
class BatchDecodeAttention final : public model::AttentionHook {
 public:
  explicit BatchDecodeAttention(std::vector<cache::KvCache*> caches) : caches_(std::move(caches)) {}
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override;

 private:
  std::vector<cache::KvCache*> caches_;
};

// Exact attention that shows each layer's q, k and v (of the model's type, where the model is, valid
// during the call only) to a callback: the dump stage. first must be 0.
class DumpAttention final : public model::AttentionHook {
 public:
  using See =
      std::function<void(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)>;
  explicit DumpAttention(See see) : see_(std::move(see)) {}
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override;

 private:
  See see_;
};

}  // namespace vi::eval
