#include "core/codec/spec.h"

#include <charconv>

namespace vi::codec {

namespace {

// The leading whole number of `text`, cut off it; -1 if there is none.
int take_number(std::string_view& text) {
  int value = -1;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || text.front() == '-') return -1;
  text.remove_prefix(end - text.data());
  return value;
}

void check_side(const SideSpec& side, const char* name, int head_dim, const config::Mark& mark) {
  for (const TransformSpec& step : side.transforms)
    if (step.kind == TransformKind::hadamard && (head_dim & (head_dim - 1)) != 0)
      config_fail(mark, "{}: hadamard needs a head_dim that is a power of two; the model's is {}",
                  name, head_dim);
  const CodeSpec& code = side.code;
  for (const TransformSpec& step : side.transforms)
    if (step.kind == TransformKind::metric && head_dim % step.subspace != 0)
      config_fail(mark, "{}: metric's subspace {} does not divide the model's head_dim {}", name, step.subspace, head_dim);
  if (code.kind == CodeKind::vector && head_dim % code.dsub != 0)
    config_fail(mark, "{}: dsub {} does not divide the model's head_dim {}", name, code.dsub,
                head_dim);
  if (code.kind != CodeKind::integer || code.axis != Axis::token) return;
  if (head_dim % code.group != 0)
    config_fail(mark, "{}: group {} does not divide the model's head_dim {}", name, code.group,
                head_dim);
  if (head_dim * code.bits % 8 != 0)
    config_fail(mark, "{}: bits {} times head_dim {} is not a whole number of bytes", name,
                code.bits, head_dim);
}

}  // namespace

CodeSpec CodeSpec::from_scalar(std::string_view word) {
  CodeSpec spec;
  if (word == "none") return spec;
  std::string_view rest = word;
  const auto letter = [&](char c) {
    if (rest.empty() || rest.front() != c) return false;
    rest.remove_prefix(1);
    return !rest.empty();
  };
  spec.kind = CodeKind::vector;
  if (letter('d') && (spec.dsub = take_number(rest)) >= 0 && letter('b') &&
      (spec.bits = take_number(rest)) >= 0 && rest.empty())
    return spec;
  fail("expected a code: none, a map, or dNbB such as d4b8 (N dimensions, B bits), not '{}'", word);
}

void CodeSpec::check(const config::Mark& mark) const {
  if (kind == CodeKind::none) return;
  if (kind == CodeKind::vector) {
    if (dsub < 1 || dsub > 256) config_fail(mark, "dsub must be 1..256, not {}", dsub);
    if (bits < 1 || bits > 16)
      config_fail(mark, "bits of a vector code must be 1..16, not {}", bits);
    return;
  }
  if (bits < 1 || bits > 8) config_fail(mark, "bits of an integer code must be 1..8, not {}", bits);
  if (group < 1 || group > 4096) config_fail(mark, "group must be 1..4096, not {}", group);
  if (axis == Axis::channel && group * bits % 8 != 0)
    config_fail(mark, "group {} times bits {} is not a whole number of bytes", group, bits);
}

void WindowSpec::check(const config::Mark& mark) const {
  if (recent < 0 || recent > (1 << 20))
    config_fail(mark, "recent must be 0..1048576, not {}", recent);
  if (sinks < 0 || sinks > (1 << 20)) config_fail(mark, "sinks must be 0..1048576, not {}", sinks);
}

void CodecSpec::check(const config::Mark& mark) const {
  for (const TransformSpec& step : value.transforms)
    if (step.kind == TransformKind::metric && step.moment == transform::Moment::sensitive)
      config_fail(mark, "value: moment sensitive is of queries and so for keys only; expected plain or identity");
  const auto side = [&](const char* name, const CodeSpec& code, Flush flush) {
    if (code.kind != CodeKind::integer || code.axis != Axis::channel || flush != Flush::block)
      return;
    if (window.recent == 0 || window.recent % code.group != 0)
      config_fail(
          mark,
          "{}: groups of {} tokens need a window whose recent is a multiple of {} (flush block), "
          "not {}",
          name, code.group, code.group, window.recent);
  };
  side("key", key.code, window.key_flush);
  side("value", value.code, window.value_flush);
}

void check_against_model(const CodecSpec& spec, int head_dim, const config::Mark& mark) {
  check_side(spec.key, "key", head_dim, mark);
  check_side(spec.value, "value", head_dim, mark);
}

}  // namespace vi::codec
