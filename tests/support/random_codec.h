// A codec with random transforms and codebooks, or with integers that need none, for tests of what
// runs on codecs.
#pragma once

#include <memory>

#include "core/codec/codec.h"
#include "core/common/half.h"
#include "tests/support/fake_coder.h"

namespace vi::testing {

// Vectors (d4b4) on keys and values, keys smoothed and rotated; one codebook a KV head.
inline std::shared_ptr<const codec::Codec> random_vector_codec(int n_layers, int n_kv_heads,
                                                               int head_dim,
                                                               codec::WindowSpec window, int dsub = 4, int bits = 4) {
  codec::CodecSpec spec;
  spec.window = window;
  const int ksub = 1 << bits;
  codec::TransformSet transforms{n_layers, n_kv_heads, head_dim, {}, {}};
  codec::CodebookSet books;
  codec::TransformSpec smooth;
  smooth.kind = codec::TransformKind::smooth;
  spec.key.transforms = {smooth, {}};
  for (codec::SideSpec* side : {&spec.key, &spec.value}) {
    side->code.kind = codec::CodeKind::vector;
    side->code.dsub = dsub;
    side->code.bits = bits;
    codec::CodebookSide& book = side == &spec.key ? books.key : books.value;
    book = {n_layers, n_kv_heads, 1, ksub, dsub, {}};
    book.centroids =
        normals(static_cast<std::size_t>(n_layers * n_kv_heads * ksub * dsub), side == &spec.key ? 1 : 2);
    for (float& c : book.centroids) c = half_to_float(float_to_half(c));
  }
  for (int i = 0; i < n_layers * n_kv_heads; ++i) {
    transform::HeadTransform t;
    t.head_dim = head_dim;
    transform::Step scale, rotate;
    scale.kind = transform::Step::Kind::scale;
    scale.vector = normals(static_cast<std::size_t>(head_dim), 10 + i);
    for (float& x : scale.vector) x = 0.5f + std::abs(x);
    rotate.kind = transform::Step::Kind::hadamard;
    t.steps = {scale, rotate};
    transforms.key.push_back(t);
  }
  return std::make_shared<codec::Codec>(spec, n_layers, n_kv_heads, head_dim, transforms, books);
}

// KIVI-like: keys per channel over 8 tokens, values per token over 8 channels, 2 bits.
inline std::shared_ptr<const codec::Codec> integer_codec(int n_layers, int n_kv_heads, int head_dim,
                                                         codec::WindowSpec window) {
  codec::CodecSpec spec;
  spec.window = window;
  for (codec::SideSpec* side : {&spec.key, &spec.value}) {
    side->code.kind = codec::CodeKind::integer;
    side->code.bits = 2;
    side->code.group = 8;
    side->code.axis = side == &spec.key ? codec::Axis::channel : codec::Axis::token;
  }
  return std::make_shared<codec::Codec>(spec, n_layers, n_kv_heads, head_dim,
                                        codec::TransformSet{n_layers, n_kv_heads, head_dim, {}, {}},
                                        codec::CodebookSet{});
}

}  // namespace vi::testing
