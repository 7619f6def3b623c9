#include "cuda/bench/real_bench.h"

#include <cmath>
#include <fstream>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/quant/code_layout.h"
#include "cuda/common/buffer.h"
#include "cuda/decode_attention/oracle.h"
#include "cuda/kivi/layout.h"
#include "cuda/kivi/oracle.h"

namespace vi::cuda {
namespace {

using Json = nlohmann::ordered_json;
using Halves = std::vector<std::uint16_t>;

std::vector<float> floats(const std::uint16_t* x, std::size_t n) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = half_to_float(x[i]);
  return out;
}

struct File {
  explicit File(const std::string& path) : path(path), in(path, std::ios::binary) {
    std::string line;
    if (!std::getline(in, line)) fail("{}: expected a file of real_activations", path);
    try {
      head = Json::parse(line);
      d = head.at("head_dim"), n_q = head.at("n_q_heads"), n_kv = head.at("n_kv_heads"),
      tokens = head.at("tokens");
      stream = head.at("stream");
      code = {head.at("dsub"), head.at("code_bits"), head.at("shared")};
      positions = head.at("positions").get<std::vector<int>>();
    } catch (const nlohmann::json::exception& e) {
      fail("{}: first line: {}", path, e.what());
    }
    if (d < 1 || n_kv < 1 || n_q % n_kv || code.dsub < 1 || d % code.dsub || code.code_bits < 1 ||
        code.code_bits > 16 || positions.empty())
      fail("{}: first line: shapes do not fit", path);
    if (tokens < 1 || d > 256 || n_kv > 1024 || n_q > 16 * n_kv ||
        stream != quant::CodeLayout{d / code.dsub, code.code_bits}.stream_bytes(
                      static_cast<std::size_t>(tokens)))
      fail("{}: first line: head_dim to 256, GQA to 16 and the codes of {} tokens were expected",
           path, tokens);
    for (const int p : positions)
      if (p < 0 || p >= tokens) fail("{}: first line: position {} of {} tokens", path, p, tokens);
  }
  template <class T>
  std::vector<T> take(std::size_t n) {
    std::vector<T> x(n);
    in.read(reinterpret_cast<char*>(x.data()), static_cast<std::streamsize>(n * sizeof(T)));
    if (!in) fail("{}: ends early", path);
    return x;
  }
  std::string path;
  std::ifstream in;
  Json head;
  int d = 0, n_q = 0, n_kv = 0, tokens = 0;
  std::size_t stream = 0;
  CodeShape code;
  std::vector<int> positions;
};

// Over all sequences and heads, and the worst single head, relative to the norms of the oracle's.
struct Errors {
  void add(const std::uint16_t* got, const double* want, int n) {
    double o = 0, w = 0;
    for (int i = 0; i < n; ++i) {
      const double g = half_to_float(got[i]);
      o += (g - want[i]) * (g - want[i]);
      w += want[i] * want[i];
    }
    off += o, norm += w;
    if (!(std::sqrt(o / w) <= worst)) worst = std::sqrt(o / w);  // NaN stays
  }
  double off = 0, norm = 0, worst = 0;
};

struct Layer {
  explicit Layer(File& f)
      : f(f), batch(static_cast<int>(f.positions.size())), group(f.n_q / f.n_kv) {
    const std::size_t q_size = static_cast<std::size_t>(batch) * f.n_q * f.d,
                      rows = static_cast<std::size_t>(f.n_kv) * f.tokens * f.d,
                      books = f.code.shared ? 1 : f.d / f.code.dsub,
                      book = f.n_kv * books * (std::size_t{1} << f.code.code_bits) * f.code.dsub;
    q = f.take<std::uint16_t>(q_size), mapped = f.take<std::uint16_t>(q_size);
    key = f.take<std::uint16_t>(rows), value = f.take<std::uint16_t>(rows);
    key_codes = f.take<std::uint8_t>(f.n_kv * f.stream), key_book = f.take<std::uint16_t>(book);
    value_codes = f.take<std::uint8_t>(f.n_kv * f.stream), value_book = f.take<std::uint16_t>(book);
    for (const int p : f.positions) lengths.push_back(p + 1);
    d_len = Buffer<int>(lengths);
    out = Buffer<std::uint16_t>(q_size);
  }

