// Dense and sparse (KVQuant, arXiv 2401.18079, section 3.3): of each token up to `slots` values that the
// transforms map outside [-1, 1], the largest first (of equals the lower channel), are kept as halves
// with their channel; the inner coder codes the whole row. Block: [tokens][slots] x {u16 channel or
// 0xffff, f16 value}, then the inner stream.
#pragma once

#include "core/quant/compose/block_coder.h"

namespace vi::quant {

class OutlierCode final : public BlockCoder {
 public:
  // `transform`: the side's, of steps that keep channels apart (center, smooth, token_*); it must outlive
  // the coder. The inner coder applies it by itself.
  OutlierCode(const transform::HeadTransform* transform, int slots,
              std::unique_ptr<HeadCoder> inner);
  double payload_bits() const override { return inner_->payload_bits(); }
  double metadata_bits() const override {
    return inner_->metadata_bits() + 32.0 * slots_ / head_dim_;
  }
  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override;
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override;
  void reconstruct(const float* rows, std::size_t n, float* out) const override;

 private:
  // Channels of a token's outliers, ascending.
  std::vector<int> pick(const float* row) const;
  const transform::HeadTransform* transform_;
  int slots_;
  std::unique_ptr<HeadCoder> inner_;
};

}  // namespace vi::quant
