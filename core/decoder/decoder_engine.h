// What a decoder does, on one kind of device: decoder_cpu.cpp by our kernels, decoder_plain.cpp by
// plain ATen operations. Arguments were checked by Decoder.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/decoder/decoder.h"
#include "core/model/model_config.h"
#include "core/weights/weights.h"

namespace vi::model {

// cos and sin of n positions [n, head_dim / 2]: angles are rounded to f32 as Hugging Face's are, so that
// long positions agree.
struct RopeTable {
  std::vector<float> cos, sin;
};
RopeTable rope_table(const ModelConfig& config, std::int64_t first, std::int64_t n);  // [first, first + n)
// A row a position, each as rope_table(config, position, 1) has it.
RopeTable rope_rows(const ModelConfig& config, std::span<const std::int64_t> positions);

class DecoderEngine {
 public:
  DecoderEngine(const ModelConfig& config, const DecoderOptions& options)
      : config_(config), options_(options) {}
  virtual ~DecoderEngine() = default;
  at::Tensor forward(std::span<const std::int32_t> ids, std::int64_t first, AttentionHook& hook) const {
    return run(ids, rope_table(config_, first, std::ssize(ids)), first, hook);
  }
  // rope [n]: of the ids' positions; first goes to the hook.
  virtual at::Tensor run(std::span<const std::int32_t> ids, const RopeTable& rope, std::int64_t first,
                         AttentionHook& hook) const = 0;
  virtual at::Tensor logits(const at::Tensor& hidden) const = 0;
  virtual std::vector<double> nll(const at::Tensor& hidden,
                                  std::span<const std::int32_t> targets) const = 0;
  const ModelConfig& config() const { return config_; }
  const DecoderOptions& options() const { return options_; }

 protected:
  ModelConfig config_;
  DecoderOptions options_;
};

std::unique_ptr<DecoderEngine> make_cpu_engine(const ModelConfig& config, const WeightFile& weights,
                                               const DecoderOptions& options);
std::unique_ptr<DecoderEngine> make_plain_engine(const ModelConfig& config,
                                                 const WeightFile& weights,
                                                 const DecoderOptions& options);

// The parts of a layer's weights by their Hugging Face names.
std::string layer_weight(int layer, std::string_view part);  // "model.layers.3.<part>"

// hook.attend, and a check of what it returned.
at::Tensor call_hook(AttentionHook& hook, int layer, const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v, std::int64_t first);

}  // namespace vi::model
