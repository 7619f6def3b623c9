#include "core/quant/integer_code.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/quant/finite.h"

namespace vi::quant {
namespace {

// The halves of a group, and the same as the formulas use them. q runs from 0 in the stream: signed
// codes are stored with `bias` added.
struct Group {
  std::uint16_t bits[2] = {0, 0};
  float scale = 0, second = 0;  // as stored; second: minimum or zero point
  float exact_scale = 0, exact_min = 0;  // before storing, for Rounding::away
};

float saturate(float value) { return std::clamp(value, -65504.0f, 65504.0f); }
float stored(float value, std::uint16_t& bits) {
  bits = float_to_half(saturate(value));
  return half_to_float(bits);
}

// 2^23: rounds half to even; |x| < 2^22.
inline float round_even(float x) { return (x + 12582912.0f) - 12582912.0f; }
inline float round_away(float x) {
  return std::copysign(std::floor(std::fabs(x) + 0.5f), x);
}

inline bool has_second(IntegerRange range) {
  return range == IntegerRange::minimum || range == IntegerRange::zero_point;
}

// x[i * stride], i < n.
Group measure(const float* x, std::size_t stride, int n, const IntegerForm& form) {
  float low = x[0], high = x[0], extreme = x[0];
  for (int i = 1; i < n; ++i) {
    const float v = x[i * stride];
    low = std::min(low, v);
    high = std::max(high, v);
    if (std::fabs(v) > std::fabs(extreme)) extreme = v;
  }
  if (high > low) low *= form.clip, high *= form.clip;  // a constant group comes back as it is
  Group group;
  const float top = static_cast<float>((1 << form.bits) - 1);
  const float half = static_cast<float>(1 << (form.bits - 1));
  switch (form.range) {
    case IntegerRange::minimum:
      group.exact_scale = (high - low) / top;
      group.exact_min = low;
      group.second = stored(low, group.bits[1]);
      break;
    case IntegerRange::zero_point: {
      group.exact_scale = (high - low) / top;
      const float scale = half_to_float(float_to_half(saturate(group.exact_scale)));
      float zero = 0;
      if (scale > 0) {
        zero = saturate(round_even(std::clamp(-low / scale, -65504.0f, 65504.0f)));
      } else {  // constant: one step of its own size away from zero
        group.exact_scale = std::fabs(low);
        zero = low > 0 ? -1.0f : 1.0f;
      }
      group.second = stored(zero, group.bits[1]);
      break;
    }
    case IntegerRange::symmetric:
      group.exact_scale = std::fabs(extreme) * form.clip / (half - 1);
      break;
    case IntegerRange::extreme:
      group.exact_scale = extreme * form.clip / -half;
      break;
  }
  group.scale = stored(group.exact_scale, group.bits[0]);
  return group;
}

inline unsigned quantise(const Group& group, float x, const IntegerForm& form) {
  const float top = static_cast<float>((1 << form.bits) - 1);
  const float bias = static_cast<float>(1 << (form.bits - 1));
  const bool away = form.rounding == Rounding::away;
  if (form.range == IntegerRange::extreme) {
    const float inverse = group.exact_scale != 0 ? 1.0f / group.exact_scale : 0.0f;
    const float q = std::clamp(x * inverse + bias + 0.5f, 0.0f, top);
    return static_cast<unsigned>(q);
  }
  const float scale = away ? group.exact_scale : group.scale;
  if (group.scale == 0.0f || scale == 0.0f)
    return form.range == IntegerRange::symmetric ? static_cast<unsigned>(bias) : 0u;
  if (form.range == IntegerRange::minimum) {
    const float q = (x - (away ? group.exact_min : group.second)) / scale;
    return static_cast<unsigned>(away ? std::clamp(round_away(q), 0.0f, top)
                                      : round_even(std::clamp(q, 0.0f, top)));
  }
  const float limit = 4194304.0f;
  const float ratio = std::clamp(away ? x * (1.0f / scale) : x / scale, -limit, limit);
  const float q = (away ? round_away(ratio) : round_even(ratio)) +
                  (form.range == IntegerRange::symmetric ? bias : group.second);
  return static_cast<unsigned>(std::clamp(q, 0.0f, top));
}

inline float dequantise(const Group& group, unsigned q, const IntegerForm& form) {
  if (form.range == IntegerRange::minimum) {
    const float product = static_cast<float>(q) * group.scale;  // exact: 8 + 11 bits
    return product + group.second;
  }
  const float zero = form.range == IntegerRange::zero_point
                         ? group.second
                         : static_cast<float>(1 << (form.bits - 1));
  return (static_cast<float>(q) - zero) * group.scale;
}

void put_group(const Group& group, int halves, std::uint8_t* out) {
  for (int i = 0; i < halves; ++i) {
    out[2 * i] = static_cast<std::uint8_t>(group.bits[i]);
    out[2 * i + 1] = static_cast<std::uint8_t>(group.bits[i] >> 8);
  }
}

Group get_group(const std::uint8_t* in, int halves) {
  Group group;
  group.scale = half_to_float(static_cast<std::uint16_t>(in[0] | in[1] << 8));
  if (halves > 1) group.second = half_to_float(static_cast<std::uint16_t>(in[2] | in[3] << 8));
  return group;
}

inline void put_bits(std::uint8_t* row, std::size_t bit, int bits, unsigned value) {
  detail::write_bits(row + bit / 8, static_cast<int>(bit % 8), bits, value);
}
inline unsigned get_bits(const std::uint8_t* row, std::size_t bit, int bits) {
  return detail::read_bits(row + bit / 8, static_cast<int>(bit % 8), bits);
}

void reconstruct_group(float* x, std::size_t stride, int n, const IntegerForm& form) {
  const Group group = measure(x, stride, n, form);
  for (int i = 0; i < n; ++i)
    x[i * stride] = dequantise(group, quantise(group, x[i * stride], form), form);
}

}  // namespace

IntegerCode::IntegerCode(int head_dim, const transform::HeadTransform* transform,
                         const IntegerForm& form)
    : head_dim_(head_dim), transform_(transform), form_(form) {
  const int bits = form.bits, group = form.group;
  VI_CHECK(head_dim >= 1 && bits >= 1 && bits <= 8 && group >= 1, "head_dim {}, bits {}, group {}",
           head_dim, bits, group);
  VI_CHECK(form.range != IntegerRange::symmetric || bits >= 2, "symmetric integers of 1 bit");
  VI_CHECK(form.clip > 0 && form.clip <= 1, "clip {}", form.clip);
  if (form.axis == GroupAxis::channel) {
    VI_CHECK(group * bits % 8 == 0, "{} tokens of {} bits are not whole bytes", group, bits);
  } else {
    VI_CHECK(head_dim % group == 0, "group {} does not divide head_dim {}", group, head_dim);
    VI_CHECK(head_dim * bits % 8 == 0, "{} channels of {} bits are not whole bytes", head_dim,
             bits);
  }
}

std::size_t IntegerCode::group_bytes() const { return has_second(form_.range) ? 4 : 2; }

std::size_t IntegerCode::block_bytes() const {
  const std::size_t d = head_dim_, group = form_.group, bits = form_.bits;
  return form_.axis == GroupAxis::channel ? d * group_bytes() + d * (group * bits / 8)
                                          : d / group * group_bytes() + d * bits / 8;
}

std::size_t IntegerCode::stream_bytes(std::size_t n) const {
  const std::size_t seal = seal_tokens();
  return (n + seal - 1) / seal * block_bytes();
}

void IntegerCode::encode(const float* rows, std::size_t n, std::size_t first,
                         std::uint8_t* stream) const {
  const std::size_t d = head_dim_, seal = seal_tokens(), halves = group_bytes();
  const int bits = form_.bits, size = form_.group;
  VI_CHECK(first % seal == 0 && n % seal == 0, "tokens [{}, {}) are not whole groups of {}", first,
           first + n, seal);
  detail::check_finite(rows, n, head_dim_);
  std::vector<float> work(seal * d);
  for (std::size_t at = 0; at < n; at += seal) {
    std::memcpy(work.data(), rows + at * d, seal * d * sizeof(float));
    if (transform_) transform_->forward(work.data(), seal);
    std::uint8_t* block = stream + (first + at) / seal * block_bytes();
    if (form_.axis == GroupAxis::channel) {
      const std::size_t row_bytes = static_cast<std::size_t>(size) * bits / 8;
      for (std::size_t c = 0; c < d; ++c) {
        const Group group = measure(work.data() + c, d, size, form_);
        put_group(group, static_cast<int>(halves / 2), block + c * halves);
        std::uint8_t* row = block + d * halves + c * row_bytes;
        for (int t = 0; t < size; ++t)
          put_bits(row, static_cast<std::size_t>(t) * bits, bits,
                   quantise(group, work[t * d + c], form_));
      }
    } else {
      std::uint8_t* payload = block + d / size * halves;
      for (std::size_t start = 0; start < d; start += size) {
        const Group group = measure(work.data() + start, 1, size, form_);
        put_group(group, static_cast<int>(halves / 2), block + start / size * halves);
        for (std::size_t c = start; c < start + size; ++c)
          put_bits(payload, c * bits, bits, quantise(group, work[c], form_));
      }
    }
  }
}

void IntegerCode::decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                         float* rows) const {
  const std::size_t d = head_dim_, seal = seal_tokens(), bytes = group_bytes();
  const int bits = form_.bits, size = form_.group, halves = static_cast<int>(bytes / 2);
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t token = first + i, t = token % seal;
    const std::uint8_t* block = stream + token / seal * block_bytes();
    float* out = rows + i * d;
    if (form_.axis == GroupAxis::channel) {
      const std::size_t row_bytes = static_cast<std::size_t>(size) * bits / 8;
      for (std::size_t c = 0; c < d; ++c)
        out[c] = dequantise(get_group(block + c * bytes, halves),
                            get_bits(block + d * bytes + c * row_bytes, t * bits, bits), form_);
    } else {
      const std::uint8_t* payload = block + d / size * bytes;
      for (std::size_t start = 0; start < d; start += size) {
        const Group group = get_group(block + start / size * bytes, halves);
        for (std::size_t c = start; c < start + size; ++c)
          out[c] = dequantise(group, get_bits(payload, c * bits, bits), form_);
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
  if (form_.axis == GroupAxis::channel) {
    for (std::size_t at = 0; at < n; at += form_.group) {
      const int count = static_cast<int>(std::min<std::size_t>(form_.group, n - at));
      for (std::size_t c = 0; c < d; ++c) reconstruct_group(out + at * d + c, d, count, form_);
    }
  } else {
    for (std::size_t start = 0; start < n * d; start += form_.group)
      reconstruct_group(out + start, 1, form_.group, form_);
  }
  if (transform_) transform_->inverse(out, n);
}

}  // namespace vi::quant
