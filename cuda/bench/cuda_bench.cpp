// Times the kernels: correctness against the f64 oracle first (one KV head of one sequence), then
// the median of cold runs; GB/s against the copy bandwidth of the same run. One JSON line a case
// and kernel.
//   cuda_bench [--json FILE] [--commit HASH] [--date YYYY-MM-DD] [--set
//   one|quick|grid|shapes|codes|gqa|shared|encode|decode|all] [--repeats N] [--only
//   SUBSTRING of a case] [--kernel lookup|gather|generic]
//   cuda_bench --real FILE [--json FILE ...]: errors on a real model's activations (real_bench.h)
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/rng.h"
#include "core/quant/code_layout.h"
#include "cuda/bench/real_bench.h"
#include "cuda/common/timing.h"
#include "cuda/decode_attention/cases.h"
#include "cuda/decode_attention/oracle.h"
#include "cuda/encode/oracle.h"

namespace vi::cuda {
namespace {

struct Options {
  std::string json, commit = "unknown", date = "unknown", set = "quick", only, kernel, real;
  int repeats = 21;
};

struct Bench {
  Options options;
  Device device = current_device();
  Timer timer;
  double copy = 0;
  std::ofstream file;

  void line(const std::string& name, const CaseSpec& s, const char* kernel, const Timing& t,
            std::int64_t bytes, double error) {
    const double gbps = static_cast<double>(bytes) / t.median_ms / 1e6;
    nlohmann::ordered_json j = {{"case", name},
                                {"kernel", kernel},
                                {"batch", s.kv_len.size()},
                                {"kv_len", s.kv_len[0]},
                                {"n_q_heads", s.n_kv_heads * s.group},
                                {"n_kv_heads", s.n_kv_heads},
                                {"head_dim", s.head_dim},
                                {"ms", t.median_ms},
                                {"ms_p10", t.low_ms},
                                {"ms_p90", t.high_ms},
                                {"repeats", t.repeats},
                                {"bytes", bytes},
                                {"gbps", gbps},
                                {"copy_gbps", copy / 1e9},
                                {"pct_of_copy", 100 * gbps * 1e9 / copy},
                                {"rel_error", error},
                                {"gpu", device.name},
                                {"date", options.date},
                                {"commit", options.commit}};
    if (file.is_open()) file << j.dump() << "\n" << std::flush;
    std::printf("%-34s %-12s %8.4f ms (%.4f..%.4f) %6.0f GB/s %5.1f%% of copy  err %.1e\n",
                name.c_str(), kernel, t.median_ms, t.low_ms, t.high_ms, gbps,
                100 * gbps * 1e9 / copy, error);
    std::fflush(stdout);
  }

  // The coded kernel. Returns its median.
  double coded(const std::string& name, CaseSpec s) {
    if (name.find(options.only) == std::string::npos) return -1;
    s.device_codes = true;
    DecodeCase c(s);
    const Problem problem = c.problem(device);
    const KernelConfig config = options.kernel == "lookup"    ? select_lookup(problem)
                                : options.kernel == "gather"  ? select_gather(problem)
                                : options.kernel == "sliced"  ? select_sliced(problem)
                                : options.kernel == "generic" ? select_generic(problem)
                                                              : select_kernel(problem);
    const DecodeCase::Result r = c.run(config);
    const int b = static_cast<int>(s.kv_len.size()) - 1, h = s.n_kv_heads - 1;
    double error = -1;  // paged cases are checked by the tests
    if (s.page_tokens == 0) {
      std::vector<std::uint8_t> key, value;
      const OracleResult want = oracle_decode(c.host_of_sequence(b, key, value), b, h);
      const std::size_t at = static_cast<std::size_t>(h) * s.group * s.head_dim,
                        n = static_cast<std::size_t>(s.group) * s.head_dim;
      error = relative_error(
          &r.out[static_cast<std::size_t>(b) * s.n_kv_heads * s.group * s.head_dim + at],
          &want.out[at], n);
      if (!(error < 5e-3)) {
        std::printf("%s: WRONG, relative error %g: not timed\n", name.c_str(), error);
        return -1;
      }
    }
    const DecodeParams p = c.device_params(config);
    const Timing t = timer.cold([&] { decode_attention(p, config); }, options.repeats);
    line(name, s, kernel_name(config.kind), t, c.code_bytes(), error);
    return t.median_ms;
  }

