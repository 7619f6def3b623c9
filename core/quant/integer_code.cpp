#include "core/quant/integer_code.h"

#include <algorithm>
#include <cstring>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/quant/finite.h"

namespace vi::quant {
namespace {

struct Group {
  std::uint16_t scale_bits, min_bits;
  float scale, min;
};

float saturate(float value) { return std::clamp(value, -65504.0f, 65504.0f); }

// x[i * stride], i < n.
Group measure(const float* x, std::size_t stride, int n, int bits) {
  float low = x[0], high = x[0];
  for (int i = 1; i < n; ++i) {
    low = std::min(low, x[i * stride]);
    high = std::max(high, x[i * stride]);
  }
  Group group;
  group.scale_bits = float_to_half(saturate((high - low) / static_cast<float>((1 << bits) - 1)));
  group.min_bits = float_to_half(saturate(low));
  group.scale = half_to_float(group.scale_bits);
  group.min = half_to_float(group.min_bits);
  return group;
}

inline unsigned quantise(const Group& group, float x, float top) {
  if (group.scale == 0.0f) return 0;
  const float q = std::clamp((x - group.min) / group.scale, 0.0f, top);
  return static_cast<unsigned>((q + 8388608.0f) - 8388608.0f);  // 2^23: rounds half to even
}

inline float dequantise(const Group& group, unsigned q) {
  const float product = static_cast<float>(q) * group.scale;  // exact: 8 + 11 bits
  return product + group.min;
}

void put_group(const Group& group, std::uint8_t* out) {
  out[0] = static_cast<std::uint8_t>(group.scale_bits),
  out[1] = static_cast<std::uint8_t>(group.scale_bits >> 8);
  out[2] = static_cast<std::uint8_t>(group.min_bits),
  out[3] = static_cast<std::uint8_t>(group.min_bits >> 8);
}

Group get_group(const std::uint8_t* in) {
  Group group;
  group.scale_bits = static_cast<std::uint16_t>(in[0] | in[1] << 8);
  group.min_bits = static_cast<std::uint16_t>(in[2] | in[3] << 8);
  group.scale = half_to_float(group.scale_bits);
  group.min = half_to_float(group.min_bits);
  return group;
}

inline void put_bits(std::uint8_t* row, std::size_t bit, int bits, unsigned value) {
  detail::write_bits(row + bit / 8, static_cast<int>(bit % 8), bits, value);
}
inline unsigned get_bits(const std::uint8_t* row, std::size_t bit, int bits) {
  return detail::read_bits(row + bit / 8, static_cast<int>(bit % 8), bits);
}

void reconstruct_group(float* x, std::size_t stride, int n, int bits) {
  const Group group = measure(x, stride, n, bits);
  const float top = static_cast<float>((1 << bits) - 1);
  for (int i = 0; i < n; ++i)
    x[i * stride] = dequantise(group, quantise(group, x[i * stride], top));
}

}  // namespace

IntegerCode::IntegerCode(int head_dim, const transform::HeadTransform* transform, GroupAxis axis,
                         int bits, int group)
    : head_dim_(head_dim), transform_(transform), axis_(axis), bits_(bits), group_(group) {
  VI_CHECK(head_dim >= 1 && bits >= 1 && bits <= 8 && group >= 1, "head_dim {}, bits {}, group {}",
           head_dim, bits, group);
  if (axis == GroupAxis::channel) {
    VI_CHECK(group * bits % 8 == 0, "{} tokens of {} bits are not whole bytes", group, bits);
  } else {
    VI_CHECK(head_dim % group == 0, "group {} does not divide head_dim {}", group, head_dim);
    VI_CHECK(head_dim * bits % 8 == 0, "{} channels of {} bits are not whole bytes", head_dim,
             bits);
  }
}

std::size_t IntegerCode::block_bytes() const {
  const std::size_t d = head_dim_;
  return axis_ == GroupAxis::channel ? d * 4 + d * (group_ * bits_ / 8)
                                     : d / group_ * 4 + d * bits_ / 8;
}

std::size_t IntegerCode::stream_bytes(std::size_t n) const {
  const std::size_t seal = seal_tokens();
  return (n + seal - 1) / seal * block_bytes();
}

void IntegerCode::encode(const float* rows, std::size_t n, std::size_t first,
                         std::uint8_t* stream) const {
  const std::size_t d = head_dim_, seal = seal_tokens();
  VI_CHECK(first % seal == 0 && n % seal == 0, "tokens [{}, {}) are not whole groups of {}", first,
           first + n, seal);
  detail::check_finite(rows, n, head_dim_);
  const float top = static_cast<float>((1 << bits_) - 1);
  std::vector<float> work(seal * d);
  for (std::size_t at = 0; at < n; at += seal) {
    std::memcpy(work.data(), rows + at * d, seal * d * sizeof(float));
    if (transform_) transform_->forward(work.data(), seal);
    std::uint8_t* block = stream + (first + at) / seal * block_bytes();
    if (axis_ == GroupAxis::channel) {
      const std::size_t row_bytes = static_cast<std::size_t>(group_) * bits_ / 8;
      for (std::size_t c = 0; c < d; ++c) {
        const Group group = measure(work.data() + c, d, group_, bits_);
        put_group(group, block + c * 4);
        std::uint8_t* row = block + d * 4 + c * row_bytes;
        for (int t = 0; t < group_; ++t)
          put_bits(row, static_cast<std::size_t>(t) * bits_, bits_,
                   quantise(group, work[t * d + c], top));
      }
    } else {
      std::uint8_t* payload = block + d / group_ * 4;
      for (std::size_t start = 0; start < d; start += group_) {
        const Group group = measure(work.data() + start, 1, group_, bits_);
        put_group(group, block + start / group_ * 4);
        for (std::size_t c = start; c < start + group_; ++c)
          put_bits(payload, c * bits_, bits_, quantise(group, work[c], top));
      }
    }
  }
}

void IntegerCode::decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                         float* rows) const {
  const std::size_t d = head_dim_, seal = seal_tokens();
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t token = first + i, t = token % seal;
    const std::uint8_t* block = stream + token / seal * block_bytes();
    float* out = rows + i * d;
    if (axis_ == GroupAxis::channel) {
      const std::size_t row_bytes = static_cast<std::size_t>(group_) * bits_ / 8;
      for (std::size_t c = 0; c < d; ++c)
        out[c] = dequantise(get_group(block + c * 4),
                            get_bits(block + d * 4 + c * row_bytes, t * bits_, bits_));
    } else {
      const std::uint8_t* payload = block + d / group_ * 4;
      for (std::size_t start = 0; start < d; start += group_) {
        const Group group = get_group(block + start / group_ * 4);
        for (std::size_t c = start; c < start + group_; ++c)
          out[c] = dequantise(group, get_bits(payload, c * bits_, bits_));
      }
    }
  }
  if (transform_) transform_->inverse(rows, n);
}

void IntegerCode::reconstruct(const float* rows, std::size_t n, float* out) const {
  const std::size_t d = head_dim_;
  detail::check_finite(rows, n, head_dim_);
  if (out != rows) std::copy_n(rows, n * d, out);
  if (transform_) transform_->forward(out, n);
  if (axis_ == GroupAxis::channel) {
    for (std::size_t at = 0; at < n; at += group_) {
      const int count = static_cast<int>(std::min<std::size_t>(group_, n - at));
      for (std::size_t c = 0; c < d; ++c) reconstruct_group(out + at * d + c, d, count, bits_);
    }
  } else {
    for (std::size_t start = 0; start < n * d; start += group_)
      reconstruct_group(out + start, 1, group_, bits_);
  }
  if (transform_) transform_->inverse(out, n);
}

}  // namespace vi::quant
