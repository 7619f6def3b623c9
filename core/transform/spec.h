// The transforms of a codec, as settings (VecInfer sections 3.2-3.3). Steps run in the order
// listed; each measures the tensor as the earlier steps left it.
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "core/config/options.h"

namespace vi::transform {

enum class TransformKind { center, smooth, hadamard, metric };
constexpr auto enum_names(TransformKind) {
  using P = std::pair<std::string_view, TransformKind>;
  return std::array{P{"center", TransformKind::center}, P{"smooth", TransformKind::smooth},
                    P{"hadamard", TransformKind::hadamard}, P{"metric", TransformKind::metric}};
}

// metric: how axes are turned after M^(1/2).
enum class Rotation { principal, hadamard, none };
constexpr auto enum_names(Rotation) {
  using P = std::pair<std::string_view, Rotation>;
  return std::array{P{"principal", Rotation::principal}, P{"hadamard", Rotation::hadamard},
                    P{"none", Rotation::none}};
}

// metric: which M. Keys: `plain` = second moment of all queries, `sensitive` = of queries weighted by how
// much the output of each moves with the scores of coded keys. Values: `plain` = W_o^T W_o of the heads
// that read them. identity: M = 1 (principal axes alone).
enum class Moment { plain, sensitive, identity };
constexpr auto enum_names(Moment) {
  using P = std::pair<std::string_view, Moment>;
  return std::array{P{"plain", Moment::plain}, P{"sensitive", Moment::sensitive},
                    P{"identity", Moment::identity}};
}

enum class Statistic { absmax, rms, absmean };
constexpr auto enum_names(Statistic) {
  using P = std::pair<std::string_view, Statistic>;
  return std::array{P{"absmax", Statistic::absmax}, P{"rms", Statistic::rms},
                    P{"absmean", Statistic::absmean}};
}

// One step; steps run in the order listed. `smooth` divides channel i by
// max(statistic_i, 1e-4)^exponent (VecInfer Eq. 3-4: absmax, 0.5); `hadamard` multiplies by the
// orthonormal Walsh-Hadamard matrix of size head_dim (Eq. 5-6); `center` subtracts the mean; `metric`
// multiplies by the basis of metric.h.
struct TransformSpec {
  TransformKind kind = TransformKind::hadamard;
  Statistic statistic = Statistic::absmax;
  double exponent = 0.5;
  Moment moment = Moment::plain;
  Rotation rotation = Rotation::principal;
  int subspace = 4;
  template <class V>
  void visit(V& v) {
    v("kind", kind, "center | smooth | hadamard | metric");
    v("statistic", statistic, "smooth: what is measured per channel: absmax | rms | absmean");
    v("exponent", exponent, "smooth: the statistic's exponent");
    v("moment", moment, "metric: plain | sensitive | identity");
    v("rotation", rotation, "metric: principal | hadamard | none");
    v("subspace", subspace, "metric: dimensions of the sub-spaces that axes are dealt to");
  }
  static TransformSpec from_scalar(std::string_view word);  // "smooth", "hadamard", "center", "metric"
  void check(const config::Mark& mark) const;
};

}  // namespace vi::transform
