// calibrate: kv_samples.h5 -> transform.h5 (VecInfer section 3.2: smooth scales from calibration samples).
#include <omp.h>

#include <algorithm>
#include <exception>
#include <map>
#include <optional>

#include "core/codec/codec_io.h"
#include "core/transform/calibrate.h"
#include "core/common/interrupt.h"
#include "core/model/load.h"
#include "pipeline/session.h"
#include "pipeline/stages/samples.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

std::vector<double> read_moment(const artifact::H5File& file, const SampleFile& samples, int layer, bool key, int head,
                                transform::Moment moment) {
  const std::int64_t d = samples.head_dim;
  std::vector<float> m(static_cast<std::size_t>(d * d));
  const char* name = !key ? "/output_metric" : moment == transform::Moment::plain ? "/query_moment" : "/sensitive_moment";
  file.read_slab<float>(layer_group(layer) + name, {{head, 0, 0}, {1, d, d}}, m);
  return {m.begin(), m.end()};
}

}  // namespace

std::vector<std::string> run_calibrate(StageContext& context) {
  const SampleFile samples(context.input("kv_samples").open_h5("kv_samples.h5"));
  std::optional<artifact::H5File> statistics;
  if (const auto* input = context.find_input("kv_statistics")) statistics.emplace(input->open_h5("kv_statistics.h5"));
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
  // Files are read one head after another, heads are fitted side by side.
  const int heads = samples.n_layers * samples.n_kv_heads, batch = std::max(1, omp_get_max_threads());
  context.progress.begin(context.session.current_label, heads);
  for (const char* side : {"key", "value"}) {
    std::vector<transform::TransformSpec> specs;
    for (const Json& json : context.fields.at(side)) specs.push_back(transform_spec_from_json(json));
    if (specs.empty()) continue;
    const bool key = side[0] == 'k';
    auto& out = key ? set.key : set.value;
    out.resize(static_cast<std::size_t>(heads));
    for (int first = 0; first < heads; first += batch) {
      check_interrupt();
      const int end = std::min(heads, first + batch);
      std::vector<std::vector<float>> rows;
      std::vector<std::map<transform::Moment, std::vector<double>>> moments;
      for (int i = first; i < end; ++i) {
        const int layer = i / samples.n_kv_heads, head = i % samples.n_kv_heads;
        rows.push_back(samples.rows(layer, side, head, set.rope));
        moments.emplace_back();
        for (const transform::TransformSpec& spec : specs)
          if (spec.kind == transform::TransformKind::metric && spec.moment != transform::Moment::identity) {
            const auto moment = spec.moment == transform::Moment::pairs ? transform::Moment::plain : spec.moment;
            moments.back()[moment] = read_moment(*statistics, samples, layer, key, head, moment);
          }
      }
      std::vector<std::exception_ptr> errors(rows.size());
#pragma omp parallel for schedule(dynamic, 1)
      for (int i = first; i < end; ++i) {
        const auto at = static_cast<std::size_t>(i - first);
        try {
          out[static_cast<std::size_t>(i)] = transform::calibrate(
              specs, rows[at].data(), static_cast<std::size_t>(samples.n_tokens), samples.head_dim,
              fmt::format("layer {} head {} {}", i / samples.n_kv_heads, i % samples.n_kv_heads, side),
              [&](transform::Moment moment) { return moments[at].at(moment); });
        } catch (...) {  // must not leave the parallel region
          errors[at] = std::current_exception();
        }
      }
      for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);
      if (!key || context.fields.at("value").empty()) context.progress.advance(end - first);
    }
  }
  context.progress.end();
  auto file = artifact::H5File::create(context.pending.path("transform.h5"));
  codec::write_transforms(set, file);
  file.close();
  return {"transform.h5"};
}

}  // namespace vi::pipeline
