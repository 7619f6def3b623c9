// A second coder for what the first one leaves: x^ = first(y) + second(y - first(y)), y = transform(x).
// Two small codebooks in place of one large (additive codes), or a sign sketch of the rest
// (TurboQuant_prod). Block: the first coder's stream, then the second's.
#pragma once

#include "core/quant/compose/block_coder.h"

namespace vi::quant {

class ResidualCode final : public BlockCoder {
 public:
  // The parts have no transform of their own; `transform` may be null and must outlive the coder.
  ResidualCode(const transform::HeadTransform* transform, std::unique_ptr<HeadCoder> first,
               std::unique_ptr<HeadCoder> second);
  double payload_bits() const override { return first_->payload_bits() + second_->payload_bits(); }
  double metadata_bits() const override {
    return first_->metadata_bits() + second_->metadata_bits();
  }
  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override;
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override;
  void reconstruct(const float* rows, std::size_t n, float* out) const override;

 private:
  const transform::HeadTransform* transform_;
  std::unique_ptr<HeadCoder> first_, second_;
};

}  // namespace vi::quant
