// What generation and mode `stream` drive: a model with the cache of one sequence, wherever it lies.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/cache/kv_cache.h"
#include "core/codec/codec.h"
#include "core/decoder/decoder.h"

namespace vi::eval {

class StepModel {
 public:
  virtual ~StepModel() = default;
  virtual const model::ModelConfig& config() const = 0;
  virtual void reset() = 0;
  // f32 logits [1, vocab] of the next token, valid until the next call.
  virtual at::Tensor prefill(std::span<const std::int32_t> prompt) = 0;  // on an empty cache
  virtual at::Tensor step(std::int32_t id) = 0;
};

// The decoder on a cache of core/cache. prefill_chunk > 0: `chunked` prefill (codec needed).
std::unique_ptr<StepModel> make_cache_model(const model::Decoder& decoder, cache::KvCache& cache,
                                            std::shared_ptr<const codec::Codec> codec = nullptr,
                                            int prefill_chunk = 0);

// The decoder on a cache that holds, on the decoder's device, reconstructions where a cache would hold
// codes: any codec, every flush rule, nothing saved. The same numbers as decoding codes, for evaluation
// where no kernel holds this codec's codes. codec null: exact.
std::unique_ptr<StepModel> make_reconstructing_model(const model::Decoder& decoder,
                                                     std::shared_ptr<const codec::Codec> codec);

// The model of one sequence of at most `capacity` tokens for the decoder's device: on a GPU by the GPU
// half, which falls back to make_reconstructing_model and says so in `how`.
std::unique_ptr<StepModel> make_step_model(const model::Decoder& decoder,
                                           std::shared_ptr<const codec::Codec> codec, std::int64_t capacity,
                                           std::string* how = nullptr);

}  // namespace vi::eval
