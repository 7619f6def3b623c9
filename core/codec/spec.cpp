#include "core/codec/spec.h"

#include <charconv>
#include <numeric>

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
  const bool power = (head_dim & (head_dim - 1)) == 0;
  for (const TransformSpec& step : side.transforms) {
    if (step.kind == TransformKind::hadamard && !power)
      config_fail(mark, "{}: hadamard needs a head_dim that is a power of two; the model's is {}",
                  name, head_dim);
    if (step.kind == TransformKind::metric && head_dim % step.subspace != 0)
      config_fail(mark, "{}: metric's subspace {} does not divide the model's head_dim {}", name,
                  step.subspace, head_dim);
    if (step.kind == TransformKind::metric && step.moment == transform::Moment::pairs && head_dim % 2 != 0)
      config_fail(mark, "{}: moment pairs turns pairs of channels; the model's head_dim is {}", name, head_dim);
    if (step.kind != TransformKind::permute) continue;
    if (step.order == transform::ChannelOrder::bit_reversal && !power)
      config_fail(mark, "{}: bit_reversal needs a head_dim that is a power of two; the model's is {}",
                  name, head_dim);
    if (step.order != transform::ChannelOrder::bit_reversal && head_dim % step.group != 0)
      config_fail(mark, "{}: permute's group {} does not divide the model's head_dim {}", name,
                  step.group, head_dim);
  }
  const CodeSpec& code = side.code;
  if (code.kind == CodeKind::vector && head_dim % code.dsub != 0)
    config_fail(mark, "{}: dsub {} does not divide the model's head_dim {}", name, code.dsub,
                head_dim);
  if (code.kind == CodeKind::sketch || code.sketch > 0) {
    if (head_dim > 256)
      config_fail(mark, "{}: a sketch takes a head_dim of at most 256; the model's is {}", name, head_dim);
    if (code.kind == CodeKind::sketch && code.outlier_channels >= head_dim)
      config_fail(mark, "{}: {} outlier_channels at the model's head_dim {}", name,
                  code.outlier_channels, head_dim);
  }
  if (side.tap == Tap::pre_rope && head_dim % 2 != 0)
    config_fail(mark, "{}: pre_rope turns pairs of channels; the model's head_dim is {}", name, head_dim);
  if (code.kind != CodeKind::integer || code.axis != Axis::token) return;
  if (code.group > 0 && head_dim % code.group != 0)
    config_fail(mark, "{}: group {} does not divide the model's head_dim {}", name, code.group,
                head_dim);
  if (head_dim * code.bits % 8 != 0)
    config_fail(mark, "{}: bits {} times head_dim {} is not a whole number of bytes", name,
                code.bits, head_dim);
}

