// The frequencies of each kind of RoPE.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/common/error.h"
#include "core/common/utf8.h"
#include "core/model/model_config.h"

namespace vi::model {

std::string_view rope_scaling_name(RopeScalingKind kind) {
  switch (kind) {
    case RopeScalingKind::none:
      return "none";
    case RopeScalingKind::linear:
      return "linear";
    case RopeScalingKind::llama3:
      return "llama3";
    case RopeScalingKind::dynamic:
      return "dynamic";
    case RopeScalingKind::yarn:
      return "yarn";
  }
  return "?";
}

std::vector<double> rope_frequencies(const RopeConfig& rope, int head_dim, std::int64_t kv_len) {
  const int n = head_dim / 2;
  double base = rope.base;
  const auto length = static_cast<double>(rope.original_max_position);
  if (rope.scaling == RopeScalingKind::dynamic && kv_len > rope.original_max_position)
    base *= std::pow(rope.factor * static_cast<double>(kv_len) / length - (rope.factor - 1.0),
                     head_dim / (head_dim - 2.0));
  std::vector<double> frequencies(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i)
    frequencies[static_cast<std::size_t>(i)] = std::pow(base, -2.0 * i / head_dim);
  if (!rope.freq_divisors.empty()) {
    VI_CHECK(rope.freq_divisors.size() == frequencies.size(), "{} RoPE divisors for head_dim {}",
             rope.freq_divisors.size(), head_dim);
    for (std::size_t i = 0; i < frequencies.size(); ++i)
      frequencies[i] /= static_cast<double>(rope.freq_divisors[i]);
    return frequencies;
  }
  switch (rope.scaling) {
    case RopeScalingKind::none:
    case RopeScalingKind::dynamic:
      break;
    case RopeScalingKind::linear:
      for (double& f : frequencies) f /= rope.factor;
      break;
    case RopeScalingKind::llama3:  // long waves are stretched, short ones kept, a smooth step
                                   // between
      for (double& f : frequencies) {
        const double wavelength = 2.0 * std::numbers::pi / f;
        if (wavelength > length / rope.low_freq_factor) {
          f /= rope.factor;
        } else if (wavelength >= length / rope.high_freq_factor) {
          const double smooth = (length / wavelength - rope.low_freq_factor) /
                                (rope.high_freq_factor - rope.low_freq_factor);
          f = (1.0 - smooth) * f / rope.factor + smooth * f;
        }
      }
      break;
    case RopeScalingKind::yarn: {  // channels of many rotations are kept, of few are stretched
      const auto channel = [&](double rotations) {
        return head_dim * std::log(length / (rotations * 2.0 * std::numbers::pi)) /
               (2.0 * std::log(base));
      };
      const double low = std::max(std::floor(channel(rope.beta_fast)), 0.0);
      double high = std::min(std::ceil(channel(rope.beta_slow)), head_dim - 1.0);
      if (low == high) high += 0.001;
      for (int i = 0; i < n; ++i) {
        const double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
        double& f = frequencies[static_cast<std::size_t>(i)];
        f = f / rope.factor * ramp + f * (1.0 - ramp);
      }
      break;
    }
  }
  return frequencies;
}

}  // namespace vi::model