  // The dense baseline at the same shape.
  double dense(const std::string& name, const CaseSpec& s) {
    if (name.find(options.only) == std::string::npos) return -1;
    const int batch = static_cast<int>(s.kv_len.size()), n = s.kv_len[0];
    const std::size_t per_head = static_cast<std::size_t>(n) * s.head_dim,
                      total = per_head * s.n_kv_heads * batch;
    Rng rng(7);
    std::vector<std::uint16_t> seed((1u << 21) - 24),
        q(static_cast<std::size_t>(batch) * s.n_kv_heads * s.group * s.head_dim);
    for (auto& v : seed) v = float_to_half(static_cast<float>(rng.normal()));
    for (auto& v : q) v = float_to_half(static_cast<float>(rng.normal()));
    Buffer<std::uint16_t> key(total), value(total), d_q(q), out(q.size());
    spread_on_device(key.data(), key.bytes(), seed.data(), seed.size() * 2);
    spread_on_device(value.data(), value.bytes(), seed.data(), seed.size() * 2);
    Buffer<int> len(s.kv_len);
    DenseParams p;
    p.q = d_q.data();
    p.out = out.data();
    p.key = key.data();
    p.value = value.data();
    p.kv_len = len.data();
    p.batch = batch;
    p.n_q_heads = s.n_kv_heads * s.group;
    p.n_kv_heads = s.n_kv_heads;
    p.head_dim = s.head_dim;
    p.capacity = n;
    p.scale = 1.f / std::sqrt(static_cast<float>(s.head_dim));
    p.num_splits = dense_splits(batch, s.n_kv_heads, n, device.n_sms);
    Buffer<float> workspace(dense_workspace_bytes(p) / sizeof(float));
    p.workspace = workspace.data();
    out.fill(0xff);
    dense_decode_attention(p);
    VI_CUDA(cudaDeviceSynchronize());
    const int b = batch - 1, h = s.n_kv_heads - 1;
    DenseParams host = p;
    std::vector<std::uint16_t> k(per_head), v(per_head);
    const std::size_t from = (static_cast<std::size_t>(b) * s.n_kv_heads + h) * per_head;
    VI_CUDA(cudaMemcpy(k.data(), key.data() + from, per_head * 2, cudaMemcpyDeviceToHost));
    VI_CUDA(cudaMemcpy(v.data(), value.data() + from, per_head * 2, cudaMemcpyDeviceToHost));
    host.q = q.data();
    host.key = k.data() - from;
    host.value = v.data() - from;
    host.kv_len = s.kv_len.data();
    const OracleResult want = oracle_dense(host, b, h);
    const auto bits = out.download();
    std::vector<float> got(static_cast<std::size_t>(s.group) * s.head_dim);
    const std::size_t at = static_cast<std::size_t>(h) * got.size();
    for (std::size_t i = 0; i < got.size(); ++i)
      got[i] =
          half_to_float(bits[static_cast<std::size_t>(b) * s.n_kv_heads * got.size() + at + i]);
    const double error = relative_error(got.data(), &want.out[at], got.size());
    if (!(error < 5e-3)) {
      std::printf("%s dense: WRONG, relative error %g: not timed\n", name.c_str(), error);
      return -1;
    }
    const Timing t = timer.cold([&] { dense_decode_attention(p); }, options.repeats);
    line(name, s, "dense_f16", t, static_cast<std::int64_t>(total) * 4, error);
    return t.median_ms;
  }

  void both(const std::string& name, const CaseSpec& s) {
    const double c = coded(name, s), d = dense(name, s);
    if (c > 0 && d > 0) std::printf("%-34s our dense f16 / coded: %.2f\n", name.c_str(), d / c);
  }

