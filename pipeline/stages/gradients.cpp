// gradients: the log-loss's gradient with respect to each key and value of the dump's tokens
// (eval/kv_gradients.h) -> kv_gradients.h5. Only where a method's k-means is weighted by Fisher information.
#include "core/artifact/contracts.h"
#include "core/common/interrupt.h"
#include "core/model/load.h"
#include "eval/gpu_backend.h"
#include "eval/kv_gradients.h"
#include "pipeline/session.h"
#include "pipeline/stages/draw.h"
#include "pipeline/stages/samples.h"
#include "pipeline/stages/stages.h"

#include <ATen/ATen.h>

namespace vi::pipeline {

std::vector<std::string> run_gradients(StageContext& context) {
  Session& session = context.session;
  const CalibrationSpec& spec = session.plan().experiment.calibration;
  const model::ModelConfig& c = session.model().config;
  const std::vector<Sequence> sequences = draw_sequences(session);
  std::int64_t total = 0;
  for (const Sequence& sequence : sequences) total += std::ssize(sequence.ids);
  const std::vector<std::int64_t> kept = even_sample(total, spec.tokens);
  const auto n_tokens = std::ssize(kept);

  const bool gpu = session.device() == Device::cuda;
  if (gpu) eval::gpu_backend();  // brings the CUDA half of torch
  model::DecoderOptions options;
  options.device = gpu ? at::kCUDA : at::kCPU;
  options.plain = true;
  const model::Decoder decoder(c, *session.model().weights, options);

  auto file = artifact::H5File::create(context.pending.path("kv_gradients.h5"));
  artifact::stamp(file, artifact::FileKind::kv_gradients);
  for (const auto& [name, value] : {std::pair<const char*, std::int64_t>{"n_layers", c.n_layers}, {"n_q_heads", c.n_q_heads},
                                    {"n_kv_heads", c.n_kv_heads}, {"head_dim", c.head_dim}})
    file.set_attr("/", name, value);
  for (int layer = 0; layer < c.n_layers; ++layer)
    for (const char* side : {"/key", "/value"})
      file.create_dataset(layer_group(layer) + side, artifact::DType::f32, {c.n_kv_heads, n_tokens, c.head_dim});
  std::vector<std::int32_t> position;
  std::int64_t first = 0, token_at = 0;
  context.progress.begin(session.current_label, std::ssize(sequences));
  for (const Sequence& sequence : sequences) {
    check_interrupt();
    const std::int64_t length = std::ssize(sequence.ids);
    std::vector<std::int64_t> rows;
    for (const std::int64_t index : kept)
      if (index >= first && index < first + length) rows.push_back(index - first);
    const std::int64_t n = std::ssize(rows);
    for (const std::int64_t row : rows) position.push_back(static_cast<std::int32_t>(row));
    if (n > 0) {
      const eval::KvGradients gradients = eval::kv_gradients(decoder, sequence.ids);
      const at::Tensor pick = at::tensor(rows, at::kLong).to(options.device);
      for (int layer = 0; layer < c.n_layers; ++layer)
        for (const bool key : {true, false}) {
          const at::Tensor& g = (key ? gradients.key : gradients.value)[static_cast<std::size_t>(layer)];
          const at::Tensor flat = g.index_select(1, pick).to(at::kCPU).contiguous();
          file.write_slab<float>(layer_group(layer) + (key ? "/key" : "/value"), {{0, token_at, 0}, {c.n_kv_heads, n, c.head_dim}},
                                 {flat.const_data_ptr<float>(), static_cast<std::size_t>(flat.numel())});
        }
    }
    first += length;
    token_at += n;
    context.progress.advance(1);
  }
  context.progress.end();
  file.write("/position", artifact::DType::i32, {n_tokens}, position);
  file.close();
  return {"kv_gradients.h5"};
}

}  // namespace vi::pipeline
