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
  if (kind == TransformKind::metric && (subspace < 1 || subspace > 256))
    config_fail(mark, "metric: subspace must be 1..256, not {}", subspace);
}

}  // namespace vi::transform
