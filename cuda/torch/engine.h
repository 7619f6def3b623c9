// The decoder on a GPU: the same model as core/decoder, weights fused (q, k, v one matrix; gate and up one
// matrix) in f32, bf16 or f16. Layer-major: all rows pass a layer in chunks, attention is the hook's.
// Runs on the CPU too, where the tests hold it to the CPU decoder.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "core/decoder/decoder_engine.h"
#include "cuda/torch/memory_plan.h"
#include "cuda/torch/ops.h"

namespace vi::cuda {

// A weight by its Hugging Face name: f32 or the model's type, any device.
using WeightSource = std::function<at::Tensor(const std::string& name, at::IntArrayRef shape)>;
WeightSource weights_of(const model::WeightFile& weights);
// Random weights, so that shapes can be timed without a model: N(0, 0.02), norms 1.
WeightSource synthetic_weights(at::Device device, at::ScalarType dtype, std::uint64_t seed);
// Llama-3.1-8B's shape.
model::ModelConfig llama_8b_config();

struct GpuLayer {
  Linear qkv, o, gate_up, down;
  at::Tensor input_norm, post_norm, q_norm, k_norm;
};

class GpuEngine final : public model::DecoderEngine {
 public:
  GpuEngine(const model::ModelConfig& config, const WeightSource& source,
            const model::DecoderOptions& options);
  static MemoryPlan plan(const model::ModelConfig& config, at::ScalarType dtype);

  at::Tensor run(std::span<const std::int32_t> ids, const model::RopeTable& rope, std::int64_t first,
                 model::AttentionHook& hook) const override;
  // As forward, for ids that lie on the device already: i64 [n].
  at::Tensor forward_ids(const at::Tensor& ids, std::int64_t first, model::AttentionHook& hook) const;
  at::Tensor logits(const at::Tensor& hidden) const override;  // f32 on the device
  std::vector<double> nll(const at::Tensor& hidden, std::span<const std::int32_t> targets) const override;

  at::Device device() const { return options_.device; }
  at::ScalarType dtype() const { return options_.dtype; }
  const at::Tensor& embedding() const { return embedding_; }
  const Linear& head() const { return head_; }
  const at::Tensor& final_norm() const { return final_norm_; }
  const std::vector<GpuLayer>& layers() const { return layers_; }
  at::Tensor index(std::span<const std::int32_t> ids) const;

 private:
  at::Tensor run_ids(const at::Tensor& ids, const model::RopeTable& rope, std::int64_t first,
                     model::AttentionHook& hook) const;
  at::Tensor embedding_, final_norm_;
  Linear head_;
  std::vector<GpuLayer> layers_;
};

}  // namespace vi::cuda
