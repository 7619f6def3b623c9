// transform: kv_samples.h5 + transform.h5 -> kv_transformed.h5, with each channel's largest magnitude before
// and after every step (the paper's Figures 1 and 10).
#include <cmath>

#include "core/artifact/contracts.h"
#include "core/codec/codec_io.h"
#include "core/common/interrupt.h"
#include "pipeline/session.h"
#include "pipeline/stages/samples.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

void add_absmax(const std::vector<float>& rows, int head_dim, float* out) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    float& most = out[i % static_cast<std::size_t>(head_dim)];
    most = std::max(most, std::fabs(rows[i]));
  }
}

}  // namespace

std::vector<std::string> run_transform(StageContext& context) {
  const SampleFile samples(context.input("kv_samples").open_h5("kv_samples.h5"));
  const codec::TransformSet set = codec::read_transforms(context.input("transform").open_h5("transform.h5"));
  auto out = artifact::H5File::create(context.pending.path("kv_transformed.h5"));
  artifact::stamp(out, artifact::FileKind::kv_transformed);
  for (const char* attr : {"n_layers", "n_q_heads", "n_kv_heads", "head_dim"})
    out.set_attr("/", attr, samples.file.attr_int("/", attr));
  const auto heads = static_cast<std::size_t>(samples.n_kv_heads);
  const auto dim = static_cast<std::size_t>(samples.head_dim);
  const artifact::Shape stat_shape{samples.n_layers, samples.n_kv_heads, samples.head_dim};
  context.progress.begin(context.session.current_label, samples.n_layers);
  for (const char* side : {"key", "value"}) {
    const auto& transforms = side[0] == 'k' ? set.key : set.value;
    const std::size_t steps = transforms.empty() ? 0 : transforms.front().steps.size();
    std::vector<std::vector<float>> absmax(steps + 1, std::vector<float>(static_cast<std::size_t>(samples.n_layers) * heads * dim));
    std::vector<std::string> names{"before"};
    for (std::size_t s = 0; s < steps; ++s) names.push_back(fmt::format("after_{}", s + 1));
    for (int layer = 0; layer < samples.n_layers; ++layer) {
      check_interrupt();
      const std::string name = layer_group(layer) + "/" + side;
      out.create_dataset(name, artifact::DType::f16, {samples.n_kv_heads, samples.n_tokens, samples.head_dim});
      for (int head = 0; head < samples.n_kv_heads; ++head) {
        std::vector<float> rows = samples.rows(layer, side, head, set.rope);
        const std::size_t place = (static_cast<std::size_t>(layer) * heads + static_cast<std::size_t>(head)) * dim;
        add_absmax(rows, samples.head_dim, &absmax[0][place]);
        for (std::size_t s = 0; s < steps; ++s) {
          const transform::HeadTransform& whole = transforms[static_cast<std::size_t>(layer) * heads + static_cast<std::size_t>(head)];
          transform::HeadTransform one{whole.head_dim, {whole.steps[s]}};
          one.forward(rows.data(), static_cast<std::size_t>(samples.n_tokens));
          add_absmax(rows, samples.head_dim, &absmax[s + 1][place]);
        }
        for (float value : rows)
          if (!(std::fabs(value) <= 65504.0f))
            fail<ContractError>("layer {} head {} {}: a transformed value ({}) does not fit a half", layer, head, side, value);
        out.write_slab<float>(name, {{head, 0, 0}, {1, samples.n_tokens, samples.head_dim}}, rows);
      }
      if (side[0] == 'v') context.progress.advance(1);
    }
    for (std::size_t s = 0; s <= steps; ++s)
      out.write(fmt::format("/outliers/{}/{}", side, names[s]), artifact::DType::f32, stat_shape, absmax[s]);
  }
  context.progress.end();
  out.close();
  return {"kv_transformed.h5"};
}

}  // namespace vi::pipeline
