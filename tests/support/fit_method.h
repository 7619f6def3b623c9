// A method fitted to synthetic samples with outlier channels, a mean and RoPE, as the pipeline's stages
// would: for tests of what every preset must keep.
#pragma once

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "core/codec/codec.h"
#include "core/codec/fit.h"
#include "core/codec/method.h"
#include "core/common/rng.h"
#include "core/quant/compose/rope_code.h"

namespace vi::testing {

struct FitShape {
  int layers = 5, heads = 2, head_dim = 128;
  std::size_t tokens = 320;
  std::int64_t max_points = 512;
};

inline std::vector<double> rope_of(int head_dim) {
  std::vector<double> f;
  for (int i = 0; i < head_dim / 2; ++i) f.push_back(std::pow(10000.0, -2.0 * i / head_dim));
  return f;
}

// [tokens, head_dim] at positions 0, 1, ...: some channels large, one shifted, a quiet token now and then.
inline std::vector<float> sample_rows(const FitShape& shape, std::uint64_t seed, bool key) {
  Rng rng(seed);
  const int d = shape.head_dim;
  std::vector<float> rows(shape.tokens * d);
  for (std::size_t t = 0; t < shape.tokens; ++t) {
    const double loud = t % 97 == 5 ? 0.05 : 0.5 + rng.uniform();
    for (int i = 0; i < d; ++i)
      rows[t * d + i] = static_cast<float>(loud * (rng.normal() * (i % 29 == 3 ? (key ? 8 : 2) : 1) + (key && i % 17 == 2 ? 3 : 0)));
  }
  if (key) quant::rotate_rows(rope_of(d), rows.data(), shape.tokens, 0, false);
  return rows;
}

// A second moment as queries would have it: some directions matter more.
inline std::vector<double> some_moment(int d) {
  Rng rng(17);
  std::vector<double> m(static_cast<std::size_t>(d) * d, 0.0);
  for (int i = 0; i < d; ++i) m[static_cast<std::size_t>(i) * d + i] = 0.3 + i % 7;
  for (int k = 0; k < 4; ++k) {
    std::vector<double> q(d);
    for (double& x : q) x = rng.normal();
    for (int i = 0; i < d; ++i)
      for (int j = 0; j < d; ++j) m[static_cast<std::size_t>(i) * d + j] += q[i] * q[j];
  }
  return m;
}

struct Fitted {
  FitShape shape;
  std::vector<std::vector<float>> key, value;  // [layers * heads] samples
  std::shared_ptr<const codec::Codec> codec;
};

inline Fitted fit_method(const codec::MethodSpec& method, const FitShape& shape, std::uint64_t seed = 1) {
  Fitted fitted;
  fitted.shape = shape;
  codec::FitSamples samples{shape.layers, shape.heads, shape.head_dim, static_cast<std::int64_t>(shape.tokens), {}, {}, rope_of(shape.head_dim)};
  for (const bool key : {true, false})
    for (int i = 0; i < shape.layers * shape.heads; ++i)
      (key ? samples.key : samples.value).push_back(sample_rows(shape, seed * 1000 + 2 * i + (key ? 0 : 1), key));
  codec::FitSources sources;
  sources.moment = [&](codec::Side, int, int, transform::Moment) { return some_moment(shape.head_dim); };
  sources.weights = [&](codec::Side, int, int, const codec::SideSpec&) {
    std::vector<float> out(shape.tokens);
    for (std::size_t t = 0; t < shape.tokens; ++t) out[t] = t % 5 == 0 ? 4.0f : 0.5f;
    return out;
  };
  fitted.codec = codec::fit(method.codec, samples, {2, shape.max_points, 1}, sources);
  fitted.key = std::move(samples.key);
  fitted.value = std::move(samples.value);
  return fitted;
}

}  // namespace vi::testing