// Choices of one side that clash, whatever the model.
void check_mix(const SideSpec& side, const char* name, const config::Mark& mark) {
  const CodeSpec& code = side.code;
  const auto clash = [&](std::string_view a, std::string_view b) {
    config_fail(mark, "{}: {} clashes with {}", name, a, b);
  };
  const bool coded = code.kind != CodeKind::none;
  bool tokens = false, mixes = false;
  for (const TransformSpec& step : side.transforms) {
    tokens |= per_token(step.kind);
    mixes |= step.kind != TransformKind::center && step.kind != TransformKind::smooth &&
             !per_token(step.kind);
  }
  if (std::string_view(name) == "value" && side.tap == Tap::pre_rope)
    clash("tap pre_rope", "values, which no model rotates");
  for (const TransformSpec& step : side.transforms)
    if (step.kind == TransformKind::metric && side.tap == Tap::pre_rope &&
        (step.moment == transform::Moment::plain || step.moment == transform::Moment::sensitive))
      clash("tap pre_rope", fmt::format("metric's moment {}, which is of queries after RoPE (pairs is the same before it)",
                                        config::to_string(step.moment)));
  if (!coded && (side.tap == Tap::pre_rope || side.outliers > 0 || side.balance.tokens > 0 ||
                 side.pool.tokens > 0 || tokens))
    clash("code none", "a choice that changes how tokens are coded (tap, outliers, balance, pool, token steps)");
  if (!(side.outliers >= 0 && side.outliers < 1))
    config_fail(mark, "{}: outliers must be 0..1, not {}", name, side.outliers);
  if (side.outliers > 0 && mixes)
    clash("outliers", "a step that mixes or moves channels (hadamard, rotation, permute, basis)");
  if (side.outliers > 0 && code.kind == CodeKind::merge) clash("outliers", "code merge");
  if (code.weights == Weights::fisher && mixes)
    clash("weights fisher", "a step that mixes or moves channels (hadamard, rotation, permute, basis)");
  if (side.balance.tokens > 0) {
    if (side.balance.tokens % 16 != 0 || side.balance.tokens > 4096)
      config_fail(mark, "{}: balance takes blocks of 16, 32, ... 4096 tokens, not {}", name, side.balance.tokens);
    if (side.balance.iterations < 1 || side.balance.iterations > 1000)
      config_fail(mark, "{}: balance: iterations must be 1..1000, not {}", name, side.balance.iterations);
    if (code.kind == CodeKind::merge) clash("balance", "code merge");
    if (code.kind == CodeKind::vector && code.points == Points::samples)
      clash("balance", "points samples: codebooks would be trained on rows that were not evened out");
    if (code.kind == CodeKind::integer && code.axis == Axis::channel && side.balance.tokens % code.group != 0)
      clash("balance", "an integer group that does not divide its block");
  }
  if (side.pool.tokens > 0 || side.pool.skip_layers > 0) {
    const PoolSpec& pool = side.pool;
    if (pool.tokens < 0 || pool.tokens >= pool.group || pool.group > 4096 || pool.auxiliary < 0 ||
        pool.auxiliary > 4096 || pool.skip_layers < 0)
      config_fail(mark, "{}: a pool of {} + {} tokens in groups of {}", name, pool.tokens, pool.auxiliary, pool.group);
    if (side.tap == Tap::pre_rope) clash("pool", "tap pre_rope");
    if (code.kind == CodeKind::merge) clash("pool", "code merge");
    if (code.kind == CodeKind::integer && code.axis == Axis::channel && pool.group % code.group != 0)
      clash("pool", "an integer group that does not divide its group");
    if (side.balance.tokens > 0 && pool.group % side.balance.tokens != 0)
      clash("pool", "a balance block that does not divide its group");
  }
  if (code.kind == CodeKind::merge) {
    if (side.tap == Tap::pre_rope) clash("code merge", "tap pre_rope");
    if (!side.transforms.empty()) clash("code merge", "transforms");
  }
  if (code.kind != CodeKind::vector) {
    if (code.stages != 1) clash("stages", "a code that is not vector");
    if (code.sketch > 0) clash("sketch", "a code that is not vector");
    if (code.q_norm) clash("q_norm", "a code that is not vector");
  }
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
    if (stages < 1 || stages > 2) config_fail(mark, "stages must be 1 or 2, not {}", stages);
    if (!(sketch >= 0 && sketch <= 8)) config_fail(mark, "sketch must be 0..8, not {}", sketch);
    if (q_norm && dsub != 1) config_fail(mark, "q_norm clashes with dsub {}: it is of scalar levels", dsub);
    if (inliers && dsub != 1) config_fail(mark, "inliers clashes with dsub {}: it is of scalar levels", dsub);
    if (q_norm && stages > 1) config_fail(mark, "q_norm clashes with stages {}", stages);
    if (points == Points::normal && stages > 1)
      config_fail(mark, "points normal clashes with stages {}: what is left is not normal", stages);
    if (points == Points::normal && (per != BookPer::model || scope != BookScope::shared))
      config_fail(mark, "points normal clashes with per {}, scope {}: there is one universal codebook (model, shared)",
                  config::to_string(per), config::to_string(scope));
    return;
  }
  if (kind == CodeKind::sketch) {
    if (bits < 1 || bits > 16) config_fail(mark, "bits of a sketch must be 1..16, not {}", bits);
    if (outlier_channels < 0 || outlier_channels > 255)
      config_fail(mark, "outlier_channels must be 0..255, not {}", outlier_channels);
    if (group < 1 || group > 4096) config_fail(mark, "group must be 1..4096, not {}", group);
    if (wide_layers < 0) config_fail(mark, "wide_layers must be at least 0, not {}", wide_layers);
    return;
  }
  if (kind == CodeKind::merge) {
    if (group < 2 || group > 1024) config_fail(mark, "merge: group must be 2..1024, not {}", group);
    if (!(keep > 0 && keep < 1) || keep * group < 1 || keep * group > 256)
      config_fail(mark, "merge: keep {} of {} tokens is not 1..256 of them", keep, group);
    return;
  }
  if (bits < 1 || bits > 8) config_fail(mark, "bits of an integer code must be 1..8, not {}", bits);
  if (group < (axis == Axis::token ? 0 : 1) || group > 4096)
    config_fail(mark, "group must be 1..4096 (axis token: 0 for all of the head), not {}", group);
  if (bits == 1 && range == Range::symmetric)
    config_fail(mark, "range symmetric clashes with bits 1: its only level above zero is none");
  if (!(clip > 0 && clip <= 1)) config_fail(mark, "clip must be above 0 and at most 1, not {}", clip);
  if (axis == Axis::channel && group * bits % 8 != 0)
    config_fail(mark, "group {} times bits {} is not a whole number of bytes", group, bits);
}

