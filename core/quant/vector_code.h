// Vector quantisation of a head (VecInfer Eq. 2, 8): transform, cut into head_dim / dsub
// sub-vectors, each coded by its nearest centroid; packed as code_layout.h says.
#pragma once

#include <memory>
#include <vector>

#include "core/quant/assign.h"
#include "core/quant/head_coder.h"

namespace vi::quant {

// The books of one coder: [1 or n_books, ksub, dsub] and the same in the kernels' order. Shared by
// all coders that use the same centroids.
struct VectorBooks {
  int dsub = 0, code_bits = 0, n_books = 0;  // n_books 1: shared by the sub-spaces
  std::vector<float> centroids;              // f16-exact
  std::vector<CentroidTable> tables;         // [n_books]
};
// centroids [n_books, 2^code_bits, dsub]. ContractError if one is not finite or not exact in f16.
std::shared_ptr<const VectorBooks> make_books(int dsub, int code_bits, int n_books,
                                              const float* centroids);

class VectorCode final : public HeadCoder {
 public:
  // `transform` must outlive the coder; n_books of `books` is 1 or head_dim / dsub.
  VectorCode(int head_dim, const transform::HeadTransform* transform,
             std::shared_ptr<const VectorBooks> books);
  int seal_tokens() const override { return 1; }
  int head_dim() const override { return head_dim_; }
  std::size_t stream_bytes(std::size_t n) const override { return view_.layout.stream_bytes(n); }
  double payload_bits() const override;
  double metadata_bits() const override { return 0; }
  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override;
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override;
  const VectorView* vector_view() const override { return &view_; }
  void reconstruct(const float* rows, std::size_t n, float* out) const override;

  // Rows -> codes [n, n sub-spaces], unpacked.
  void codes(const float* rows, std::size_t n, std::uint16_t* out) const;

 private:
  void lookup(const std::uint16_t* codes, std::size_t n, float* rows) const;
  int head_dim_;
  const transform::HeadTransform* transform_;
  std::shared_ptr<const VectorBooks> books_;
  VectorView view_;
};

}  // namespace vi::quant
