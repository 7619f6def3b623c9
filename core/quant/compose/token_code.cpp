#include "core/quant/compose/token_code.h"

#include <algorithm>
#include <cmath>

#include "core/quant/finite.h"

namespace vi::quant {

TokenCode::TokenCode(transform::HeadTransform before, transform::Step step, bool renormalise,
                     std::unique_ptr<transform::HeadTransform> after,
                     std::unique_ptr<HeadCoder> inner)
    : BlockCoder(inner->head_dim(), {inner.get()}),
      before_(std::move(before)),
      step_(std::move(step)),
      renormalise_(renormalise),
      numbers_(transform::token_numbers(step_.kind)),
      after_(std::move(after)),
      inner_(std::move(inner)) {
  VI_CHECK(transform::per_token(step_.kind), "not a per-token step");
  set_block_bytes(block_tokens() * 2 * numbers_ + inner_->stream_bytes(block_tokens()));
}

void TokenCode::encode(const float* rows, std::size_t n, std::size_t first,
                       std::uint8_t* stream) const {
  check_whole(first, n);
  detail::check_finite(rows, n, head_dim_);
  const std::size_t d = head_dim_;
  std::vector<float> work;
  over_blocks(first, n, [&](std::size_t block, std::size_t inside, std::size_t count, std::size_t at) {
    work.assign(rows + at * d, rows + (at + count) * d);
    before_.forward(work.data(), count);
    std::uint8_t* base = stream + block * block_bytes_;
    for (std::size_t t = 0; t < count; ++t) {
      std::uint16_t numbers[transform::kTokenNumbers];
      transform::token_forward(step_, work.data() + t * d, head_dim_, numbers);
      for (int i = 0; i < numbers_; ++i) put_half(base + ((inside + t) * numbers_ + i) * 2, numbers[i]);
    }
    inner_->encode(work.data(), count, inside, base + block_ * 2 * numbers_);
  });
}

void TokenCode::back(float* rows, std::size_t n, const std::uint16_t* numbers) const {
  const std::size_t d = head_dim_;
  for (std::size_t t = 0; t < n; ++t) {
    float* row = rows + t * d;
    if (renormalise_) {
      double sum = 0;
      for (std::size_t i = 0; i < d; ++i) sum += static_cast<double>(row[i]) * row[i];
      const float factor = sum > 0 ? static_cast<float>(std::sqrt(static_cast<double>(d) / sum)) : 0.0f;
      for (std::size_t i = 0; i < d; ++i) row[i] *= factor;
    }
    transform::token_inverse(step_, row, head_dim_, numbers + t * numbers_);
  }
  before_.inverse(rows, n);
}

void TokenCode::decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                       float* rows) const {
  std::vector<std::uint16_t> numbers;
  over_blocks(first, n, [&](std::size_t block, std::size_t inside, std::size_t count, std::size_t at) {
    const std::uint8_t* base = stream + block * block_bytes_;
    inner_->decode(base + block_ * 2 * numbers_, inside, count, rows + at * head_dim_);
    numbers.resize(count * numbers_);
    for (std::size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = get_half(base + (inside * numbers_ + i) * 2);
    back(rows + at * head_dim_, count, numbers.data());
  });
}

void TokenCode::reconstruct(const float* rows, std::size_t n, float* out) const {
  detail::check_finite(rows, n, head_dim_);
  const std::size_t d = head_dim_;
  if (out != rows) std::copy_n(rows, n * d, out);
  before_.forward(out, n);
  std::vector<std::uint16_t> numbers(n * numbers_);
  for (std::size_t t = 0; t < n; ++t)
    transform::token_forward(step_, out + t * d, head_dim_, numbers.data() + t * numbers_);
  inner_->reconstruct(out, n, out);
  back(out, n, numbers.data());
}

}  // namespace vi::quant
