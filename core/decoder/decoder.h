// The decoder of the Llama family: embeddings, layers of (RMS norm, q/k/v, RoPE, attention, gated
// MLP), final norm, logits. What attends is the caller's choice (attention_hook.h). Weights and
// activations are f32 or bf16; bf16 is rounded after every operation and accumulated in f32.
// Invariant: on the CPU a row's bytes depend on its own values only, never on the number of
// threads, on how many rows a call has or on where the row stands in it
// (core/decoder/decoder_kernels.h).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/decoder/attention_hook.h"

namespace vi::model {

struct ModelConfig;
class WeightFile;
class DecoderEngine;

struct DecoderOptions {
  at::ScalarType dtype = at::kFloat;  // at::kFloat or at::kBFloat16
  at::Device device = at::kCPU;
  // Plain ATen operations instead of our kernels: the naive twin, and the only way off the CPU. Its
  // bytes do depend on threads.
  bool plain = false;
};

class Decoder {
 public:
  // Reads every weight (dequantised, then rounded to dtype); `weights` may go afterwards.
  // ContractError if a tensor is missing, has the wrong shape or holds a value that is not finite.
  Decoder(const ModelConfig& config, const WeightFile& weights, const DecoderOptions& options = {});
  // On an engine made elsewhere (the GPU's).
  explicit Decoder(std::unique_ptr<DecoderEngine> engine);
  ~Decoder();
  Decoder(Decoder&& other) noexcept;
  Decoder& operator=(Decoder&& other) noexcept;

  const ModelConfig& config() const;
  const DecoderOptions& options() const;
  const DecoderEngine& engine() const { return *engine_; }

  // The n tokens `ids` at positions [first, first + n) -> hidden states after the final norm [n,
  // hidden]. Layer-major: all rows pass a layer before the next one; inside a layer they go in
  // chunks, so that temporaries stay bounded. Interrupts are checked once a layer. Error if an id
  // is outside the vocabulary; n = 0 gives [0, hidden].
  at::Tensor forward(std::span<const std::int32_t> ids, std::int64_t first,
                     AttentionHook& hook) const;

  // One token each of n sequences, ids[i] at positions[i] -> [n, hidden]. The hook gets all rows with first =
  // kManySequences and knows whose they are. On the CPU row i is, byte for byte, forward(ids[i], positions[i]).
  at::Tensor forward_each(std::span<const std::int32_t> ids, std::span<const std::int64_t> positions,
                          AttentionHook& hook) const;

  // hidden [n, hidden] -> logits [n, vocab], always f32 (of bf16 values where dtype is bf16).
  at::Tensor logits(const at::Tensor& hidden) const;

  // -log softmax(logits(hidden))[target] for each row, in nats; row chunks, [n, vocab] never
  // exists.
  std::vector<double> nll(const at::Tensor& hidden, std::span<const std::int32_t> targets) const;

 private:
  void prepare(std::span<const std::int32_t> ids, std::int64_t end, AttentionHook& hook) const;
  std::unique_ptr<DecoderEngine> engine_;
};

}  // namespace vi::model
