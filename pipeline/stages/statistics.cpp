// statistics: run the model over the dump's tokens once more and measure how much an error of each key and
// value would move the output (eval/calibration/attention_statistics.h) -> kv_statistics.h5, a checkpoint a sequence. Only where a
// method asks for it: a metric step or weighted k-means.
#include "core/artifact/contracts.h"
#include "core/common/bytes.h"
#include "core/common/interrupt.h"
#include "core/decoder/decoder_engine.h"
#include "core/model/load.h"
#include "eval/calibration/attention_statistics.h"
#include "eval/modes/modes.h"
#include "pipeline/session.h"
#include "pipeline/stages/draw.h"
#include "pipeline/stages/samples.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

// Every eighth query is asked: 256 a sequence of 2048, of each query head.
constexpr std::int64_t kStride = 8;

template <class T = float>
std::vector<T> host(const at::Tensor& x) {
  const at::Tensor flat = x.to(at::kCPU, c10::CppTypeToScalarType<T>::value).contiguous();
  const T* data = flat.const_data_ptr<T>();
  return {data, data + flat.numel()};
}

// What one layer of one sequence brings.
struct LayerSums {
  std::vector<float> attention, sensitivity;                  // [n_kv_heads, n] of the kept tokens
  std::vector<double> query_moment, sensitive_moment;         // [n_kv_heads, head_dim, head_dim]
};

std::string bytes_of(const std::vector<LayerSums>& layers, double queries) {
  ByteWriter out;
  out.put(queries);
  for (const LayerSums& sums : layers) {
    out.put(sums.attention);
    out.put(sums.sensitivity);
    out.put(sums.query_moment);
    out.put(sums.sensitive_moment);
  }
  return out.bytes();
}

void from_bytes(const std::string& bytes, std::vector<LayerSums>& layers, double& queries) {
  ByteReader in(bytes);
  in.take(queries);
  for (LayerSums& sums : layers) {
    in.take(sums.attention);
    in.take(sums.sensitivity);
    in.take(sums.query_moment);
    in.take(sums.sensitive_moment);
  }
}

void add(std::vector<double>& to, const std::vector<double>& more) {
  VI_CHECK(to.size() == more.size(), "a moment of {} numbers, expected {}", more.size(), to.size());
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += more[i];
}

std::vector<float> mean(const std::vector<double>& sums, double n) {
  std::vector<float> out;
  for (const double sum : sums) out.push_back(static_cast<float>(sum / n));
  return out;
}

}  // namespace

std::vector<std::string> run_statistics(StageContext& context) {
  Session& session = context.session;
  const model::ModelConfig& c = session.model().config;
  const auto sinks = context.fields.at("sinks").get<std::int64_t>(), recent = context.fields.at("recent").get<std::int64_t>();
  const std::vector<Sequence> sequences = draw_sequences(context);
  const TokenSample kept = even_sample(sequences, session.plan().experiment.calibration.tokens);

  auto file = artifact::H5File::create(context.pending.path("kv_statistics.h5"));
  artifact::stamp(file, artifact::FileKind::kv_statistics);
  for (const auto& [name, value] : {std::pair<const char*, std::int64_t>{"n_layers", c.n_layers}, {"n_q_heads", c.n_q_heads},
                                    {"n_kv_heads", c.n_kv_heads}, {"head_dim", c.head_dim}, {"sinks", sinks}, {"recent", recent}})
    file.set_attr("/", name, value);
  const at::Device device = session.decoder().options().device;
  const artifact::Shape square{c.n_kv_heads, c.head_dim, c.head_dim};
  const auto squares = static_cast<std::size_t>(c.n_kv_heads * c.head_dim * c.head_dim), n_layers = static_cast<std::size_t>(c.n_layers);
  std::vector<at::Tensor> metric;
  std::vector<std::vector<double>> query(n_layers, std::vector<double>(squares)), sensitive = query;
  for (int layer = 0; layer < c.n_layers; ++layer) {
    std::vector<float> w = session.model().weights->read_f32(model::layer_weight(layer, "self_attn.o_proj.weight"));
    const std::int64_t columns = static_cast<std::int64_t>(c.n_q_heads) * c.head_dim;
    const at::Tensor w_o = at::from_blob(w.data(), {std::ssize(w) / columns, columns}, at::kFloat).to(device);
    metric.push_back(eval::output_metric(w_o, c.n_kv_heads, c.head_dim));
    for (const char* name : {"/attention", "/sensitivity"})
      file.create_dataset(layer_group(layer) + name, artifact::DType::f32, {c.n_kv_heads, kept.n});
  }
  double queries = 0;
  std::int64_t token_at = 0;
  context.progress.begin(session.current_label, std::ssize(sequences));
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    check_interrupt();
    const std::vector<std::int64_t>& rows = kept.rows[s];
    const std::int64_t n = std::ssize(rows);
    const std::string name = fmt::format("sequence_{:04}", s);
    std::vector<LayerSums> layers(n_layers);
    double seen_queries = 0;
    if (const auto saved = context.pending.load_checkpoint(name)) {
      from_bytes(*saved, layers, seen_queries);
    } else {
      const at::Tensor pick = at::tensor(rows, at::kLong).to(device);
      eval::DumpAttention hook([&](int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
        const auto l = static_cast<std::size_t>(layer);
        const eval::AttentionStatistics seen = eval::attention_statistics(q, k, v, metric[l], sinks, recent, kStride);
        seen_queries = static_cast<double>(seen.queries);
        layers[l] = {host(seen.attention.index_select(1, pick)), host(seen.sensitivity.index_select(1, pick)), host<double>(seen.query_moment),
                     host<double>(seen.sensitive_moment)};
      });
      session.decoder().forward(sequences[s].ids, 0, hook);
      context.pending.save_checkpoint(name, bytes_of(layers, seen_queries));
    }
    queries += seen_queries;
    for (int layer = 0; layer < c.n_layers; ++layer) {
      const auto l = static_cast<std::size_t>(layer);
      add(query[l], layers[l].query_moment);
      add(sensitive[l], layers[l].sensitive_moment);
      if (n == 0) continue;
      file.write_slab<float>(layer_group(layer) + "/attention", {{0, token_at}, {c.n_kv_heads, n}}, layers[l].attention);
      file.write_slab<float>(layer_group(layer) + "/sensitivity", {{0, token_at}, {c.n_kv_heads, n}}, layers[l].sensitivity);
    }
    token_at += n;
    context.progress.advance(1);
  }
  context.progress.end();
  for (int layer = 0; layer < c.n_layers; ++layer) {
    const auto l = static_cast<std::size_t>(layer);
    // Moments are used up to a factor; means keep them within f32 whatever the text's length.
    file.write(layer_group(layer) + "/query_moment", artifact::DType::f32, square, mean(query[l], queries));
    file.write(layer_group(layer) + "/sensitive_moment", artifact::DType::f32, square, mean(sensitive[l], queries));
    file.write(layer_group(layer) + "/output_metric", artifact::DType::f32, square, host(metric[l]));
  }
  file.close();
  return {"kv_statistics.h5"};
}

}  // namespace vi::pipeline
