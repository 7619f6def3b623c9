#include "core/quant/compose/balanced_code.h"

#include <algorithm>
#include <cmath>

#include "core/quant/finite.h"

namespace vi::quant {
namespace {

std::uint16_t scale_half(double value) {  // never 0 or infinity
  return float_to_half(static_cast<float>(std::clamp(value, 6e-8, 65504.0)));
}

}  // namespace

BalancedCode::BalancedCode(const transform::HeadTransform* transform, int tokens, int iterations,
                           std::unique_ptr<HeadCoder> inner)
    : BlockCoder(inner->head_dim(), {inner.get()}, static_cast<std::size_t>(tokens)),
      transform_(transform),
      iterations_(iterations),
      inner_(std::move(inner)) {
  VI_CHECK(tokens >= kBlockTokens && block_ == static_cast<std::size_t>(tokens),
           "blocks of {} tokens around groups of {}", tokens, inner_->seal_tokens());
  seal_ = tokens;
  set_block_bytes(2 * (head_dim_ + block_) + inner_->stream_bytes(block_));
}

void BalancedCode::balance(float* rows, std::size_t n, std::uint16_t* channels,
                           std::uint16_t* tokens) const {
  const std::size_t d = head_dim_;
  std::vector<double> of_channel(d, 1.0), of_token(n, 1.0);
  const auto value = [&](std::size_t t, std::size_t i) {
    return rows[t * d + i] / (of_channel[i] * of_token[t]);
  };
  for (int pass = 0; pass < iterations_; ++pass) {
    for (std::size_t i = 0; i < d; ++i) {
      double sum = 0;
      for (std::size_t t = 0; t < n; ++t) sum += value(t, i) * value(t, i);
      if (sum > 0) of_channel[i] *= std::sqrt(sum / static_cast<double>(n));
    }
    for (std::size_t t = 0; t < n; ++t) {
      double sum = 0;
      for (std::size_t i = 0; i < d; ++i) sum += value(t, i) * value(t, i);
      if (sum > 0) of_token[t] *= std::sqrt(sum / static_cast<double>(d));
    }
  }
  for (std::size_t i = 0; i < d; ++i) channels[i] = scale_half(of_channel[i]);
  for (std::size_t t = 0; t < n; ++t) {
    const bool silent = std::all_of(rows + t * d, rows + (t + 1) * d, [](float x) { return x == 0; });
    tokens[t] = silent ? 0 : scale_half(of_token[t]);  // a token of zeros comes back as zeros
    for (std::size_t i = 0; i < d && !silent; ++i)
      rows[t * d + i] /= half_to_float(channels[i]) * half_to_float(tokens[t]);
  }
}

void BalancedCode::encode(const float* rows, std::size_t n, std::size_t first,
                          std::uint8_t* stream) const {
  check_whole(first, n);
  detail::check_finite(rows, n, head_dim_);
  std::vector<std::uint16_t> channels(head_dim_), tokens(block_);
  std::vector<float> work;
  over_blocks(first, n, [&](std::size_t block, std::size_t, std::size_t count, std::size_t at) {
    work.assign(rows + at * head_dim_, rows + (at + count) * head_dim_);
    if (transform_) transform_->forward(work.data(), count);
    balance(work.data(), count, channels.data(), tokens.data());
    std::uint8_t* base = stream + block * block_bytes_;
    for (int i = 0; i < head_dim_; ++i) put_half(base + 2 * i, channels[i]);
    for (std::size_t t = 0; t < count; ++t) put_half(base + 2 * (head_dim_ + t), tokens[t]);
    inner_->encode(work.data(), count, 0, base + 2 * (head_dim_ + block_));
  });
}

void BalancedCode::decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                          float* rows) const {
  over_blocks(first, n, [&](std::size_t block, std::size_t inside, std::size_t count, std::size_t at) {
    const std::uint8_t* base = stream + block * block_bytes_;
    float* out = rows + at * head_dim_;
    inner_->decode(base + 2 * (head_dim_ + block_), inside, count, out);
    for (std::size_t t = 0; t < count; ++t) {
      const float scale = half_to_float(get_half(base + 2 * (head_dim_ + inside + t)));
      for (int i = 0; i < head_dim_; ++i)
        out[t * head_dim_ + i] *= half_to_float(get_half(base + 2 * i)) * scale;
    }
  });
  if (transform_) transform_->inverse(rows, n);
}

void BalancedCode::reconstruct(const float* rows, std::size_t n, float* out) const {
  detail::check_finite(rows, n, head_dim_);
  if (out != rows) std::copy_n(rows, n * head_dim_, out);
  if (transform_) transform_->forward(out, n);
  std::vector<std::uint16_t> channels(head_dim_), tokens(block_);
  over_blocks(0, n, [&](std::size_t, std::size_t, std::size_t count, std::size_t at) {
    float* part = out + at * head_dim_;
    balance(part, count, channels.data(), tokens.data());
    inner_->reconstruct(part, count, part);
    for (std::size_t t = 0; t < count; ++t)
      for (int i = 0; i < head_dim_; ++i)
        part[t * head_dim_ + i] *= half_to_float(channels[i]) * half_to_float(tokens[t]);
  });
  if (transform_) transform_->inverse(out, n);
}

}  // namespace vi::quant
