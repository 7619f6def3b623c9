// reconstruct: a method fitted to one layer's keys and values, and what a cache gives back of them. For comparing a
// method with another implementation of it, without a model (tests/reference/codecs.py does).
#include <ATen/ATen.h>

#include <cmath>
#include <cstdio>

#include "core/artifact/contracts.h"
#include "core/artifact/foreign.h"
#include "core/codec/fit.h"
#include "core/codec/method.h"
#include "core/codec/window.h"
#include "core/common/interrupt.h"
#include "core/model/load.h"
#include "core/quant/compose/rope_code.h"
#include "eval/calibration/attention_statistics.h"
#include "pipeline/commands.h"
#include "pipeline/paths.h"

namespace vi::pipeline {
namespace fs = std::filesystem;
namespace {

using artifact::DType;
using artifact::H5File;
using codec::Side;

struct Tensors {
  codec::FitSamples samples;
  std::vector<std::vector<float>> key_gradient, value_gradient;  // empty: not given
  at::Tensor query, key, value;                                  // query undefined: not given
  at::Tensor output_metric;                                      // f32 [n_kv_heads, d, d]
};

std::vector<std::vector<float>> heads_of(const H5File& file, const std::string& name) {
  if (!file.exists(name)) return {};
  const artifact::Shape shape = file.info(name).shape;
  std::vector<std::vector<float>> heads(static_cast<std::size_t>(shape[0]), std::vector<float>(static_cast<std::size_t>(shape[1] * shape[2])));
  for (std::int64_t h = 0; h < shape[0]; ++h)
    file.read_slab<float>(name, {{h, 0, 0}, {1, shape[1], shape[2]}}, heads[static_cast<std::size_t>(h)]);
  return heads;
}

at::Tensor tensor_of(const H5File& file, const std::string& name) {
  if (!file.exists(name)) return {};
  std::vector<float> data = file.read<float>(name);
  return at::from_blob(data.data(), file.info(name).shape, at::kFloat).clone();
}

Tensors read_tensors(const std::string& path) {
  const H5File file = artifact::open_foreign(path, artifact::FileKind::kv_tensors, {.command = {"/proc/self/exe", "__import"}});
  const artifact::Shape shape = file.info("/key").shape;
  Tensors t;
  t.samples = {1, static_cast<int>(shape[0]), static_cast<int>(shape[2]), shape[1], heads_of(file, "/key"), heads_of(file, "/value"), {}};
  if (file.has_attr("/", "rope_theta")) {
    const double theta = file.attr_real("/", "rope_theta");
    if (theta <= 1) fail<ContractError>("{}: /@rope_theta: expected a base above 1, found {}", path, theta);
    model::RopeConfig rope;
    rope.base = theta;
    t.samples.rope = model::rope_frequencies(rope, t.samples.head_dim);
  }
  t.key_gradient = heads_of(file, "/key_gradient");
  t.value_gradient = heads_of(file, "/value_gradient");
  t.query = tensor_of(file, "/query");
  t.key = tensor_of(file, "/key");
  t.value = tensor_of(file, "/value");
  t.output_metric = tensor_of(file, "/output_metric");
  if (!t.output_metric.defined()) t.output_metric = at::eye(shape[2], at::kFloat).repeat({shape[0], 1, 1});
  return t;
}

// Second moments and weights as the stages statistics and gradients would give them for this layer.
class Sources {
 public:
  Sources(const Tensors& tensors, const codec::WindowSpec& window, const std::string& path) : tensors_(tensors), window_(window), path_(path) {}

  codec::FitSources all() {
    codec::FitSources sources;
    sources.moment = [this](Side side, int, int head, transform::Moment moment) {
      if (side == Side::value) return row<double>(tensors_.output_metric, head);
      const eval::AttentionStatistics& seen = statistics();
      return row<double>(moment == transform::Moment::sensitive ? seen.sensitive_moment : seen.query_moment, head);
    };
    sources.weights = [this](Side side, int, int head, const codec::SideSpec& rules) {
      std::vector<float> out = rules.code.weights == codec::Weights::fisher      ? fisher(side, head, rules)
                               : rules.code.weights == codec::Weights::attention ? row<float>(statistics().attention, head)
                                                                                 : row<float>(statistics().sensitivity, head);
      codec::temper(out);
      return out;
    };
    return sources;
  }