  // Encode of one side of one layer: a chunk of tokens of one sequence, or one token of many. Rates
  // are for the whole of an 8B model: 32 layers, both sides.
  void encoding(const std::string& name, int batch, int n_tokens, int dsub, int bits, bool shared) {
    const int h = 8, d = 128, n_books = d / dsub, ksub = 1 << bits;
    const std::int64_t rows = static_cast<std::int64_t>(batch) * n_tokens;
    Rng rng(11);
    std::vector<std::uint16_t> seed((1u << 20) - 40),
        book(static_cast<std::size_t>(h) * (shared ? 1 : n_books) * ksub * dsub);
    for (auto& v : seed) v = float_to_half(static_cast<float>(rng.normal()));
    for (auto& v : book) v = float_to_half(static_cast<float>(rng.normal()));
    std::vector<float> scale(h * d);
    for (auto& v : scale) v = static_cast<float>(std::exp(0.3 * rng.normal()));
    const quant::CodeLayout layout{n_books, bits};
    const std::int64_t stream =
        static_cast<std::int64_t>(layout.stream_bytes(n_tokens + 16) + 15) / 16 * 16;
    Buffer<std::uint16_t> d_rows(rows * h * d), d_book(book);
    spread_on_device(d_rows.data(), d_rows.bytes(), seed.data(), seed.size() * 2);
    Buffer<float> d_scale(scale);
    Buffer<std::uint8_t> codes(stream * h * batch);
    codes.fill(0);
    Buffer<int> first(std::vector<int>(batch, 0));
    EncodeParams p;
    p.rows = d_rows.data();
    p.row_stride = h * d;
    p.head_stride = d;
    p.inverse_scale = d_scale.data();
    p.hadamard = true;
    p.centroids = d_book.data();
    p.dsub = dsub;
    p.code_bits = bits;
    p.shared = shared;
    p.codes = codes.data();
    p.code_head_stride = stream;
    p.outer_stride = stream * h;
    p.first = first.data();
    p.batch = batch;
    p.n_tokens = n_tokens;
    p.n_kv_heads = h;
    p.head_dim = d;
    encode(p);
    VI_CUDA(cudaDeviceSynchronize());
    // The last rows of the last head against the oracle.
    const int checked = static_cast<int>(std::min<std::int64_t>(rows, bits > 8 ? 2 : 24)),
              head = h - 1;
    std::vector<std::uint16_t> tail(static_cast<std::size_t>(checked) * h * d);
    VI_CUDA(cudaMemcpy(tail.data(), d_rows.data() + (rows - checked) * h * d, tail.size() * 2,
                       cudaMemcpyDeviceToHost));
    EncodeParams one = p;
    one.rows = tail.data() + head * d;
    one.inverse_scale = scale.data() + head * d;
    one.centroids =
        book.data() + static_cast<std::size_t>(head) * (shared ? 1 : n_books) * ksub * dsub;
    one.n_kv_heads = 1;
    one.batch = 1;
    one.n_tokens = checked;
    const std::vector<OracleCode> want = oracle_codes(one);
    const auto packed = codes.download();
    long differ = 0;
    for (int r = 0; r < checked; ++r)
      for (int m = 0; m < n_books; ++m) {
        const std::int64_t row = rows - checked + r, b = row / n_tokens, t = row % n_tokens;
        const OracleCode& o = want[static_cast<std::size_t>(r) * n_books + m];
        const int got = static_cast<int>(
            quant::get_code(layout, packed.data() + (b * h + head) * stream, t, m));
        differ += got != o.code && oracle_distance(one, r, 0, m, got) - o.best > 1e-5 * o.size;
      }
    if (differ > 0) {
      std::printf("%s: WRONG, %ld codes differ: not timed\n", name.c_str(), differ);
      return;
    }
    const Timing t = timer.cold([&] { encode(p); }, options.repeats);
    const double tokens_per_s = static_cast<double>(rows) / (64 * t.median_ms * 1e-3);
    const double tflops =
        2.0 * static_cast<double>(rows) * h * n_books * ksub * dsub / t.median_ms / 1e9;
    nlohmann::ordered_json j = {{"case", name},
                                {"kernel", "encode"},
                                {"batch", batch},
                                {"n_tokens", n_tokens},
                                {"n_kv_heads", h},
                                {"head_dim", d},
                                {"dsub", dsub},
                                {"code_bits", bits},
                                {"shared", shared},
                                {"ms", t.median_ms},
                                {"ms_p10", t.low_ms},
                                {"ms_p90", t.high_ms},
                                {"repeats", t.repeats},
                                {"tokens_per_s_32_layers_k_and_v", tokens_per_s},
                                {"search_tflops", tflops},
                                {"gpu", device.name},
                                {"date", options.date},
                                {"commit", options.commit}};
    if (file.is_open()) file << j.dump() << "\n" << std::flush;
    std::printf("%-34s %-12s %8.4f ms  %.0f tokens/s of 32 layers, K and V  %.1f TFLOP/s\n",
                name.c_str(), "encode", t.median_ms, tokens_per_s, tflops);
  }

