// The transforms of a codec, as settings (VecInfer sections 3.2-3.3). Steps run in the order
// listed; each measures the tensor as the earlier steps left it.
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "core/config/options.h"

namespace vi::transform {

enum class TransformKind { center, smooth, hadamard };
constexpr auto enum_names(TransformKind) {
  using P = std::pair<std::string_view, TransformKind>;
  return std::array{P{"center", TransformKind::center}, P{"smooth", TransformKind::smooth},
                    P{"hadamard", TransformKind::hadamard}};
}

enum class Statistic { absmax, rms, absmean };
constexpr auto enum_names(Statistic) {
  using P = std::pair<std::string_view, Statistic>;
  return std::array{P{"absmax", Statistic::absmax}, P{"rms", Statistic::rms},
                    P{"absmean", Statistic::absmean}};
}

// One step; steps run in the order listed. `smooth` divides channel i by
// max(statistic_i, 1e-4)^exponent (VecInfer Eq. 3-4: absmax, 0.5); `hadamard` multiplies by the
// orthonormal Walsh-Hadamard matrix of size head_dim (Eq. 5-6); `center` subtracts the mean.
struct TransformSpec {
  TransformKind kind = TransformKind::hadamard;
  Statistic statistic = Statistic::absmax;
  double exponent = 0.5;
  template <class V>
  void visit(V& v) {
    v("kind", kind, "center | smooth | hadamard");
    v("statistic", statistic, "smooth: what is measured per channel: absmax | rms | absmean");
    v("exponent", exponent, "smooth: the statistic's exponent");
  }
  static TransformSpec from_scalar(std::string_view word);  // "smooth", "hadamard", "center"
  void check(const config::Mark& mark) const;
};

}  // namespace vi::transform
