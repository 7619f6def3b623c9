// QJL (arXiv 2406.03482): the signs of `signs` random projections of a token and its norm,
//   x^ = sqrt(pi / 2) / signs * |x| * sum over j of sign(s_j . x) s_j,
// whose inner product with a query is unbiased. With `outliers` > 0, of each `group` tokens the channels
// of largest norm (of equals the lower) have a sketch of half the size and a norm of their own.
// Block of `group` tokens (16 without outliers): [outliers] u8 channels; for each token its norms as
// halves, then the bits, those of the other channels first, each set padded to a byte.
#pragma once

#include "core/quant/compose/block_coder.h"

namespace vi::quant {

struct SketchForm {
  int signs = 0;            // of a token
  bool orthogonal = false;  // projections orthogonal in chunks of head_dim (QJL's code), else Gaussian
  int group = 0;            // tokens that share outlier channels
  int outliers = 0;         // channels of a group, below head_dim
  std::uint64_t seed = 1;
};

class SignSketch final : public BlockCoder {
 public:
  // `transform` may be null and must outlive the coder.
  SignSketch(int head_dim, const transform::HeadTransform* transform, const SketchForm& form);
  double payload_bits() const override;
  double metadata_bits() const override;
  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override;
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override;
  void reconstruct(const float* rows, std::size_t n, float* out) const override;

 private:
  std::size_t token_bytes() const;
  void code_group(const float* rows, std::size_t n, std::uint8_t* block, std::size_t inside) const;
  void back(const std::uint8_t* block, std::size_t inside, std::size_t n, float* rows) const;
  const transform::HeadTransform* transform_;
  SketchForm form_;
  std::vector<float> projections_;  // [signs, head_dim]
};

// [signs, d]: N(0, 1) entries, or chunks of d orthogonal rows of length sqrt(d).
std::vector<float> sketch_projections(int signs, int d, bool orthogonal, std::uint64_t seed);

}  // namespace vi::quant