  // Every pair of codes of the paper and its ablations at 16 x 16384, against our dense kernel.
  void codes() {
    struct Pair {
      int head_dim;
      CodeShape key, value;
    };
    const std::vector<Pair> pairs = {
        {128, {4, 8, false}, {4, 8, false}},   {128, {4, 8, true}, {4, 8, true}},
        {128, {2, 8, false}, {2, 8, false}},   {128, {2, 8, true}, {2, 8, true}},
        {128, {4, 12, true}, {4, 12, true}},   {128, {4, 10, true}, {4, 10, true}},
        {128, {8, 12, true}, {8, 12, true}},   {128, {4, 10, true}, {8, 12, true}},
        {128, {8, 8, false}, {8, 8, false}},   {128, {8, 8, true}, {8, 8, true}},
        {64, {4, 8, false}, {4, 8, false}},    {64, {8, 8, false}, {8, 8, false}},
        {128, {4, 12, false}, {4, 12, false}}, {128, {4, 10, false}, {4, 10, false}},
        {128, {8, 12, false}, {8, 12, false}}, {128, {4, 10, false}, {8, 12, false}},
        {128, {8, 16, true}, {8, 16, true}},   {128, {2, 4, false}, {2, 4, false}},
        {128, {4, 6, false}, {4, 6, false}},   {128, {2, 3, false}, {2, 3, false}},
        {128, {8, 10, false}, {8, 10, false}}, {128, {8, 10, true}, {8, 10, true}},
        {64, {4, 12, true}, {4, 12, true}},    {64, {2, 8, false}, {2, 8, false}},
        {80, {4, 8, false}, {4, 8, false}},    {96, {4, 8, false}, {4, 8, false}},
        {256, {4, 8, false}, {4, 8, false}}};
    CaseSpec s;
    s.n_kv_heads = 8;
    s.kv_len.assign(16, 16384);
    const double d128 = dense("dense head_dim 128 16x16384", s);
    s.head_dim = 64;
    const double d64 = dense("dense head_dim 64 16x16384", s);
    const auto scope = [](const CodeShape& c) { return c.shared ? " shared" : " sub-space"; };
    for (const Pair& pair : pairs) {
      s.head_dim = pair.head_dim;
      s.key = pair.key;
      s.value = pair.value;
      const auto code = [](const CodeShape& c) {
        return "d" + std::to_string(c.dsub) + "b" + std::to_string(c.code_bits);
      };
      const std::string name =
          (pair.head_dim == 128 ? "" : "head_dim " + std::to_string(pair.head_dim) + " ") + "K-" +
          code(pair.key) + "/V-" + code(pair.value) + scope(pair.key) + " 16x16384";
      const double ms = coded(name, s);
      const double base = pair.head_dim == 128 ? d128 : pair.head_dim == 64 ? d64 : 0;
      if (ms > 0 && base > 0)
        std::printf("%-34s dense f16 / coded: %.2f\n", name.c_str(), base / ms);
    }
  }

