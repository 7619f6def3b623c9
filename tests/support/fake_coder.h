// Coders for tests of attention and caches that do not depend on core/quant's: a vector code with
// random or given codebooks and an exhaustive search, and a code of whole token groups without a
// vector view.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "core/common/half.h"
#include "core/common/rng.h"
#include "core/quant/head_coder.h"

namespace vi::testing {

inline std::vector<float> normals(std::size_t n, std::uint64_t seed, double scale = 1) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (float& v : x) v = static_cast<float>(scale * rng.normal());
  return x;
}

// A centre, a scale and (where head_dim is a power of two) a Hadamard.
inline transform::HeadTransform affine_transform(int head_dim, std::uint64_t seed) {
  using Step = transform::Step;
  transform::HeadTransform t;
  t.head_dim = head_dim;
  Step center, scale, rotate;
  center.kind = Step::Kind::center;
  center.vector = normals(head_dim, seed);
  scale.kind = Step::Kind::scale;
  scale.vector = normals(head_dim, seed + 1);
  for (float& v : scale.vector) v = 0.5f + std::abs(v);
  rotate.kind = Step::Kind::hadamard;
  t.steps = {scale, center};
  if (std::has_single_bit(static_cast<unsigned>(head_dim))) t.steps.push_back(rotate);
  return t;
}

class FakeVectorCoder final : public quant::HeadCoder {
 public:
  FakeVectorCoder(int head_dim, int dsub, int bits, bool shared, std::uint64_t seed,
                  transform::HeadTransform transform = {})
      : head_dim_(head_dim), transform_(std::move(transform)) {
    transform_.head_dim = head_dim;
    const int n_books = head_dim / dsub;
    centroids_ = normals((static_cast<std::size_t>(shared ? 1 : n_books) << bits) * dsub, seed);
    for (float& c : centroids_) c = half_to_float(float_to_half(c));
    view_.layout = {n_books, bits};
    view_.dsub = dsub;
    view_.shared = shared;
    view_.centroids = centroids_.data();
    view_.transform = &transform_;
  }
  int seal_tokens() const override { return 1; }
  int head_dim() const override { return head_dim_; }
  std::size_t stream_bytes(std::size_t n) const override { return view_.layout.stream_bytes(n); }
  double payload_bits() const override { return 1.0 * view_.layout.code_bits / view_.dsub; }
  double metadata_bits() const override { return 0; }
  const quant::VectorView* vector_view() const override { return &view_; }

  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override {
    std::vector<float> row(head_dim_);
    for (std::size_t t = 0; t < n; ++t) {
      row.assign(rows + t * head_dim_, rows + (t + 1) * head_dim_);
      transform_.forward(row.data(), 1);
      for (int m = 0; m < view_.layout.n_books; ++m) {
        unsigned best = 0;
        float least = std::numeric_limits<float>::infinity();
        for (unsigned c = 0; c < 1u << view_.layout.code_bits; ++c) {
          float distance = 0;
          for (int j = 0; j < view_.dsub; ++j) {
            const float x = row[m * view_.dsub + j] - centroid(m, c)[j];
            distance += x * x;
          }
          if (distance < least) least = distance, best = c;
        }
        set_code(view_.layout, stream, first + t, m, best);
      }
    }
  }
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override {
    for (std::size_t t = 0; t < n; ++t)
      for (int m = 0; m < view_.layout.n_books; ++m)
        for (int j = 0; j < view_.dsub; ++j)
          rows[t * head_dim_ + m * view_.dsub + j] =
              centroid(m, get_code(view_.layout, stream, first + t, m))[j];
    transform_.inverse(rows, n);
  }
  // Random codes for n tokens: what attention reads does not depend on how codes were found.
  std::vector<std::uint8_t> random_stream(std::size_t n, std::uint64_t seed) const {
    std::vector<std::uint8_t> stream(stream_bytes(n));
    Rng rng(seed);
    for (std::size_t t = 0; t < n; ++t)
      for (int m = 0; m < view_.layout.n_books; ++m)
        set_code(view_.layout, stream.data(), t, m,
                 static_cast<unsigned>(rng.below(std::uint64_t{1} << view_.layout.code_bits)));
    return stream;
  }

 private:
  const float* centroid(int m, unsigned c) const {
    return centroids_.data() +
           ((static_cast<std::size_t>(view_.shared ? 0 : m) << view_.layout.code_bits) + c) *
               view_.dsub;
  }
  int head_dim_;
  transform::HeadTransform transform_;
  std::vector<float> centroids_;
  quant::VectorView view_;
};

// Groups of `seal` tokens: each channel rounded to 1/16 of the group's absolute maximum, which is
// kept as a float before the group's bytes.
class FakeGroupCoder final : public quant::HeadCoder {
 public:
  FakeGroupCoder(int head_dim, int seal) : head_dim_(head_dim), seal_(seal) {}
  int seal_tokens() const override { return seal_; }
  int head_dim() const override { return head_dim_; }
  std::size_t stream_bytes(std::size_t n) const override {
    return (n + seal_ - 1) / seal_ * group_bytes();
  }
  double payload_bits() const override { return 8; }
  double metadata_bits() const override { return 32.0 / seal_; }
  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override {
    if (n % seal_ != 0 || first % seal_ != 0) throw std::logic_error("not whole groups");
    for (std::size_t g = 0; g < n / seal_; ++g)
      for (int i = 0; i < head_dim_; ++i) {
        float most = 0;
        for (int t = 0; t < seal_; ++t)
          most = std::max(most, std::abs(rows[(g * seal_ + t) * head_dim_ + i]));
        std::uint8_t* at = stream + (first / seal_ + g) * group_bytes() + i * (4 + seal_);
        std::memcpy(at, &most, 4);
        for (int t = 0; t < seal_; ++t)
          at[4 + t] = static_cast<std::uint8_t>(
              most > 0 ? 128 + std::lround(16 * rows[(g * seal_ + t) * head_dim_ + i] / most)
                       : 128);
      }
  }
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override {
    for (std::size_t t = first; t < first + n; ++t)
      for (int i = 0; i < head_dim_; ++i) {
        const std::uint8_t* at = stream + t / seal_ * group_bytes() + i * (4 + seal_);
        float most;
        std::memcpy(&most, at, 4);
        rows[(t - first) * head_dim_ + i] =
            most * (static_cast<float>(at[4 + t % seal_]) - 128) / 16;
      }
  }

 private:
  std::size_t group_bytes() const { return static_cast<std::size_t>(head_dim_) * (4 + seal_); }
  int head_dim_, seal_;
};

}  // namespace vi::testing