 private:
  template <class T>
  static std::vector<T> row(const at::Tensor& x, int head) {
    const at::Tensor one = x.select(0, head).to(c10::CppTypeToScalarType<T>::value).contiguous();
    return {one.const_data_ptr<T>(), one.const_data_ptr<T>() + one.numel()};
  }

  const eval::AttentionStatistics& statistics() {
    if (!tensors_.query.defined()) fail<ContractError>("{}: /query: missing, expected the queries of the same tokens for this method", path_);
    if (statistics_.query_moment.defined()) return statistics_;
    return statistics_ = eval::attention_statistics(tensors_.query, tensors_.key, tensors_.value, tensors_.output_metric, window_.sinks, window_.recent);
  }

  std::vector<float> fisher(Side side, int head, const codec::SideSpec& rules) const {
    const auto& gradients = side == Side::key ? tensors_.key_gradient : tensors_.value_gradient;
    if (gradients.empty())
      fail<ContractError>("{}: /{}_gradient: missing, expected the gradient of the log-loss for this method", path_, side == Side::key ? "key" : "value");
    std::vector<float> g = gradients[static_cast<std::size_t>(head)];
    const auto d = static_cast<std::size_t>(tensors_.samples.head_dim);
    if (rules.tap == codec::Tap::pre_rope) quant::rotate_rows(tensors_.samples.rope, g.data(), g.size() / d, 0, true);
    return codec::fisher_weights(g, rules.code.dsub);
  }

