#include "core/transform/spec.h"

namespace vi::transform {

TransformSpec TransformSpec::from_scalar(std::string_view word) {
  TransformSpec spec;
  std::string list;
  for (const auto& [name, kind] : enum_names(spec.kind)) {
    if (name == word) {
      spec.kind = kind;
      return spec;
    }
    list += (list.empty() ? "" : ", ") + std::string(name);
  }
  fail("expected one of {}, not '{}'", list, word);
}

void TransformSpec::check(const config::Mark& mark) const {
  if (kind == TransformKind::smooth && !(exponent > 0.0 && exponent <= 1.0))
    config_fail(mark, "smooth: exponent must be above 0 and at most 1, not {}", exponent);
  if (!(quantile >= 0.0 && quantile <= 0.5))
    config_fail(mark, "quantile must be 0..0.5, not {}", quantile);
  if (quantile > 0 && kind != TransformKind::token_range && statistic != Statistic::half_range)
    config_fail(mark, "quantile clashes with a step that measures no range: statistic is not half_range");
  if (renormalise && kind != TransformKind::token_norm)
    config_fail(mark, "renormalise clashes with a step that is not token_norm");
  if (kind == TransformKind::permute && (group < 1 || group > 256))
    config_fail(mark, "permute: group must be 1..256, not {}", group);
  if (kind == TransformKind::metric && (subspace < 1 || subspace > 256))
    config_fail(mark, "metric: subspace must be 1..256, not {}", subspace);
}

}  // namespace vi::transform
