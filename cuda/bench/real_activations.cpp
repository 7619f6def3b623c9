// Queries, keys and values of a real model, coded by a real codec, as one small file that cuda_bench reads
// without HDF5 and without the model: what the kernels' error on real data is measured on.
//   real_activations --model M.gguf --codec EXPORTED.h5 --text FILE --out FILE [--tokens 2048] [--queries 8]
// First line: JSON {model, codec, head_dim, n_q_heads, n_kv_heads, dsub, code_bits, shared, stream, positions,
// layers}. Then for each layer, one after the other: f16 queries [positions, n_q_heads, head_dim] as the
// model makes them and in the key codec's space; f16 keys and values [n_kv_heads, tokens, head_dim]; of
// keys and of values: codes [n_kv_heads, stream], f16 centroids [n_kv_heads, books, ksub, dsub].
#include <cstdio>
#include <fstream>
#include <map>
#include <set>

#include "core/artifact/h5.h"
#include "core/codec/codec_io.h"
#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/half.h"
#include "core/common/json.h"
#include "core/config/node.h"
#include "core/decoder/decoder.h"
#include "core/model/load.h"
#include "eval/modes/device_modes.h"

namespace vi {
namespace {

// Exact attention that keeps the layers asked for.
class Capture final : public model::AttentionHook {
 public:
  explicit Capture(std::set<int> layers) : layers_(std::move(layers)) {}
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t) override {
    if (layers_.contains(layer)) kept[layer] = {q.to(at::kFloat).clone(), k.to(at::kFloat).clone(), v.to(at::kFloat).clone()};
    return eval::causal_attention(q, k, v);
  }
  std::map<int, std::vector<at::Tensor>> kept;

 private:
  std::set<int> layers_;
};

void write_halves(std::ofstream& out, const float* x, std::size_t n) {
  std::vector<std::uint16_t> bits(n);
  for (std::size_t i = 0; i < n; ++i) bits[i] = float_to_half(x[i]);
  out.write(reinterpret_cast<const char*>(bits.data()), static_cast<std::streamsize>(2 * n));
}

int main_of(int argc, char** argv) {
  std::map<std::string, std::string> option = {{"--tokens", "2048"}, {"--queries", "8"}};
  for (int i = 1; i + 1 < argc; i += 2) option[argv[i]] = argv[i + 1];
  for (const char* name : {"--model", "--codec", "--text", "--out"})
    if (!option.contains(name)) fail<ConfigError>("real_activations: {} is missing", name);
  const model::Model model = model::open_model(option["--model"]);
  const model::ModelConfig& c = model.config;
  const auto file = artifact::H5File::open(option["--codec"]);
  codec::CodecSpec spec;
  config::read(config::parse_yaml_text(file.attr_text("/", "codec"), option["--codec"]), spec);
  const codec::Codec codec(spec, c.n_layers, c.n_kv_heads, c.head_dim, codec::read_transforms(file, "/transform"),
                           codec::read_codebooks(file, "/codebook"));
  auto ids = model.tokenizer->encode(read_file(option["--text"]));
  const auto tokens = static_cast<std::size_t>(std::stoll(option["--tokens"]));
  const auto queries = static_cast<std::size_t>(std::stoll(option["--queries"]));
  if (ids.size() < tokens || queries < 1 || queries > tokens)
    fail<ConfigError>("real_activations: {} has {} tokens, --tokens asks for {} and --queries for {}", option["--text"], ids.size(), tokens, queries);
  ids.resize(tokens);
  Capture capture({0, c.n_layers / 2, c.n_layers - 1});
  model::Decoder(c, *model.weights).forward(ids, 0, capture);

  std::vector<std::size_t> positions;  // spread over the second half, the last token among them
  for (std::size_t i = 0; i < queries; ++i) positions.push_back(tokens - 1 - (queries - 1 - i) * (tokens / 2) / queries);
  const codec::HeadCoder* first = codec.key(0, 0);
  const quant::VectorView* view = first ? first->vector_view() : nullptr;
  if (!view) fail<ConfigError>("real_activations: {} is no plain vector codec", option["--codec"]);
  const std::size_t stream = first->stream_bytes(tokens), d = static_cast<std::size_t>(c.head_dim),
                    books = view->shared ? 1 : static_cast<std::size_t>(view->layout.n_books),
                    book = books * (std::size_t{1} << view->layout.code_bits) * static_cast<std::size_t>(view->dsub);
  std::ofstream out(option["--out"], std::ios::binary);
  Json layers = Json::array();
  for (const auto& [layer, tensors] : capture.kept) layers.push_back(layer);
  out << Json{{"model", option["--model"].substr(option["--model"].rfind('/') + 1)}, {"codec", file.attr_text("/", "codec")},
              {"head_dim", c.head_dim}, {"n_q_heads", c.n_q_heads}, {"n_kv_heads", c.n_kv_heads}, {"tokens", tokens},
              {"dsub", view->dsub}, {"code_bits", view->layout.code_bits}, {"shared", view->shared}, {"stream", stream},
              {"positions", positions}, {"layers", layers}}.dump()
      << "\n";
  for (const auto& [layer, tensors] : capture.kept) {
    const at::Tensor q = tensors[0].contiguous();  // [n_q_heads, tokens, head_dim]
    for (const bool mapped : {false, true})
      for (const std::size_t position : positions)
        for (int h = 0; h < c.n_q_heads; ++h) {
          std::vector<float> row(q.const_data_ptr<float>() + (static_cast<std::size_t>(h) * tokens + position) * d,
                                 q.const_data_ptr<float>() + (static_cast<std::size_t>(h) * tokens + position + 1) * d);
          const auto* transform = codec.key(layer, h / (c.n_q_heads / c.n_kv_heads))->vector_view()->transform;
          if (mapped && transform) transform->query(row.data(), 1);
          write_halves(out, row.data(), d);
        }
    for (const int side : {1, 2})
      write_halves(out, tensors[static_cast<std::size_t>(side)].contiguous().const_data_ptr<float>(), static_cast<std::size_t>(c.n_kv_heads) * tokens * d);
    for (const int side : {1, 2}) {
      const at::Tensor rows = tensors[static_cast<std::size_t>(side)].contiguous();
      const auto coder = [&](int h) { return side == 1 ? codec.key(layer, h) : codec.value(layer, h); };
      for (int h = 0; h < c.n_kv_heads; ++h) {
        std::vector<std::uint8_t> codes(stream, 0);
        coder(h)->encode(rows.const_data_ptr<float>() + static_cast<std::size_t>(h) * tokens * d, tokens, 0, codes.data());
        out.write(reinterpret_cast<const char*>(codes.data()), static_cast<std::streamsize>(stream));
      }
      for (int h = 0; h < c.n_kv_heads; ++h) write_halves(out, coder(h)->vector_view()->centroids, book);
    }
  }
  out.flush();
  if (!out) fail("{}: could not be written", option["--out"]);
  std::printf("%s: %zu tokens, %zu queries, %zu layers\n", option["--out"].c_str(), tokens, queries, capture.kept.size());
  return 0;
}

}  // namespace
}  // namespace vi

int main(int argc, char** argv) {
  try {
    return vi::main_of(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "real_activations: %s\n", e.what());
    return 2;
  }
}
