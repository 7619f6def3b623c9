#include "core/quant/compose/residual_code.h"

#include <algorithm>

#include "core/quant/finite.h"

namespace vi::quant {

ResidualCode::ResidualCode(const transform::HeadTransform* transform,
                           std::unique_ptr<HeadCoder> first, std::unique_ptr<HeadCoder> second)
    : BlockCoder(first->head_dim(), {first.get(), second.get()}),
      transform_(transform),
      first_(std::move(first)),
      second_(std::move(second)) {
  set_block_bytes(first_->stream_bytes(block_) + second_->stream_bytes(block_));
}

void ResidualCode::encode(const float* rows, std::size_t n, std::size_t first,
                          std::uint8_t* stream) const {
  check_whole(first, n);
  detail::check_finite(rows, n, head_dim_);
  const std::size_t d = head_dim_;
  std::vector<float> work, rest;
  over_blocks(first, n, [&](std::size_t block, std::size_t inside, std::size_t count, std::size_t at) {
    work.assign(rows + at * d, rows + (at + count) * d);
    if (transform_) transform_->forward(work.data(), count);
    std::uint8_t* base = stream + block * block_bytes_;
    first_->encode(work.data(), count, inside, base);
    rest.resize(count * d);
    first_->decode(base, inside, count, rest.data());
    for (std::size_t i = 0; i < count * d; ++i) rest[i] = work[i] - rest[i];
    second_->encode(rest.data(), count, inside, base + first_->stream_bytes(block_));
  });
}

void ResidualCode::decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                          float* rows) const {
  const std::size_t d = head_dim_;
  std::vector<float> rest;
  over_blocks(first, n, [&](std::size_t block, std::size_t inside, std::size_t count, std::size_t at) {
    const std::uint8_t* base = stream + block * block_bytes_;
    float* out = rows + at * d;
    rest.resize(count * d);
    first_->decode(base, inside, count, out);
    second_->decode(base + first_->stream_bytes(block_), inside, count, rest.data());
    for (std::size_t i = 0; i < count * d; ++i) out[i] += rest[i];
  });
  if (transform_) transform_->inverse(rows, n);
}

void ResidualCode::reconstruct(const float* rows, std::size_t n, float* out) const {
  detail::check_finite(rows, n, head_dim_);
  const std::size_t size = n * head_dim_;
  std::vector<float> work(rows, rows + size), coded(size);
  if (transform_) transform_->forward(work.data(), n);
  first_->reconstruct(work.data(), n, coded.data());
  for (std::size_t i = 0; i < size; ++i) work[i] -= coded[i];
  second_->reconstruct(work.data(), n, out);
  for (std::size_t i = 0; i < size; ++i) out[i] += coded[i];
  if (transform_) transform_->inverse(out, n);
}

}  // namespace vi::quant