  void coded(bool naive, bool own_mean,
             const std::function<void(const char*, const Errors&)>& report) {
    const Device device = current_device();
    Problem problem;
    problem.batch = batch, problem.n_q_heads = f.n_q, problem.n_kv_heads = f.n_kv,
    problem.head_dim = f.d;
    problem.key = problem.value = f.code, problem.capacity = f.tokens;
    problem.sm = device.sm, problem.n_sms = device.n_sms;
    const KernelConfig config = naive ? select_naive(problem) : select_kernel(problem);
    const int books = f.d / f.code.dsub, ksub = 1 << f.code.code_bits;
    const Buffer<std::uint8_t> codes_k(key_codes), codes_v(value_codes);
    const Buffer<std::uint16_t> d_q(mapped), book_k(key_book), book_v(value_book),
        by_k(key_book.size()), by_v(value_book.size());
    Buffer<float> mean(static_cast<std::size_t>(f.n_kv) * f.d);
    const int stored = f.code.shared ? 1 : books;
    prepare_book(book_k.data(), by_k.data(), mean.data(), f.n_kv, stored, ksub, f.code.dsub, f.d,
                 nullptr);
    prepare_book(book_v.data(), by_v.data(), nullptr, f.n_kv, stored, ksub, f.code.dsub, f.d,
                 nullptr);
    if (own_mean) mean.upload(mean_key());
    Buffer<std::uint8_t> workspace(std::max<std::size_t>(config.workspace_bytes, 16));
    workspace.fill(0);
    DecodeParams p;
    for (CodedSide* side : {&p.key, &p.value}) {
      side->outer_stride = 0;  // every sequence is the start of the same text
      side->head_stride = static_cast<std::int64_t>(f.stream);
      side->dsub = f.code.dsub, side->code_bits = f.code.code_bits, side->shared = f.code.shared;
    }
    p.batch = batch, p.n_q_heads = f.n_q, p.n_kv_heads = f.n_kv, p.head_dim = f.d;
    p.scale = 1.f / std::sqrt(static_cast<float>(f.d));
    DecodeParams host = p;
    host.q = mapped.data(), host.kv_len = lengths.data();
    host.key.codes = key_codes.data(), host.key.centroids = key_book.data();
    host.value.codes = value_codes.data(), host.value.centroids = value_book.data();
    p.q = d_q.data(), p.out = out.data(), p.kv_len = d_len.data(), p.workspace = workspace.data();
    p.key.codes = codes_k.data(), p.key.centroids = book_k.data(), p.key.by_code = by_k.data(),
    p.key.mean = mean.data();
    p.value.codes = codes_v.data(), p.value.centroids = book_v.data(),
    p.value.by_code = by_v.data();
    out.fill(0xff);
    decode_attention(p, config);
    VI_CUDA(cudaDeviceSynchronize());
    const Halves got = out.download();
    Errors errors;
    for (int b = 0; b < batch; ++b) {
      const OracleResult want = oracle_decode(host, b);
      for (int h = 0; h < f.n_q; ++h)
        errors.add(&got[(static_cast<std::size_t>(b) * f.n_q + h) * f.d],
                   &want.out[static_cast<std::size_t>(h) * f.d], f.d);
    }
    report(kernel_name(config.kind), errors);
  }

  // Of each KV head, over all tokens as coded.
  std::vector<float> mean_key() const {
    const quant::CodeLayout layout{f.d / f.code.dsub, f.code.code_bits};
    const std::size_t ksub = std::size_t{1} << f.code.code_bits;
    std::vector<double> sum(static_cast<std::size_t>(f.n_kv) * f.d);
    for (int h = 0; h < f.n_kv; ++h)
      for (int t = 0; t < f.tokens; ++t)
        for (int m = 0; m < layout.n_books; ++m) {
          const std::size_t code = quant::get_code(layout, key_codes.data() + h * f.stream, t, m),
                            book = f.code.shared ? h : h * layout.n_books + m;
          for (int i = 0; i < f.code.dsub; ++i)
            sum[static_cast<std::size_t>(h) * f.d + m * f.code.dsub + i] +=
                half_to_float(key_book[(book * ksub + code) * f.code.dsub + i]);
        }
    std::vector<float> mean(sum.size());
    for (std::size_t i = 0; i < sum.size(); ++i) mean[i] = static_cast<float>(sum[i] / f.tokens);
    return mean;
  }

  Errors dense() {
    Halves keys, values;  // once a sequence
    for (int b = 0; b < batch; ++b) {
      keys.insert(keys.end(), key.begin(), key.end());
      values.insert(values.end(), value.begin(), value.end());
    }
    const Buffer<std::uint16_t> d_q(q), d_k(keys), d_v(values);
    DenseParams p;
    p.batch = batch, p.n_q_heads = f.n_q, p.n_kv_heads = f.n_kv, p.head_dim = f.d,
    p.capacity = f.tokens;
    p.scale = 1.f / std::sqrt(static_cast<float>(f.d));
    p.num_splits = dense_splits(batch, f.n_kv, f.tokens, current_device().n_sms);
    DenseParams host = p;
    host.q = q.data(), host.key = keys.data(), host.value = values.data(),
    host.kv_len = lengths.data();
    p.q = d_q.data(), p.key = d_k.data(), p.value = d_v.data(), p.kv_len = d_len.data(),
    p.out = out.data();
    const Buffer<float> workspace(dense_workspace_bytes(p) / sizeof(float));
    p.workspace = workspace.data();
    out.fill(0xff);
    dense_decode_attention(p);
    VI_CUDA(cudaDeviceSynchronize());
    const Halves got = out.download();
    Errors errors;
    for (int b = 0; b < batch; ++b) {
      const OracleResult want = oracle_dense(host, b);
      for (int h = 0; h < f.n_q; ++h)
        errors.add(&got[(static_cast<std::size_t>(b) * f.n_q + h) * f.d],
                   &want.out[static_cast<std::size_t>(h) * f.d], f.d);
    }
    return errors;
  }

