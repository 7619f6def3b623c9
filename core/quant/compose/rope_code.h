// The pre-RoPE tap: keys come and go as the model's attention uses them, rotated by their position; the
// inner coder sees them before rotation. Rotating back by a position known to all loses nothing but f32
// rounding, so no other part of the framework need hold keys before RoPE.
#pragma once

#include "core/quant/compose/block_coder.h"

namespace vi::quant {

// rows [n, head_dim] at positions first, first + 1, ...: channel i and i + head_dim/2 turned by
// position * frequencies[i] (rotate-half order), or back. Angles in f64.
void rotate_rows(const std::vector<double>& frequencies, float* rows, std::size_t n,
                 std::size_t first, bool back);

class RopeCode final : public HeadCoder {
 public:
  // frequencies [head_dim / 2] in radians a token. Token 0 of a stream stands at position `origin`.
  RopeCode(std::vector<double> frequencies, std::size_t origin, std::unique_ptr<HeadCoder> inner);
  int seal_tokens() const override { return inner_->seal_tokens(); }
  int head_dim() const override { return inner_->head_dim(); }
  std::size_t stream_bytes(std::size_t n) const override { return inner_->stream_bytes(n); }
  double payload_bits() const override { return inner_->payload_bits(); }
  double metadata_bits() const override { return inner_->metadata_bits(); }
  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override;
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override;
  // Rows at positions origin, origin + 1, ...
  void reconstruct(const float* rows, std::size_t n, float* out) const override;
  void reconstruct_at(const float* rows, std::size_t n, const Place& place,
                      float* out) const override;

 private:
  std::vector<double> frequencies_;
  std::size_t origin_;
  std::unique_ptr<HeadCoder> inner_;
};

}  // namespace vi::quant
