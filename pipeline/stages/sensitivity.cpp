// sensitivity: how much each layer minds a method's codes (eval/calibration/layer_sensitivity.h), on windows of the calibration
// text -> sensitivity.json, a checkpoint a layer. Only where a method deals layers by it (`layers: [{method, share}]`).
#include "eval/calibration/layer_sensitivity.h"

#include "core/common/bytes.h"
#include "core/common/file.h"
#include "core/common/interrupt.h"
#include "pipeline/session.h"
#include "pipeline/stages/codec_input.h"
#include "pipeline/stages/draw.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

constexpr std::size_t kWindows = 4, kTokens = 1024;  // of the calibration sequences' beginnings

}  // namespace

std::vector<std::string> run_sensitivity(StageContext& context, const Method& method) {
  Session& session = context.session;
  const auto codec = method_codec(context, method).codec;
  std::vector<std::vector<std::int32_t>> windows;
  for (const Sequence& sequence : draw_sequences(context)) {
    if (windows.size() == kWindows) break;
    windows.emplace_back(sequence.ids.begin(), sequence.ids.begin() + static_cast<std::ptrdiff_t>(std::min(kTokens, sequence.ids.size())));
  }
  const int n_layers = codec->n_layers();
  context.progress.begin(session.current_label, n_layers);
  std::unique_ptr<eval::LayerSensitivity> measure;  // where a layer is left to do
  std::vector<double> divergence;
  for (int layer = 0; layer < n_layers; ++layer) {
    check_interrupt();
    const std::string name = fmt::format("layer_{:03}", layer);
    if (const auto saved = context.pending.load_checkpoint(name)) {
      std::vector<double> one;
      ByteReader(*saved).take(one);
      divergence.push_back(one.at(0));
    } else {
      if (!measure) measure = std::make_unique<eval::LayerSensitivity>(session.decoder(), codec, windows);
      divergence.push_back(measure->of(layer));
      ByteWriter bytes;
      bytes.put(divergence.back());
      context.pending.save_checkpoint(name, bytes.bytes());
    }
    context.progress.advance(1);
  }
  context.progress.end();
  write_file_atomic(context.pending.path("sensitivity.json"),
                    Json{{"unit", "nats a token"}, {"windows", windows.size()}, {"divergence", divergence}}.dump(1) + "\n");
  return {"sensitivity.json"};
}

}  // namespace vi::pipeline
