#include "core/codec/fit.h"

#include "core/common/error.h"
#include "core/quant/compose/rope_code.h"

namespace vi::codec {

bool fit_groups(CodecSpec& spec, int head_dim) {
  bool changed = false;
  for (SideSpec* side : {&spec.key, &spec.value}) {
    CodeSpec& code = side->code;
    if (code.kind != CodeKind::integer || code.axis != Axis::token || code.group <= head_dim || code.group % head_dim != 0) continue;
    code.group = head_dim;
    changed = true;
  }
  return changed;
}

std::vector<float> fisher_weights(std::span<const float> gradients, int dsub) {
  const auto size = static_cast<std::size_t>(dsub);
  std::vector<float> weights(gradients.size() / size, 0.0f);
  for (std::size_t i = 0; i < gradients.size(); ++i) weights[i / size] += gradients[i] * gradients[i];
  return weights;
}

std::shared_ptr<const Codec> fit(const CodecSpec& spec, const FitSamples& samples, const TrainSettings& settings,
                                 const FitSources& sources) {
  const int d = samples.head_dim;
  const auto n = static_cast<std::size_t>(samples.n_tokens);
  TransformSet transforms{samples.n_layers, samples.n_kv_heads, d, {}, {}};
  CodebookSet books;
  SilentProgress silent;
  for (const Side side : {Side::key, Side::value}) {
    const bool key = side == Side::key;
    const SideSpec& rules = key ? spec.key : spec.value;
    auto rows = key ? samples.key : samples.value;
    VI_CHECK(std::ssize(rows) == samples.n_layers * samples.n_kv_heads, "samples of {} heads, expected {}", rows.size(),
             samples.n_layers * samples.n_kv_heads);
    std::vector<transform::HeadTransform>& list = key ? transforms.key : transforms.value;
    if (rules.tap == Tap::pre_rope) {
      if (std::ssize(samples.rope) * 2 != d) fail<ConfigError>("tap pre_rope needs the rotation of the keys (rope_theta)");
      transforms.rope = samples.rope;
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const int layer = static_cast<int>(i) / samples.n_kv_heads, head = static_cast<int>(i) % samples.n_kv_heads;
      if (rules.tap == Tap::pre_rope) quant::rotate_rows(samples.rope, rows[i].data(), n, 0, true);
      if (rules.transforms.empty()) continue;
      list.push_back(transform::calibrate(rules.transforms, rows[i].data(), n, d,
                                          fmt::format("layer {} head {} {}", layer, head, key ? "key" : "value"),
                                          [&](transform::Moment moment) {
                                            VI_CHECK(sources.moment, "no source of second moments");
                                            return sources.moment(side, layer, head, moment);
                                          }));
      list.back().forward(rows[i].data(), n);
    }
    const TrainShape shape{samples.n_layers, samples.n_kv_heads, d, samples.n_tokens};
    const auto at = [&](int layer, int head) { return static_cast<std::size_t>(layer) * static_cast<std::size_t>(samples.n_kv_heads) + static_cast<std::size_t>(head); };
    const RowSource source = [&](int layer, int head, std::vector<float>& out) { out = rows[at(layer, head)]; };
    const WeightSource weights = [&](int layer, int head, std::vector<float>& out) {
      VI_CHECK(sources.weights, "no source of weights");
      out = sources.weights(side, layer, head, rules);
    };
    std::vector<BookPart> parts;
    for (int part = 0; part < train_parts(rules.code, shape); ++part)
      parts.push_back(train_part(rules.code, side, shape, settings, source, part, silent,
                                 rules.code.weights == Weights::uniform ? WeightSource{} : weights));
    (key ? books.key : books.value) = join_parts(parts);
  }
  return std::make_shared<Codec>(spec, samples.n_layers, samples.n_kv_heads, d, std::move(transforms), std::move(books));
}

}  // namespace vi::codec
