// dump: run the model over calibration text with exact attention and keep a sample of post-RoPE
// keys, values and queries in kv_samples.h5. Memory is bounded by one sequence and the drawn token
// ids, whatever the text's length: sequences are drawn by a reservoir while the text streams by.
#include <algorithm>
#include <cstring>

#include "core/artifact/contracts.h"
#include "core/common/half.h"
#include "core/common/interrupt.h"
#include "core/common/rng.h"
#include "core/decoder/decoder.h"
#include "core/model/load.h"
#include "eval/modes/modes.h"
#include "pipeline/session.h"
#include "pipeline/stages/draw.h"
#include "pipeline/stages/samples.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

// Rows `keep` of x [heads, n, dim] as halves [heads, keep.size(), dim].
void append_rows(std::vector<std::uint16_t>& out, const at::Tensor& x,
                 const std::vector<std::int64_t>& keep, int layer) {
  const at::Tensor rows = x.to(at::kCPU, at::kFloat).contiguous();
  const std::int64_t heads = rows.size(0), n = rows.size(1), dim = rows.size(2);
  const float* data = rows.const_data_ptr<float>();
  for (std::int64_t head = 0; head < heads; ++head)
    for (const std::int64_t row : keep)
      for (std::int64_t d = 0; d < dim; ++d) {
        const float value = data[(head * n + row) * dim + d];
        if (!(std::abs(value) <= 65504.0f))
          fail<ContractError>(
              "layer {}: the model made a key, value or query of {}, which does not fit a half",
              layer, value);
        out.push_back(float_to_half(value));
      }
}

}  // namespace

std::vector<std::string> run_dump(StageContext& context) {
  Session& session = context.session;
  const CalibrationSpec& spec = session.plan().experiment.calibration;
  const model::ModelConfig& config = session.model().config;
  const std::vector<Sequence> sequences = draw_sequences(context);
  const TokenSample kept = even_sample(sequences, spec.tokens), probed = even_sample(sequences, spec.probes);

  const auto file_path = context.pending.path("kv_samples.h5");
  auto file = artifact::H5File::create(file_path);
  artifact::stamp(file, artifact::FileKind::kv_samples);
  file.set_attr("/", "model", session.plan().model.name);
  file.set_attr("/", "weights_sha256", session.weights_sha256());
  file.set_attr("/", "tap", "post_rope");
  file.set_attr("/", "n_layers", config.n_layers);
  file.set_attr("/", "n_q_heads", config.n_q_heads);
  file.set_attr("/", "n_kv_heads", config.n_kv_heads);
  file.set_attr("/", "head_dim", config.head_dim);
  file.set_attr("/", "seed", static_cast<std::int64_t>(spec.seed));
  for (int layer = 0; layer < config.n_layers; ++layer) {
    for (const char* side : {"/key", "/value"})
      file.create_dataset(layer_group(layer) + side, artifact::DType::f16,
                          {config.n_kv_heads, kept.n, config.head_dim});
    file.create_dataset(layer_group(layer) + "/query", artifact::DType::f16,
                        {config.n_q_heads, probed.n, config.head_dim});
  }

  std::vector<std::int32_t> position, doc, probe_position, probe_doc;
  std::int64_t token_at = 0, probe_at = 0;
  context.progress.begin(session.current_label, static_cast<std::int64_t>(sequences.size()));
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const Sequence& sequence = sequences[s];
    const std::vector<std::int64_t>&rows = kept.rows[s], &probes = probed.rows[s];
    for (const std::int64_t row : rows) {
      position.push_back(static_cast<std::int32_t>(row));
      doc.push_back(sequence.doc);
    }
    for (const std::int64_t row : probes) {
      probe_position.push_back(static_cast<std::int32_t>(row));
      probe_doc.push_back(sequence.doc);
    }
    const auto n = static_cast<std::int64_t>(rows.size()),
               p = static_cast<std::int64_t>(probes.size());
    // Per layer: key rows, value rows, query rows. One checkpoint a sequence.
    const std::string name = fmt::format("sequence_{:04}", s);
    const std::size_t per_layer = static_cast<std::size_t>(
        (2 * config.n_kv_heads * n + config.n_q_heads * p) * config.head_dim);
    std::vector<std::uint16_t> data;
    if (const auto saved = context.pending.load_checkpoint(name)) {
      VI_CHECK(saved->size() == per_layer * 2 * static_cast<std::size_t>(config.n_layers),
               "checkpoint {} has a wrong size", name);
      data.resize(saved->size() / 2);
      std::memcpy(data.data(), saved->data(), saved->size());
    } else {
      data.reserve(per_layer * static_cast<std::size_t>(config.n_layers));
      eval::DumpAttention hook(
          [&](int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
            append_rows(data, k, rows, layer);
            append_rows(data, v, rows, layer);
            append_rows(data, q, probes, layer);
          });
      session.decoder().forward(sequence.ids, 0, hook);
      context.pending.save_checkpoint(
          name, {reinterpret_cast<const char*>(data.data()), data.size() * 2});
    }
    for (int layer = 0; layer < config.n_layers; ++layer) {
      const std::uint16_t* at = data.data() + static_cast<std::size_t>(layer) * per_layer;
      const auto put = [&](const char* what, std::int64_t heads, std::int64_t from,
                           std::int64_t count) {
        const auto size = static_cast<std::size_t>(heads * count * config.head_dim);
        if (count > 0)
          file.write_slab<std::uint16_t>(layer_group(layer) + what,
                                         {{0, from, 0}, {heads, count, config.head_dim}},
                                         {at, size});
        at += size;
      };
      put("/key", config.n_kv_heads, token_at, n);
      put("/value", config.n_kv_heads, token_at, n);
      put("/query", config.n_q_heads, probe_at, p);
    }
    token_at += n;
    probe_at += p;
    context.progress.advance(1);
  }
  context.progress.end();
  file.write("/position", artifact::DType::i32, {kept.n}, position);
  file.write("/doc", artifact::DType::i32, {kept.n}, doc);
  file.write("/probe_position", artifact::DType::i32, {probed.n}, probe_position);
  file.write("/probe_doc", artifact::DType::i32, {probed.n}, probe_doc);
  file.close();
  return {"kv_samples.h5"};
}

}  // namespace vi::pipeline
