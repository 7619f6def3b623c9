// Dual-axis variance normalisation (KVarN, arXiv 2606.03458): of each block of `tokens` tokens channels and
// tokens are divided in turn by their root mean square until both are even (Sinkhorn's way); the products
// of the divisors are kept as halves. A channel or token of zeros has divisor 1. Block: channel scales
// [head_dim], token scales [tokens], then the inner stream.
#pragma once

#include "core/quant/compose/block_coder.h"

namespace vi::quant {

class BalancedCode final : public BlockCoder {
 public:
  // `transform` runs first; may be null and must outlive the coder. The inner coder has none.
  BalancedCode(const transform::HeadTransform* transform, int tokens, int iterations,
               std::unique_ptr<HeadCoder> inner);
  double payload_bits() const override { return inner_->payload_bits(); }
  double metadata_bits() const override {
    return inner_->metadata_bits() + 16.0 / block_ + 16.0 / head_dim_;
  }
  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override;
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override;
  void reconstruct(const float* rows, std::size_t n, float* out) const override;

 private:
  // rows [n] divided by scales, which are as stored: [head_dim] and [n] halves.
  void balance(float* rows, std::size_t n, std::uint16_t* channels, std::uint16_t* tokens) const;
  const transform::HeadTransform* transform_;
  int iterations_;
  std::unique_ptr<HeadCoder> inner_;
};

}  // namespace vi::quant
