// Uniform integers in groups: KIVI (arXiv 2402.02750), QuaRot's two quantisers (arXiv 2404.00456) and
// llama.cpp's q4_0 and q8_0, as choices of one code. A group keeps one or two halves:
//   minimum     scale = (max - min) / (2^b - 1), mn = min;      x^ = q scale + mn          (KIVI, vLLM)
//   zero_point  the same scale, zero = round(-min / scale);      x^ = (q - zero) scale      (QuaRot, asym)
//   symmetric   scale = max|x| / (2^(b-1) - 1);                  x^ = q scale               (QuaRot, q8_0)
//   extreme     scale = -(the x of largest magnitude) / 2^(b-1); x^ = q scale               (q4_0)
// min and max (max|x|) are first multiplied by `clip` where they differ. Rounding `even`: half to even, divided by the
// scale as stored (f16). `away`: half away from zero, by the scale before it is stored; `extreme` rounds
// as ggml does. A constant group is exact to f16 (its authors divide by zero); beyond f16 values saturate.
//
// Streams. Axis channel: blocks of `group` tokens, each [head_dim] x {halves}, then for each channel
// group * bits bits, token by token, lowest bits first. Axis token: for each token
// [head_dim / group] x {halves}, then head_dim * bits bits, channel by channel, padded to a byte.
#pragma once

#include "core/quant/head_coder.h"

namespace vi::quant {

enum class GroupAxis { channel, token };
enum class IntegerRange { minimum, zero_point, symmetric, extreme };
enum class Rounding { even, away };

struct IntegerForm {
  GroupAxis axis = GroupAxis::token;
  int bits = 2, group = 32;
  IntegerRange range = IntegerRange::minimum;
  Rounding rounding = Rounding::even;
  float clip = 1;
};

class IntegerCode final : public HeadCoder {
 public:
  // bits 1..8, from 2 with `symmetric`. Channel: group * bits is a multiple of 8. Token: group divides
  // head_dim and head_dim * bits is a multiple of 8. `transform` must outlive the coder.
  IntegerCode(int head_dim, const transform::HeadTransform* transform, const IntegerForm& form);
  IntegerCode(int head_dim, const transform::HeadTransform* transform, GroupAxis axis, int bits,
              int group)
      : IntegerCode(head_dim, transform, IntegerForm{axis, bits, group}) {}
  int seal_tokens() const override { return form_.axis == GroupAxis::channel ? form_.group : 1; }
  int head_dim() const override { return head_dim_; }
  std::size_t stream_bytes(std::size_t n) const override;
  double payload_bits() const override { return form_.bits; }
  double metadata_bits() const override { return 8.0 * group_bytes() / form_.group; }
  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override;
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override;
  void reconstruct(const float* rows, std::size_t n, float* out) const override;

 private:
  std::size_t group_bytes() const;  // of its halves
  std::size_t block_bytes() const;  // of seal_tokens() tokens
  int head_dim_;
  const transform::HeadTransform* transform_;
  IntegerForm form_;
};

}  // namespace vi::quant
