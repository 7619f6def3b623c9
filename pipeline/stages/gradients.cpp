// gradients: the log-loss's gradient with respect to each key and value of the dump's tokens
// (eval/calibration/kv_gradients.h) -> kv_gradients.h5, a checkpoint a sequence. Only where a method's k-means is weighted by Fisher information.
#include "core/artifact/contracts.h"
#include "core/common/bytes.h"
#include "core/common/interrupt.h"
#include "core/model/load.h"
#include "eval/calibration/kv_gradients.h"
#include "pipeline/session.h"
#include "pipeline/stages/draw.h"
#include "pipeline/stages/samples.h"
#include "pipeline/stages/stages.h"

#include <ATen/ATen.h>

namespace vi::pipeline {

std::vector<std::string> run_gradients(StageContext& context) {
  Session& session = context.session;
  const model::ModelConfig& c = session.model().config;
  const std::vector<Sequence> sequences = draw_sequences(context);
  const TokenSample kept = even_sample(sequences, session.plan().experiment.calibration.tokens);

  std::unique_ptr<model::Decoder> decoder;  // where a sequence is left to do

  auto file = artifact::H5File::create(context.pending.path("kv_gradients.h5"));
  artifact::stamp(file, artifact::FileKind::kv_gradients);
  for (const auto& [name, value] : {std::pair<const char*, std::int64_t>{"n_layers", c.n_layers}, {"n_q_heads", c.n_q_heads},
                                    {"n_kv_heads", c.n_kv_heads}, {"head_dim", c.head_dim}})
    file.set_attr("/", name, value);
  for (int layer = 0; layer < c.n_layers; ++layer)
    for (const char* side : {"/key", "/value"})
      file.create_dataset(layer_group(layer) + side, artifact::DType::f32, {c.n_kv_heads, kept.n, c.head_dim});
  std::vector<std::int32_t> position;
  std::int64_t token_at = 0;
  context.progress.begin(session.current_label, std::ssize(sequences));
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    check_interrupt();
    const std::vector<std::int64_t>& rows = kept.rows[s];
    const std::int64_t n = std::ssize(rows);
    for (const std::int64_t row : rows) position.push_back(static_cast<std::int32_t>(row));
    if (n > 0) {
      // Per layer: of key rows, of value rows.
      const std::string name = fmt::format("sequence_{:04}", s);
      const std::size_t size = static_cast<std::size_t>(c.n_kv_heads * n * c.head_dim);
      std::vector<float> data;
      if (const auto saved = context.pending.load_checkpoint(name)) {
        ByteReader(*saved).take(data);
      } else {
        if (!decoder) decoder = session.plain_decoder();
        const eval::KvGradients gradients = eval::kv_gradients(*decoder, sequences[s].ids);
        const at::Tensor pick = at::tensor(rows, at::kLong).to(decoder->options().device);
        for (int layer = 0; layer < c.n_layers; ++layer)
          for (const auto* side : {&gradients.key, &gradients.value}) {
            const at::Tensor flat = (*side)[static_cast<std::size_t>(layer)].index_select(1, pick).to(at::kCPU).contiguous();
            data.insert(data.end(), flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel());
          }
        ByteWriter bytes;
        bytes.put(data);
        context.pending.save_checkpoint(name, bytes.bytes());
      }
      VI_CHECK(data.size() == 2 * size * static_cast<std::size_t>(c.n_layers), "checkpoint {} has a wrong size", name);
      const float* at = data.data();
      for (int layer = 0; layer < c.n_layers; ++layer)
        for (const char* side : {"/key", "/value"}) {
          file.write_slab<float>(layer_group(layer) + side, {{0, token_at, 0}, {c.n_kv_heads, n, c.head_dim}}, {at, size});
          at += size;
        }
    }
    token_at += n;
    context.progress.advance(1);
  }
  context.progress.end();
  file.write("/position", artifact::DType::i32, {kept.n}, position);
  file.close();
  return {"kv_gradients.h5"};
}

}  // namespace vi::pipeline