  void run() {
    copy = timer.copy_bandwidth();
    std::printf("%s, copy %.0f GB/s (read + write)\n", device.name.c_str(), copy / 1e9);
    if (!options.json.empty()) file.open(options.json);
    if (!options.real.empty()) {
      real_bench(options.real, [&](nlohmann::ordered_json j) {
        j.update({{"gpu", device.name}, {"date", options.date}, {"commit", options.commit}});
        if (file.is_open()) file << j.dump() << "\n" << std::flush;
        std::printf("%s\n", j.dump().c_str());
      });
      return;
    }
    CaseSpec base;
    base.n_kv_heads = 8;
    const auto shape = [&](int batch, int kv_len) {
      CaseSpec s = base;
      s.kv_len.assign(batch, kv_len);
      return s;
    };
    const std::string& set = options.set;
    const bool every = set == "all", all = every || set == "decode";  // decode: attention alone
    if (all || set == "grid" || set == "quick") {
      const std::vector<std::pair<int, int>> grid = {
          {1, 196608}, {1, 131072}, {1, 32768},  {8, 32768},  {16, 16384},
          {32, 8192},  {64, 4096},  {128, 2048}, {128, 4096}, {256, 1024}};
      for (const auto& [batch, kv_len] : grid) {
        const std::string name = "d4b8 " + std::to_string(batch) + "x" + std::to_string(kv_len);
        if (set == "quick")
          coded(name, shape(batch, kv_len));
        else
          both(name, shape(batch, kv_len));
      }
    }
    if (every || set == "shapes" || set == "encode") {
      encoding("encode d4b8, 16384 tokens", 1, 16384, 4, 8, false);
      encoding("encode d4b8 shared, 16384 tokens", 1, 16384, 4, 8, true);
      encoding("encode d8b8, 16384 tokens", 1, 16384, 8, 8, false);
      encoding("encode d2b8, 16384 tokens", 1, 16384, 2, 8, false);
      encoding("encode d4b12 shared, 4096 tokens", 1, 4096, 4, 12, true);
      encoding("encode d8b12 shared, 4096 tokens", 1, 4096, 8, 12, true);
      encoding("encode d4b8, 1 token x 1", 1, 1, 4, 8, false);
      encoding("encode d4b8, 1 token x 64", 64, 1, 4, 8, false);
    }
    if (all || set == "codes") codes();
    if (all || set == "shared")
      for (const auto& [batch, kv_len] : std::vector<std::pair<int, int>>{
               {1, 196608}, {16, 16384}, {32, 8192}, {64, 4096}, {128, 2048}, {256, 1024}}) {
        CaseSpec s = shape(batch, kv_len);
        s.key.shared = s.value.shared = true;
        coded("d4b8 shared " + std::to_string(batch) + "x" + std::to_string(kv_len), s);
      }
    if (set == "gqa")
      for (int group : {1, 2, 4, 7, 8, 16}) {
        CaseSpec s = shape(16, 16384);
        s.group = group;
        both("d4b8 GQA " + std::to_string(group) + " 16x16384", s);
        s.key.shared = s.value.shared = true;
        coded("d4b8 shared GQA " + std::to_string(group) + " 16x16384", s);
      }
    if (set == "one") coded("d4b8 16x16384", shape(16, 16384));
    if (all || set == "grid") coded("d4b8 32x196608", shape(32, 196608));
    if (all || set == "shapes") {
      CaseSpec s = shape(16, 16384);
      s.key.shared = s.value.shared = true;
      coded("d4b8 shared 16x16384", s);
      s = shape(16, 16384);
      s.dense_len.assign(16, 132);
      coded("d4b8 16x16384 + 132 exact", s);
      s = shape(16, 16384);
      s.page_tokens = 64;
      coded("d4b8 16x16384 paged 64", s);
      s.page_tokens = 16;
      coded("d4b8 16x16384 paged 16", s);
      s = shape(16, 16384);
      for (int b = 0; b < 16; ++b) s.kv_len[b] = 2048 * b + 1024;  // the same number of tokens
      s.capacity = 32768;
      coded("d4b8 16 ragged, mean 16384", s);
      for (const auto& [k, v] : std::vector<std::pair<int, int>>{{8, 8}, {4, 8}, {8, 4}}) {
        s = shape(16, 16384);
        s.key.dsub = k;
        s.value.dsub = v;
        coded("K-d" + std::to_string(k) + "b8/V-d" + std::to_string(v) + "b8 16x16384", s);
      }
      for (int group : {1, 2, 7, 8, 16}) {
        s = shape(16, 16384);
        s.group = group;
        both("d4b8 GQA " + std::to_string(group) + " 16x16384", s);
      }
      for (int group : {3, 4}) {
        s = shape(16, 16384);
        s.group = group;
        s.head_dim = 64;
        both("d4b8 head_dim 64 GQA " + std::to_string(group) + " 16x16384", s);
      }
      s = shape(16, 16384);
      s.bias = 5;
      coded("d4b8 biased keys 16x16384", s);
    }
  }
};

int main_of(int argc, char** argv) {
  Options o;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i], v = argv[i + 1];
    if (key == "--json")
      o.json = v;
    else if (key == "--commit")
      o.commit = v;
    else if (key == "--date")
      o.date = v;
    else if (key == "--set")
      o.set = v;
    else if (key == "--kernel")
      o.kernel = v;
    else if (key == "--only")
      o.only = v;
    else if (key == "--real")
      o.real = v;
    else if (key == "--repeats")
      o.repeats = std::stoi(v);
    else
      fail<ConfigError>("cuda_bench: unknown option {}", key);
  }
  Bench bench;
  bench.options = o;
  bench.run();
  return 0;
}

}  // namespace
}  // namespace vi::cuda

int main(int argc, char** argv) {
  try {
    return vi::cuda::main_of(argc, argv);
  } catch (const vi::CudaError& e) {
    std::fprintf(stderr, "cuda_bench: %s\n", e.what());
    return 4;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cuda_bench: %s\n", e.what());
    return 2;
  }
}