  Errors kivi() {
    const std::size_t head = static_cast<std::size_t>(f.tokens) * f.d;
    std::vector<std::uint32_t> one, all;  // [n_kv_heads, blocks, words], then once a sequence
    for (int h = 0; h < f.n_kv; ++h) {
      const auto records = oracle_kivi_encode(floats(&key[h * head], head).data(),
                                              floats(&value[h * head], head).data(), f.tokens, f.d);
      one.insert(one.end(), records.begin(), records.end());
    }
    for (int b = 0; b < batch; ++b) all.insert(all.end(), one.begin(), one.end());
    const Buffer<std::uint32_t> records(all);
    const Buffer<std::uint16_t> d_q(q);
    KiviParams p;
    p.q = d_q.data(), p.out = out.data(), p.records = records.data(), p.kv_len = d_len.data();
    p.n_blocks = (f.tokens + kivi::kBlock - 1) / kivi::kBlock;
    p.batch = batch, p.n_q_heads = f.n_q, p.n_kv_heads = f.n_kv, p.head_dim = f.d;
    p.scale = 1.f / std::sqrt(static_cast<float>(f.d));
    p.num_splits = kivi_splits(batch, f.n_q, f.n_kv, p.n_blocks, current_device().n_sms);
    Buffer<unsigned char> workspace(kivi_workspace_bytes(p));
    workspace.fill(0);
    p.workspace = workspace.data();
    out.fill(0xff);
    kivi_decode_attention(p);
    VI_CUDA(cudaDeviceSynchronize());
    const Halves got = out.download();
    Errors errors;
    for (int b = 0; b < batch; ++b)
      for (int h = 0; h < f.n_kv; ++h) {
        const std::size_t at = (static_cast<std::size_t>(b) * f.n_q + h * group) * f.d;
        const auto want = oracle_kivi_attention(
            floats(&q[at], static_cast<std::size_t>(group) * f.d).data(), group,
            one.data() + h * (one.size() / f.n_kv), lengths[b], f.d, p.scale);
        for (int i = 0; i < group; ++i)
          errors.add(&got[at + static_cast<std::size_t>(i) * f.d],
                     &want[static_cast<std::size_t>(i) * f.d], f.d);
      }
    return errors;
  }

  File& f;
  int batch, group;
  Halves q, mapped, key, value, key_book, value_book;
  std::vector<std::uint8_t> key_codes, value_codes;
  std::vector<int> lengths;
  Buffer<int> d_len;
  Buffer<std::uint16_t> out;
};

}  // namespace

void real_bench(const std::string& path, const std::function<void(Json)>& each) {
  File f(path);
  for (const Json& index : f.head.at("layers")) {
    Layer layer(f);
    const auto line = [&](const char* kernel, const std::string& code, const Errors& e) {
      each({{"case", "real activations"},
            {"model", f.head.at("model")},
            {"layer", index},
            {"kernel", kernel},
            {"code", code},
            {"head_dim", f.d},
            {"n_q_heads", f.n_q},
            {"n_kv_heads", f.n_kv},
            {"tokens", f.tokens},
            {"queries", layer.batch},
            {"rel_error", std::sqrt(e.off / e.norm)},
            {"worst_head", e.worst}});
    };
    const std::string code = "d" + std::to_string(f.code.dsub) + "b" +
                             std::to_string(f.code.code_bits) + (f.code.shared ? " shared" : "");
    layer.coded(false, false, [&](const char* kernel, const Errors& e) { line(kernel, code, e); });
    layer.coded(false, true, [&](const char* kernel, const Errors& e) {
      line((std::string(kernel) + ", mean of the coded keys").c_str(), code, e);
    });
    layer.coded(true, false, [&](const char* kernel, const Errors& e) { line(kernel, code, e); });
    if (f.d == 64 || f.d == 128) {
      line("dense", "f16", layer.dense());
      line("kivi", "2-bit, groups of 32", layer.kivi());
    }
  }
}

}  // namespace vi::cuda