void WindowSpec::check(const config::Mark& mark) const {
  if (recent < 0 || recent > (1 << 20))
    config_fail(mark, "recent must be 0..1048576, not {}", recent);
  if (sinks < 0 || sinks > (1 << 20)) config_fail(mark, "sinks must be 0..1048576, not {}", sinks);
  if (step < 0 || (step > 0 && step > recent)) config_fail(mark, "step must be 0..{} (recent), not {}", recent, step);
  if (step > 0 && key_flush != Flush::block && value_flush != Flush::block)
    config_fail(mark, "step {} clashes with key_flush and value_flush sliding: it belongs to block", step);
}

int seal_tokens(const SideSpec& side) {
  const CodeSpec& code = side.code;
  int seal = 1;
  if (code.kind == CodeKind::none) return 1;
  if (code.kind == CodeKind::integer && code.axis == Axis::channel) seal = code.group;
  if (code.kind == CodeKind::sketch && code.outlier_channels > 0) seal = code.group;
  if (code.kind == CodeKind::merge) seal = code.group;
  if (side.balance.tokens > 0) seal = std::lcm(seal, side.balance.tokens);
  if (side.pool.tokens > 0) seal = std::lcm(seal, side.pool.group);
  return seal;
}

void CodecSpec::check(const config::Mark& mark) const {
  for (const TransformSpec& step : value.transforms)
    if (step.kind == TransformKind::metric &&
        (step.moment == transform::Moment::sensitive || step.moment == transform::Moment::pairs))
      config_fail(mark, "value: moment {} is of queries and so for keys only; expected plain or identity",
                  config::to_string(step.moment));
  check_mix(key, "key", mark);
  check_mix(value, "value", mark);
  const auto side = [&](const char* name, const SideSpec& spec, Flush flush) {
    const int seal = seal_tokens(spec);
    if (seal == 1 || flush != Flush::block) return;
    if (window.recent == 0 || window.block() % seal != 0)
      config_fail(
          mark,
          "{}: groups of {} tokens need a window whose {} is a multiple of {} (flush block), "
          "not {}",
          name, seal, window.step > 0 ? "step" : "recent", seal, window.block());
  };
  side("key", key, window.key_flush);
  side("value", value, window.value_flush);
  // Values that follow their keys' choice of tokens are coded together with them.
  const auto follows = [&](bool follows_keys, bool keys_too, const char* what) {
    if (!follows_keys && !keys_too) return;
    if (follows_keys != keys_too || seal_tokens(key) != seal_tokens(value) ||
        window.key_flush != window.value_flush)
      config_fail(mark, "value: {} clashes with keys that are not coded alike (same {}, groups and flush)", what, what);
  };
  follows(value.pool.tokens > 0, key.pool.tokens > 0, "pool");
  follows(value.code.kind == CodeKind::merge, key.code.kind == CodeKind::merge, "merge");
  if (exact_layers.first < 0 || exact_layers.last < 0)
    config_fail(mark, "exact_layers must be at least 0, not {} and {}", exact_layers.first, exact_layers.last);
}

void check_against_model(const CodecSpec& spec, int head_dim, const config::Mark& mark) {
  check_side(spec.key, "key", head_dim, mark);
  check_side(spec.value, "value", head_dim, mark);
}

}  // namespace vi::codec
