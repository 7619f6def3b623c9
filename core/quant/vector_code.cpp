#include "core/quant/vector_code.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/quant/finite.h"
#include "core/quant/packing.h"

namespace vi::quant {
namespace {

constexpr std::size_t kChunk = 4 * kBlockTokens;  // tokens transformed and coded while in L1

}  // namespace

std::shared_ptr<const VectorBooks> make_books(int dsub, int code_bits, int n_books,
                                              const float* centroids) {
  VI_CHECK(dsub >= 1 && code_bits >= 1 && code_bits <= 16 && n_books >= 1,
           "dsub {}, bits {}, books {}", dsub, code_bits, n_books);
  auto books = std::make_shared<VectorBooks>();
  books->dsub = dsub;
  books->code_bits = code_bits;
  books->n_books = n_books;
  const int ksub = 1 << code_bits;
  const std::size_t size = static_cast<std::size_t>(ksub) * dsub;
  books->centroids.assign(centroids, centroids + n_books * size);
  for (std::size_t i = 0; i < books->centroids.size(); ++i) {
    const float value = books->centroids[i];
    if (!std::isfinite(value) || half_to_float(float_to_half(value)) != value)
      fail<ContractError>(
          "codebook {} centroid {} dimension {}: expected a value exact in f16, found {}", i / size,
          i % size / dsub, i % dsub, value);
  }
  for (int m = 0; m < n_books; ++m)
    books->tables.emplace_back(books->centroids.data() + m * size, ksub, dsub);
  return books;
}

VectorCode::VectorCode(int head_dim, const transform::HeadTransform* transform,
                       std::shared_ptr<const VectorBooks> books)
    : head_dim_(head_dim), transform_(transform), books_(std::move(books)) {
  const int dsub = books_->dsub;
  VI_CHECK(head_dim > 0 && head_dim % dsub == 0, "dsub {} does not divide head_dim {}", dsub,
           head_dim);
  VI_CHECK(books_->n_books == 1 || books_->n_books == head_dim / dsub,
           "{} codebooks for {} sub-spaces", books_->n_books, head_dim / dsub);
  view_.layout = {head_dim / dsub, books_->code_bits};
  view_.dsub = dsub;
  view_.shared = books_->n_books == 1;
  view_.centroids = books_->centroids.data();
  view_.transform = transform_;
}

double VectorCode::payload_bits() const {
  return static_cast<double>(books_->code_bits) / books_->dsub;
}

void VectorCode::codes(const float* rows, std::size_t n, std::uint16_t* out) const {
  detail::check_finite(rows, n, head_dim_);
  const std::size_t d = head_dim_, dsub = books_->dsub, n_sub = view_.layout.n_books;
  std::vector<float> work;
  if (transform_ && !transform_->identity()) work.resize(std::min(n, kChunk) * d);
  for (std::size_t at = 0; at < n; at += kChunk) {
    const std::size_t count = std::min(kChunk, n - at);
    const float* x = rows + at * d;
    if (!work.empty()) {
      std::memcpy(work.data(), x, count * d * sizeof(float));
      transform_->forward(work.data(), count);
      x = work.data();
    }
    std::uint16_t* codes = out + at * n_sub;
    if (view_.shared) {
      assign(books_->tables[0], x, count * n_sub, dsub, codes, 1, nullptr);
    } else {
      for (std::size_t m = 0; m < n_sub; ++m)
        assign(books_->tables[m], x + m * dsub, count, d, codes + m, n_sub, nullptr);
    }
  }
}

void VectorCode::lookup(const std::uint16_t* codes, std::size_t n, float* rows) const {
  const std::size_t dsub = books_->dsub, n_sub = view_.layout.n_books;
  const std::size_t book = view_.shared ? 0 : (std::size_t{1} << books_->code_bits) * dsub;
  for (std::size_t t = 0; t < n; ++t)
    for (std::size_t m = 0; m < n_sub; ++m) {
      const float* centroid = books_->centroids.data() + m * book + codes[t * n_sub + m] * dsub;
      std::copy_n(centroid, dsub, rows + (t * n_sub + m) * dsub);
    }
  if (transform_) transform_->inverse(rows, n);
}

void VectorCode::encode(const float* rows, std::size_t n, std::size_t first,
                        std::uint8_t* stream) const {
  std::vector<std::uint16_t> packed(n * view_.layout.n_books);
  codes(rows, n, packed.data());
  pack_codes(view_.layout, packed.data(), n, first, stream);
}

void VectorCode::decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                        float* rows) const {
  std::vector<std::uint16_t> unpacked(n * view_.layout.n_books);
  unpack_codes(view_.layout, stream, first, n, unpacked.data());
  lookup(unpacked.data(), n, rows);
}

void VectorCode::reconstruct(const float* rows, std::size_t n, float* out) const {
  std::vector<std::uint16_t> unpacked(n * view_.layout.n_books);
  codes(rows, n, unpacked.data());
  lookup(unpacked.data(), n, out);
}

}  // namespace vi::quant
