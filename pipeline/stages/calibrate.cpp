// calibrate: kv_samples.h5 -> transform.h5 (VecInfer section 3.2: smooth scales from calibration samples).
#include <optional>

#include "core/codec/codec_io.h"
#include "core/transform/calibrate.h"
#include "core/common/interrupt.h"
#include "core/model/load.h"
#include "pipeline/session.h"
#include "pipeline/stages/samples.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {

std::vector<std::string> run_calibrate(StageContext& context) {
  const SampleFile samples(context.input("kv_samples").open_h5("kv_samples.h5"));
  std::optional<artifact::H5File> statistics;
  if (const auto* input = context.find_input("kv_statistics")) statistics.emplace(input->open_h5("kv_statistics.h5"));
  const auto moment_of = [&](int layer, bool key, int head) {
    return [&statistics, &samples, layer, key, head](transform::Moment moment) {
      const std::int64_t d = samples.head_dim;
      std::vector<float> m(static_cast<std::size_t>(d * d));
      const char* name = !key ? "/output_metric" : moment == transform::Moment::plain ? "/query_moment" : "/sensitive_moment";
      statistics->read_slab<float>(layer_group(layer) + name, {{head, 0, 0}, {1, d, d}}, m);
      return std::vector<double>(m.begin(), m.end());
    };
  };
  codec::TransformSet set;
  set.n_layers = samples.n_layers;
  set.n_kv_heads = samples.n_kv_heads;
  set.head_dim = samples.head_dim;
  if (context.fields.contains("key_tap")) {  // pre_rope
    const model::ModelConfig& config = context.session.model().config;
    if (config.rope.scaling == model::RopeScalingKind::dynamic)
      fail<ConfigError>("tap pre_rope clashes with the model's dynamic RoPE scaling: its angles change with the length");
    set.rope = model::rope_frequencies(config.rope, config.head_dim);
  }
  context.progress.begin(context.session.current_label, samples.n_layers);
  for (int layer = 0; layer < samples.n_layers; ++layer) {
    check_interrupt();
    for (const char* side : {"key", "value"}) {
      std::vector<transform::TransformSpec> specs;
      for (const Json& json : context.fields.at(side)) specs.push_back(transform_spec_from_json(json));
      if (specs.empty()) continue;
      for (int head = 0; head < samples.n_kv_heads; ++head) {
        const std::vector<float> rows = samples.rows(layer, side, head, set.rope);
        auto fitted = transform::calibrate(specs, rows.data(), static_cast<std::size_t>(samples.n_tokens), samples.head_dim,
                                           fmt::format("layer {} head {} {}", layer, head, side),
                                           moment_of(layer, side[0] == 'k', head));
        (side[0] == 'k' ? set.key : set.value).push_back(std::move(fitted));
      }
    }
    context.progress.advance(1);
  }
  context.progress.end();
  auto file = artifact::H5File::create(context.pending.path("transform.h5"));
  codec::write_transforms(set, file);
  file.close();
  return {"transform.h5"};
}

}  // namespace vi::pipeline
