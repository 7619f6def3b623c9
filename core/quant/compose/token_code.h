// A per-token step (core/transform/token_step.h) in front of any coder: x -> `before` -> the step, whose
// numbers are kept as halves -> the inner coder. Block: numbers [tokens][1 or 2], then the inner stream.
#pragma once

#include "core/quant/compose/block_coder.h"
#include "core/transform/token_step.h"

namespace vi::quant {

class TokenCode final : public BlockCoder {
 public:
  // before: the static steps in front of `step`, copied. `after`: those behind it, kept here for the inner
  // coder that points to it. renormalise (token_norm only): the inner coder's vector is given the length
  // sqrt(head_dim) before the norm is put back (vLLM's norm correction).
  TokenCode(transform::HeadTransform before, transform::Step step, bool renormalise,
            std::unique_ptr<transform::HeadTransform> after, std::unique_ptr<HeadCoder> inner);
  double payload_bits() const override { return inner_->payload_bits(); }
  double metadata_bits() const override {
    return inner_->metadata_bits() + 16.0 * numbers_ / head_dim_;
  }
  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override;
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override;
  void reconstruct(const float* rows, std::size_t n, float* out) const override;

 private:
  void back(float* rows, std::size_t n, const std::uint16_t* numbers) const;
  transform::HeadTransform before_;
  transform::Step step_;
  bool renormalise_;
  int numbers_;
  std::unique_ptr<transform::HeadTransform> after_;
  std::unique_ptr<HeadCoder> inner_;
};

}  // namespace vi::quant
