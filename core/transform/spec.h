// The transforms of a codec, as settings (VecInfer sections 3.2-3.3). Steps run in the order
// listed; each measures the tensor as the earlier steps left it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/config/options.h"

namespace vi::transform {

enum class TransformKind { center, smooth, hadamard, metric, rotation, permute, token_norm, token_range };
constexpr auto enum_names(TransformKind) {
  using P = std::pair<std::string_view, TransformKind>;
  return std::array{P{"center", TransformKind::center},
                    P{"smooth", TransformKind::smooth},
                    P{"hadamard", TransformKind::hadamard},
                    P{"metric", TransformKind::metric},
                    P{"rotation", TransformKind::rotation},
                    P{"permute", TransformKind::permute},
                    P{"token_norm", TransformKind::token_norm},
                    P{"token_range", TransformKind::token_range}};
}
// Measured on each token as it is coded and kept with its code (core/transform/token_step.h).
constexpr bool per_token(TransformKind kind) {
  return kind == TransformKind::token_norm || kind == TransformKind::token_range;
}

// metric: how axes are turned after M^(1/2). eigen: M's eigenvectors, strongest first, in place of M^(1/2)
// (OSCAR): orthonormal.
enum class Rotation { principal, hadamard, eigen, none };
constexpr auto enum_names(Rotation) {
  using P = std::pair<std::string_view, Rotation>;
  return std::array{P{"principal", Rotation::principal}, P{"hadamard", Rotation::hadamard},
                    P{"eigen", Rotation::eigen}, P{"none", Rotation::none}};
}

// metric: which M. Keys: `plain` = second moment of all queries, `sensitive` = of queries weighted by how
// much the output of each moves with the scores of coded keys. Values: `plain` = W_o^T W_o of the heads
// that read them. pairs: plain's diagonal, alike for the two channels that RoPE turns together, and so the
// same before and after RoPE (TaSQ). identity: M = 1 (principal axes alone).
enum class Moment { plain, sensitive, pairs, identity };
constexpr auto enum_names(Moment) {
  using P = std::pair<std::string_view, Moment>;
  return std::array{P{"plain", Moment::plain}, P{"sensitive", Moment::sensitive},
                    P{"pairs", Moment::pairs}, P{"identity", Moment::identity}};
}

enum class Statistic { absmax, rms, absmean, half_range };
constexpr auto enum_names(Statistic) {
  using P = std::pair<std::string_view, Statistic>;
  return std::array{P{"absmax", Statistic::absmax}, P{"rms", Statistic::rms},
                    P{"absmean", Statistic::absmean}, P{"half_range", Statistic::half_range}};
}

// How `permute` orders channels (core/transform/permute.h).
enum class ChannelOrder { bit_reversal, volume, covariance };
constexpr auto enum_names(ChannelOrder) {
  using P = std::pair<std::string_view, ChannelOrder>;
  return std::array{P{"bit_reversal", ChannelOrder::bit_reversal},
                    P{"volume", ChannelOrder::volume},
                    P{"covariance", ChannelOrder::covariance}};
}

// One step; steps run in the order listed. `smooth` divides channel i by
// max(statistic_i, 1e-4)^exponent (VecInfer Eq. 3-4: absmax, 0.5); `hadamard` multiplies by the
// orthonormal Walsh-Hadamard matrix of size head_dim (Eq. 5-6); `center` subtracts the mean (or, with
// half_range, the middle between the quantiles); `metric` multiplies by the basis of metric.h. `rotation`:
// a random orthonormal matrix (TurboQuant). `permute`: channels in another order, so that sub-vectors get
// other neighbours. Of each token `token_norm` divides by its root mean square, `token_range` maps its
// range to [-1, 1].
struct TransformSpec {
  TransformKind kind = TransformKind::hadamard;
  Statistic statistic = Statistic::absmax;
  double exponent = 0.5;
  Moment moment = Moment::plain;
  Rotation rotation = Rotation::principal;
  int subspace = 4;
  double quantile = 0;
  std::uint64_t seed = 1;
  ChannelOrder order = ChannelOrder::bit_reversal;
  int group = 4;
  bool renormalise = false;
  template <class V>
  void visit(V& v) {
    v("kind", kind, "center | smooth | hadamard | metric | rotation | permute | token_norm | token_range");
    v("statistic", statistic, "smooth: what is measured per channel: absmax | rms | absmean | half_range; center: half_range "
      "subtracts the middle of the range instead of the mean");
    v("exponent", exponent, "smooth: the statistic's exponent");
    v("moment", moment, "metric: plain | sensitive | pairs | identity");
    v("rotation", rotation, "metric: principal | hadamard | eigen | none");
    v("subspace", subspace, "metric: dimensions of the sub-spaces that axes are dealt to");
    v("quantile", quantile, "half_range, token_range: fraction of the values left outside the range");
    v("seed", seed, "rotation: which matrix");
    v("order", order, "permute: bit_reversal | volume | covariance");
    v("group", group, "permute: channels of a group (the code's dsub)");
    v("renormalise", renormalise, "token_norm: give the decoded vector the stored norm exactly");
  }
  static TransformSpec from_scalar(std::string_view word);  // "smooth", "hadamard", ...
  void check(const config::Mark& mark) const;
};

}  // namespace vi::transform
