// KIVI's asymmetric integers (arXiv 2402.02750): per group mn = f16(min), scale = f16((max - min) /
// (2^b - 1)), q = round_half_even(clamp((x - mn) / scale, 0, 2^b - 1)), x^ = q * scale + mn. A
// group whose scale is 0 in f16 codes as 0 (KIVI divides by zero there); beyond f16 values
// saturate.
//
// Streams. Axis channel (keys): blocks of `group` tokens, each [head_dim] x {scale, mn} in f16,
// then for each channel group * bits bits, token by token, lowest bits first. Axis token (values):
// for each token [head_dim / group] x {scale, mn}, then head_dim * bits bits, channel by channel,
// padded to a byte.
#pragma once

#include "core/quant/head_coder.h"

namespace vi::quant {

enum class GroupAxis { channel, token };

class IntegerCode final : public HeadCoder {
 public:
  // bits 1..8. Channel: group * bits is a multiple of 8. Token: group divides head_dim and
  // head_dim * bits is a multiple of 8. `transform` must outlive the coder.
  IntegerCode(int head_dim, const transform::HeadTransform* transform, GroupAxis axis, int bits,
              int group);
  int seal_tokens() const override { return axis_ == GroupAxis::channel ? group_ : 1; }
  int head_dim() const override { return head_dim_; }
  std::size_t stream_bytes(std::size_t n) const override;
  double payload_bits() const override { return bits_; }
  double metadata_bits() const override { return 32.0 / group_; }
  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override;
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override;
  void reconstruct(const float* rows, std::size_t n, float* out) const override;

 private:
  std::size_t block_bytes() const;  // of seal_tokens() tokens
  int head_dim_;
  const transform::HeadTransform* transform_;
  GroupAxis axis_;
  int bits_, group_;
};

}  // namespace vi::quant
