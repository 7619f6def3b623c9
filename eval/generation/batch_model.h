// What batched generation drives: a model with a fixed number of slots, each the cache of one sequence of its
// own length. A step runs the rows of all its sequences through the linear layers together; attention is each
// sequence's own.
// Invariant: on the CPU the logits of a sequence are, byte for byte, those of a StepModel; neither its slot nor
// the other sequences enter them. On a GPU they are the same within rounding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/codec/codec.h"
#include "core/decoder/decoder.h"

namespace vi::eval {

struct SlotToken {
  int slot = 0;
  std::int32_t id = 0;
};

class BatchModel {
 public:
  virtual ~BatchModel() = default;
  virtual const model::ModelConfig& config() const = 0;
  virtual int slots() const = 0;
  // A new sequence; what the slot held is gone. -> f32 logits [1, vocab] of the next token.
  virtual at::Tensor prefill(int slot, std::span<const std::int32_t> prompt) = 0;
  // The next token of every sequence that has begun and was not released, in any order -> f32 logits [n,
  // vocab], row i of tokens[i]; valid until the next call.
  virtual at::Tensor step(std::span<const SlotToken> tokens) = 0;
  virtual void release(int slot) = 0;  // its sequence has ended
};

// For the decoder's device; sequences of at most `capacity` tokens. codec null: exact. `how` may be null: what
// holds the caches. OutOfMemoryError where fewer slots may fit.
std::unique_ptr<BatchModel> make_batch_model(const model::Decoder& decoder,
                                             std::shared_ptr<const codec::Codec> codec, int slots,
                                             std::int64_t capacity, std::string* how = nullptr);

// As make_reconstructing_model (step_model.h): any codec on any device.
std::unique_ptr<BatchModel> make_reconstructing_batch(const model::Decoder& decoder,
                                                      std::shared_ptr<const codec::Codec> codec, int slots);

}  // namespace vi::eval