  const Tensors& tensors_;
  codec::WindowSpec window_;
  const std::string& path_;
  eval::AttentionStatistics statistics_;
};

struct Settings {
  codec::MethodSpec method;
  codec::TrainSettings codebook;
  config::Mark mark;
};

Settings read_settings(const std::string& name, const std::vector<std::string>& sets) {
  const config::Mark mark{std::make_shared<const std::string>("reconstruct"), 1, 1};
  config::Node root = config::load_yaml(resolve_named(name, "methods", mark), {project_root() / "experiments"});
  for (const std::string& set : sets) {
    if (!set.starts_with("codec.") && !set.starts_with("codebook."))
      fail<ConfigError>("--set {}: expected codec.KEY=value or codebook.KEY=value", set);
    config::apply_set(root, set);
  }
  Settings settings;
  settings.mark = mark;
  std::erase_if(root.fields, [&](const auto& field) {
    if (field.first != "codebook") return false;
    config::read(field.second, settings.codebook);
    return true;
  });
  config::read(root, settings.method);
  return settings;
}

// Rows as the cache holds them after all tokens, and how many of them are coded.
std::int64_t give_back(const codec::Codec& codec, const codec::FitSamples& samples, Side side, int head, std::vector<float>& rows) {
  const codec::HeadCoder* coder = side == Side::key ? codec.key(0, head) : codec.value(0, head);
  if (!coder) return 0;
  const codec::WindowSpec& window = codec.spec().window;
  const std::int64_t coded = codec::coded_tokens(window, side == Side::key, samples.n_tokens, coder->seal_tokens());
  if (coded == 0) return 0;
  const auto d = static_cast<std::size_t>(samples.head_dim), n = static_cast<std::size_t>(coded), first = static_cast<std::size_t>(window.sinks) * d;
  std::vector<std::uint8_t> stream(coder->stream_bytes(n), 0);
  if (coder->wants_keys())
    coder->encode_with_keys(rows.data() + first, samples.key[static_cast<std::size_t>(head)].data() + first, n, 0, stream.data());
  else
    coder->encode(rows.data() + first, n, 0, stream.data());
  coder->decode(stream.data(), 0, n, rows.data() + first);
  return coded;
}

void write_side(H5File& out, const codec::Codec& codec, const codec::FitSamples& samples, Side side, Json& line) {
  const std::string name = side == Side::key ? "key" : "value";
  const auto& exact = side == Side::key ? samples.key : samples.value;
  const std::int64_t heads = samples.n_kv_heads, n = samples.n_tokens, d = samples.head_dim;
  out.create_dataset("/" + name, DType::f32, {heads, n, d});
  double error = 0, energy = 0;
  std::int64_t coded = 0;
  for (int h = 0; h < samples.n_kv_heads; ++h) {
    check_interrupt();
    const std::vector<float>& x = exact[static_cast<std::size_t>(h)];
    std::vector<float> back = x;
    coded = give_back(codec, samples, side, h, back);
    out.write_slab<float>("/" + name, {{h, 0, 0}, {1, n, d}}, back);
    const auto first = static_cast<std::size_t>(codec.spec().window.sinks * d);
    for (std::size_t i = first; i < first + static_cast<std::size_t>(coded * d); ++i) {
      error += (static_cast<double>(back[i]) - x[i]) * (static_cast<double>(back[i]) - x[i]);
      energy += static_cast<double>(x[i]) * x[i];
    }
  }
  line[name + "_tokens_coded"] = coded;
  line[name + "_relative_error"] = energy > 0 ? std::sqrt(error / energy) : 0.0;
  // What calibration found. The linear map of a head: y = (x - center) matrix, before a token's own steps.
  const codec::CodebookSide& books = side == Side::key ? codec.codebooks().key : codec.codebooks().value;
  if (!books.empty())
    out.write("/" + name + "_centroids", DType::f32, {books.n_groups, books.n_books, books.n_stages, books.ksub, books.dsub}, books.centroids);
  const auto& transforms = side == Side::key ? codec.transforms().key : codec.transforms().value;
  if (transforms.empty()) return;
  out.create_dataset("/" + name + "_matrix", DType::f32, {heads, d, d});
  for (std::size_t h = 0; h < transforms.size(); ++h) {
    out.write_slab<float>("/" + name + "_matrix", {{static_cast<std::int64_t>(h), 0, 0}, {1, d, d}}, std::span<const float>(transforms[h].dense()));
    if (h == 0 && transforms[h].steps.front().kind == transform::Step::Kind::center)
      out.create_dataset("/" + name + "_center", DType::f32, {heads, d});
    if (transforms[h].steps.front().kind == transform::Step::Kind::center)
      out.write_slab<float>("/" + name + "_center", {{static_cast<std::int64_t>(h), 0}, {1, d}}, std::span<const float>(transforms[h].steps.front().vector));
  }
}

}  // namespace

int reconstruct_command(const std::string& method, const std::string& input, const std::string& output, const std::vector<std::string>& sets) {
  Settings settings = read_settings(method, sets);
  const Tensors tensors = read_tensors(input);
  codec::CodecSpec& spec = settings.method.codec;
  spec.exact_layers = {};  // the layer given is one that the method codes
  if (codec::fit_groups(spec, tensors.samples.head_dim))
    std::fprintf(stderr, "%s: groups of channels are the whole head, %d\n", settings.method.name.c_str(), tensors.samples.head_dim);
  check_against_model(spec, tensors.samples.head_dim, settings.mark);
  Sources sources(tensors, spec.window, input);
  const auto codec = codec::fit(spec, tensors.samples, settings.codebook, sources.all());
  const codec::BitCount bits = codec->fullest_bits(tensors.samples.n_tokens);
  Json line{{"method", settings.method.name},          {"tokens", tensors.samples.n_tokens},     {"key_bits", bits.key_payload},
            {"value_bits", bits.value_payload},        {"key_metadata_bits", bits.key_metadata}, {"value_metadata_bits", bits.value_metadata},
            {"window_bits", bits.window},              {"bits_total", bits.total}};
  const fs::path temporary = output + ".partial";
  auto out = H5File::create(temporary);
  for (const auto& [name, value] : line.items())
    if (value.is_number_float()) out.set_attr("/", name, value.get<double>());
  out.set_attr("/", "codec", canonical_json(config::to_json(spec)));
  for (const Side side : {Side::key, Side::value}) write_side(out, *codec, tensors.samples, side, line);
  out.close();
  fs::rename(temporary, output);
  std::printf("%s\n", line.dump().c_str());
  return 0;
}

}  // namespace vi::pipeline
