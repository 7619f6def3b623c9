// One layer's worth of synthetic cache: views with random codes and rows, of any mix of the two
// sides.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "core/attention/reference.h"
#include "core/attention/vq_decode.h"
#include "tests/support/fake_coder.h"

namespace vi::testing {

struct SideCase {
  int dsub = 0, bits = 0;  // dsub 0: not coded; dsub < 0: FakeGroupCoder of -dsub tokens
  bool shared = false;
  bool affine = false;  // centre + scale + Hadamard
  std::size_t n_coded = 0;
};

struct Case {
  attention::DecodeShape shape;
  std::size_t n_sinks = 0, len = 0;
  SideCase key, value;
  std::uint64_t seed = 1;
  double spread = 1;  // of the queries: large ones make the softmax sharp
};

class Layer {
 public:
  explicit Layer(const Case& c) : c_(c), heads(c.shape.n_kv_heads) {
    q = normals(static_cast<std::size_t>(c.shape.n_q_heads) * c.shape.head_dim, c.seed, c.spread);
    sides_.reserve(2 * heads.size());
    for (std::size_t h = 0; h < heads.size(); ++h) {
      heads[h].n_sinks = c.n_sinks;
      heads[h].len = c.len;
      make(c.key, c.seed + 1000 * h + 10, heads[h].key);
      make(c.value, c.seed + 1000 * h + 20, heads[h].value);
    }
  }
  std::vector<double> reference() const {
    std::vector<double> out(q.size());
    reference_attention(c_.shape, heads.data(), q.data(), out.data());
    return out;
  }
  std::vector<float> naive() const {
    std::vector<float> out(q.size());
    naive_attention(c_.shape, heads.data(), q.data(), out.data());
    return out;
  }
  std::vector<float> fused(Simd level = best_simd()) const {
    std::vector<float> out(q.size(), NAN);
    decode_attention(c_.shape, heads.data(), q.data(), out.data(), level);
    return out;
  }

 private:
  struct Side {
    std::unique_ptr<quant::HeadCoder> coder;
    std::vector<std::uint8_t> stream;
    std::vector<float> sinks, recent;
  };
  void make(const SideCase& side, std::uint64_t seed, attention::SideView& view) {
    const int d = c_.shape.head_dim;
    Side& s = sides_.emplace_back();
    if (side.dsub > 0) {
      auto coder = std::make_unique<FakeVectorCoder>(
          d, side.dsub, side.bits, side.shared, seed,
          side.affine ? affine_transform(d, seed + 1) : transform::HeadTransform{});
      s.stream = coder->random_stream(side.n_coded, seed + 2);
      s.coder = std::move(coder);
    } else if (side.dsub < 0) {
      s.coder = std::make_unique<FakeGroupCoder>(d, -side.dsub);
      s.stream.resize(s.coder->stream_bytes(side.n_coded));
      s.coder->encode(normals(side.n_coded * d, seed + 2).data(), side.n_coded, 0, s.stream.data());
    }
    s.sinks = normals(c_.n_sinks * d, seed + 3);
    s.recent = normals((c_.len - c_.n_sinks - side.n_coded) * d, seed + 4);
    view = {s.coder.get(), s.stream.data(), side.n_coded, s.sinks.data(), s.recent.data()};
  }
  Case c_;
  std::vector<Side> sides_;

 public:
  std::vector<attention::HeadView> heads;
  std::vector<float> q;
};

// Largest error over the outputs, relative to the largest value of the oracle.
template <class T>
double error(const std::vector<T>& out, const std::vector<double>& oracle) {
  double most = 0, scale = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double e = std::abs(out[i] - oracle[i]);
    most = std::isnan(e) ? INFINITY : std::max(most, e);
    scale = std::max(scale, std::abs(oracle[i]));
  }
  return scale > 0 ? most / scale : most;
}

}  // namespace vi::testing
