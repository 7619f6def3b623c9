// A method fitted to synthetic samples with outlier channels, a mean and RoPE, as the pipeline's stages
// would: for tests of what every preset must keep.
#pragma once

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "core/codec/codec.h"
#include "core/codec/method.h"
#include "core/codec/train.h"
#include "core/common/rng.h"
#include "core/quant/compose/rope_code.h"
#include "core/transform/calibrate.h"

namespace vi::testing {

struct FitShape {
  int layers = 5, heads = 2, head_dim = 128;
  std::size_t tokens = 320;
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

struct Fitted {
  FitShape shape;
  std::vector<std::vector<float>> key, value;  // [layers * heads] samples
  codec::CodebookSet books;
  std::shared_ptr<const codec::Codec> codec;
};

inline Fitted fit_method(const codec::MethodSpec& method, const FitShape& shape, std::uint64_t seed = 1) {
  Fitted fitted;
  fitted.shape = shape;
  const int d = shape.head_dim;
  codec::TransformSet transforms{shape.layers, shape.heads, d, {}, {}};
  SilentProgress silent;
  for (const bool key : {true, false}) {
    const codec::SideSpec& spec = key ? method.codec.key : method.codec.value;
    auto& samples = key ? fitted.key : fitted.value;
    auto& list = key ? transforms.key : transforms.value;
    const bool turned = spec.tap == codec::Tap::pre_rope;
    if (turned) transforms.rope = rope_of(d);
    std::vector<std::vector<float>> tapped;
    for (int i = 0; i < shape.layers * shape.heads; ++i) {
      samples.push_back(sample_rows(shape, seed * 1000 + 2 * i + (key ? 0 : 1), key));
      tapped.push_back(samples.back());
      if (turned) quant::rotate_rows(rope_of(d), tapped.back().data(), shape.tokens, 0, true);
      if (!spec.transforms.empty())
        list.push_back(transform::calibrate(spec.transforms, tapped.back().data(), shape.tokens, d));
    }
    const codec::TrainShape train{shape.layers, shape.heads, d, static_cast<std::int64_t>(shape.tokens)};
    const codec::RowSource source = [&](int layer, int head, std::vector<float>& rows) {
      const std::size_t i = static_cast<std::size_t>(layer) * shape.heads + head;
      rows = tapped[i];
      if (!list.empty()) list[i].forward(rows.data(), shape.tokens);
    };
    std::vector<codec::BookPart> parts;
    for (int part = 0; part < codec::train_parts(spec.code, train); ++part)
      parts.push_back(codec::train_part(spec.code, key ? codec::Side::key : codec::Side::value, train,
                                        {2, 512, 1}, source, part, silent));
    (key ? fitted.books.key : fitted.books.value) = codec::join_parts(parts);
  }
  fitted.codec = std::make_shared<codec::Codec>(method.codec, shape.layers, shape.heads, d,
                                                std::move(transforms), fitted.books);
  return fitted;
}

}  // namespace vi::testing
