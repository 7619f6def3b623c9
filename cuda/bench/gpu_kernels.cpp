// bench kernels: one layer's decode attention. Every contender attends over the same tokens: the coded
// ones, or the dense f16 rows that their codes stand for. The last head of the last sequence is compared
// with the same attention in f64 before anything is timed; times are medians of cold runs.
#include <cmath>

#include "core/common/error.h"
#include "core/common/interrupt.h"
#include "core/quant/code_layout.h"
#include "cuda/bench/gpu_bench_impl.h"
#include "cuda/bench/gpu_kivi.h"
#include "cuda/common/timing.h"
#include "cuda/torch/memory_plan.h"
#include "cuda/torch/ops.h"

namespace vi::cuda {
namespace {

struct Shape {
  int batch = 1;
  std::int64_t kv_len = 0;
  int head_dim = 128, n_q_heads = 32, n_kv_heads = 8;
};

constexpr std::int64_t kPaperLengths[] = {98304, 131072, 163840, 196608};

enum class Sdp { flash, cudnn };

// SDPA by exactly one library kernel; an Error of torch where it does not serve the shape.
at::Tensor sdpa(Sdp kind, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool gqa) {
  auto& context = at::globalContext();
  context.setSDPUseFlash(kind == Sdp::flash);
  context.setSDPUseCuDNN(kind == Sdp::cudnn);
  context.setSDPUseMemEfficient(false);
  context.setSDPUseMath(false);
  at::Tensor out = at::scaled_dot_product_attention(q, k, v, {}, 0.0, false, std::nullopt, gqa);
  context.setSDPUseFlash(true);
  context.setSDPUseCuDNN(true);
  context.setSDPUseMemEfficient(true);
  context.setSDPUseMath(true);
  return out;
}

class KernelBench {
 public:
  KernelBench(BenchRows& rows, Progress& progress) : rows_(rows), progress_(progress) {}

  void run(const Shape& s, const CodeShape& code, bool dense) {
    check_interrupt();
    progress_.note(fmt::format("kernels, {} x {}, head_dim {}, d{}b{}", s.batch, s.kv_len, s.head_dim, code.dsub,
                               code.code_bits));
    try {
      Case c(*this, s, code);
      c.coded();
      c.kivi();
      if (dense) c.dense();
    } catch (const c10::OutOfMemoryError&) {
      skip(s, "all", "out of GPU memory");
    }
  }

  void paper() {
    struct Row {
      int batch;
      double sdpa[4], million[4], two[4], one[4];  // 0: out of memory
    };
    const Row table[] = {
        {1, {.66, .87, 1.01, 1.20}, {.46, .61, .73, .91}, {.30, .40, .51, .65}, {.245, .31, .40, .56}},
        {4, {2.20, 2.84, 3.80, 4.13}, {1.51, 1.98, 2.41, 3.02}, {.97, 1.28, 1.62, 1.91}, {.85, 1.11, 1.38, 1.58}},
        {8, {4.85, 6.4, 7.95, 9.5}, {2.75, 3.8, 4.65, 5.5}, {1.85, 2.43, 3.0, 3.65}, {1.48, 2.13, 2.45, 3.05}},
        {16, {9.45, 12.6, 15.8, 19.0}, {5.35, 7.0, 8.75, 10.6}, {3.6, 4.8, 5.95, 7.3}, {2.9, 3.85, 4.8, 5.7}},
        {32, {18.8, 25.2, 0, 0}, {10.3, 13.6, 17.0, 20.3}, {7.2, 9.4, 11.8, 14.1}, {5.75, 7.65, 9.45, 11.3}}};
    for (const Row& row : table)
      for (int i = 0; i < 4; ++i)
        for (const auto& [name, ms] : {std::pair("paper: SDPA on expanded heads", row.sdpa[i]),
                                       std::pair("paper: MILLION d4b8", row.million[i]),
                                       std::pair("paper: VecInfer d4b8", row.two[i]),
                                       std::pair("paper: VecInfer d8b8", row.one[i])}) {
          if (ms == 0) continue;
          Json line = shape_json({row.batch, kPaperLengths[i]});
          line.update({{"contender", name}, {"ms", ms}, {"source", "VecInfer Fig. 6 and 9, read off the figure, +-3 %"}});
          rows_.add(line);
        }
  }

 private:
  static Json shape_json(const Shape& s) {
    return {{"batch", s.batch},           {"kv_len", s.kv_len},         {"n_q_heads", s.n_q_heads},
            {"n_kv_heads", s.n_kv_heads}, {"head_dim", s.head_dim}};
  }

  void skip(const Shape& s, const std::string& contender, const std::string& why) {
    Json line = shape_json(s);
    line.update({{"contender", contender}, {"skipped", why.substr(0, why.find('\n'))}});
    rows_.add(line);
  }

  struct Case {
    Case(KernelBench& bench, const Shape& shape, const CodeShape& code_shape)
        : b(bench), s(shape), code(code_shape), device(bench.rows_.torch_device()) {
      const auto f16 = at::TensorOptions().device(device).dtype(at::kHalf);
      layout = {s.head_dim / code.dsub, code.code_bits};
      const std::int64_t stream = static_cast<std::int64_t>(layout.stream_bytes(static_cast<std::size_t>(s.kv_len)));
      q = at::randn({s.batch, s.n_q_heads, s.head_dim}, f16);
      out = at::empty_like(q);
      for (const bool key : {true, false}) {
        Side& side = key ? k : v;
        side.codes = at::empty({s.batch, s.n_kv_heads, stream}, f16.dtype(at::kByte)).random_(0, 256);
        side.centroids = at::randn({s.n_kv_heads, layout.n_books, 1 << code.code_bits, code.dsub}, f16);
        side.by_code = side.centroids.permute({0, 2, 1, 3}).contiguous();
        side.mean = side.centroids.to(at::kFloat).mean(2).reshape({s.n_kv_heads, s.head_dim}).contiguous();
      }
      kv_len = at::full({s.batch}, s.kv_len, f16.dtype(at::kInt));
    }

    struct Side {
      at::Tensor codes, centroids, by_code, mean, rows;
    };

    // Reconstructed rows [sequences, n_kv_heads, kv_len, head_dim] of 8-bit codes: what "dequantise, then
    // attend" has to write before it can attend.
    at::Tensor dequantised(const Side& side, std::int64_t first, std::int64_t n) const {
      const std::int64_t m = layout.n_books, ksub = 1 << code.code_bits;
      const at::Tensor index =
          (side.codes.narrow(0, first, n).view({n, s.n_kv_heads, -1, m, quant::kBlockTokens}).to(at::kInt) +
           at::arange(0, s.n_kv_heads * m * ksub, ksub, side.codes.options().dtype(at::kInt))
               .view({1, s.n_kv_heads, 1, m, 1}))
              .transpose(3, 4)
              .contiguous();
      return at::embedding(side.centroids.view({-1, code.dsub}), index).view({n, s.n_kv_heads, -1, s.head_dim});
    }

    DecodeParams params() {
      DecodeParams p;
      p.q = q.const_data_ptr(), p.out = out.data_ptr();
      for (const bool key : {true, false}) {
        const Side& side = key ? k : v;
        CodedSide& to = key ? p.key : p.value;
        to.codes = side.codes.const_data_ptr<std::uint8_t>();
        to.outer_stride = side.codes.stride(0), to.head_stride = side.codes.stride(1);
        to.centroids = side.centroids.const_data_ptr(), to.by_code = side.by_code.const_data_ptr();
        to.mean = side.mean.const_data_ptr<float>();
        to.dsub = code.dsub, to.code_bits = code.code_bits, to.shared = false;
      }
      p.kv_len = kv_len.const_data_ptr<int>();
      p.batch = s.batch, p.n_q_heads = s.n_q_heads, p.n_kv_heads = s.n_kv_heads, p.head_dim = s.head_dim;
      p.scale = 1.f / std::sqrt(static_cast<float>(s.head_dim));
      p.stream = current_stream(device);
      return p;
    }

    // [group, head_dim] of the last KV head of the last sequence, in f64.
    at::Tensor wanted() {
      if (!want.defined()) {
        const std::int64_t group = s.n_q_heads / s.n_kv_heads;
        const at::Tensor keys = dequantised(k, s.batch - 1, 1)[0][s.n_kv_heads - 1].to(at::kDouble);
        const at::Tensor values = dequantised(v, s.batch - 1, 1)[0][s.n_kv_heads - 1].to(at::kDouble);
        const at::Tensor heads = q[s.batch - 1].narrow(0, s.n_q_heads - group, group).to(at::kDouble);
        const at::Tensor p =
            at::softmax(at::mm(heads, keys.t()) / std::sqrt(static_cast<double>(s.head_dim)), -1);
        want = at::mm(p, values);
      }
      return want;
    }

    void time(const std::string& name, std::int64_t bytes, const std::function<at::Tensor()>& run,
              const at::Tensor& wanted) {
      check_interrupt();
      out.fill_(NAN);
      const at::Tensor got = run().reshape({s.batch, s.n_q_heads, s.head_dim});
      const std::int64_t group = s.n_q_heads / s.n_kv_heads;
      const at::Tensor last = got[s.batch - 1].narrow(0, s.n_q_heads - group, group).to(at::kDouble);
      const double error = ((last - wanted).norm() / wanted.norm()).item<double>();
      if (!(error < 5e-3)) fail("bench kernels: {} is wrong at {} x {}: relative error {:.2g}", name, s.batch, s.kv_len, error);
      const Timing t = b.timer_.cold([&] { run(); });
      Json line = shape_json(s);
      const double gb_s = 1e-6 * static_cast<double>(bytes) / t.median_ms;
      line.update({{"contender", name},
                   {"ms", t.median_ms},
                   {"ms_p10", t.low_ms},
                   {"ms_p90", t.high_ms},
                   {"repeats", t.repeats},
                   {"bytes", bytes},
                   {"gb_s", gb_s},
                   {"pct_of_copy", 100 * gb_s / b.rows_.copy_gb_s()},
                   {"error", error}});
      if (coded_ms > 0) line["times_ours"] = t.median_ms / coded_ms;
      b.rows_.add(line);
      if (coded_ms == 0) coded_ms = t.median_ms;
    }

    void attempt(const std::string& name, std::int64_t bytes, const std::function<at::Tensor()>& run) {
      try {
        time(name, bytes, run, wanted());
      } catch (const c10::Error& error) {  // out of memory, or a kernel that does not serve the shape
        b.skip(s, name, error.what_without_backtrace());
      }
    }

    void coded() {
      Problem problem;
      problem.batch = s.batch, problem.n_q_heads = s.n_q_heads, problem.n_kv_heads = s.n_kv_heads;
      problem.head_dim = s.head_dim, problem.key = problem.value = code;
      problem.capacity = static_cast<int>(s.kv_len);
      problem.sm = b.rows_.device().sm, problem.n_sms = b.rows_.device().n_sms;
      const KernelConfig config = select_kernel(problem);
      const at::Tensor workspace = at::zeros({static_cast<std::int64_t>(std::max<std::size_t>(config.workspace_bytes, 16))},
                                             q.options().dtype(at::kByte));
      DecodeParams p = params();
      p.workspace = workspace.data_ptr();
      time(fmt::format("vecinfer d{}b{}", code.dsub, code.code_bits), k.codes.nbytes() + v.codes.nbytes(), [&] {
        decode_attention(p, config);
        return out;
      }, wanted());
    }

    // KIVI's 2-bit integers over a cache of its own, of as many tokens.
    void kivi() {
      try {
        const KiviCase c(q, out, kv_len, s.kv_len, s.n_kv_heads, b.rows_.device());
        time("kivi-like 2-bit, groups of 32", c.bytes(), [&] {
          c.attend();
          return out;
        }, c.wanted());
      } catch (const c10::OutOfMemoryError&) {
        b.skip(s, "kivi-like 2-bit, groups of 32", "out of GPU memory");
      }
    }

    void dense() {
      const std::int64_t bytes = std::int64_t{4} * s.batch * s.n_kv_heads * s.kv_len * s.head_dim;
      const std::int64_t codes = k.codes.nbytes() + v.codes.nbytes();
      // Indices of 4 bytes a code while a side is made, then both sides.
      const std::int64_t spare = std::int64_t{3} << 30;
      if (bytes + 2 * bytes / code.dsub + spare > free_bytes()) {
        for (const char* name : {"sdpa flash gqa", "sdpa cudnn gqa", "sdpa flash expanded", "dequantise, then sdpa"})
          b.skip(s, name, fmt::format("dense keys and values take {:.1f} GB", 1e-9 * static_cast<double>(bytes)));
        return;
      }
      k.rows = dequantised(k, 0, s.batch), v.rows = dequantised(v, 0, s.batch);
      const at::Tensor q4 = q.unsqueeze(2);  // [batch, n_q_heads, 1, head_dim]
      attempt("sdpa flash gqa", bytes, [&] { return sdpa(Sdp::flash, q4, k.rows, v.rows, true); });
      attempt("sdpa cudnn gqa", bytes, [&] { return sdpa(Sdp::cudnn, q4, k.rows, v.rows, true); });
      own_dense(bytes);
      attempt("dequantise, then sdpa", codes + 2 * bytes, [&] {
        return sdpa(Sdp::flash, q4, dequantised(k, 0, s.batch), dequantised(v, 0, s.batch), true);
      });
      const std::int64_t group = s.n_q_heads / s.n_kv_heads;
      if (group * bytes + spare > free_bytes()) {
        b.skip(s, "sdpa flash expanded", fmt::format("expanded keys and values take {:.1f} GB", 1e-9 * static_cast<double>(group * bytes)));
        return;
      }
      // The paper's baseline: every query head has its own copy of keys and values.
      const at::Tensor keys = k.rows.repeat_interleave(group, 1), values = v.rows.repeat_interleave(group, 1);
      attempt("sdpa flash expanded", group * bytes, [&] { return sdpa(Sdp::flash, q4, keys, values, false); });
    }

    void own_dense(std::int64_t bytes) {
      DenseParams p;
      p.q = q.const_data_ptr(), p.out = out.data_ptr();
      p.key = k.rows.const_data_ptr(), p.value = v.rows.const_data_ptr();
      p.kv_len = kv_len.const_data_ptr<int>();
      p.batch = s.batch, p.n_q_heads = s.n_q_heads, p.n_kv_heads = s.n_kv_heads, p.head_dim = s.head_dim;
      p.capacity = static_cast<int>(s.kv_len);
      p.scale = 1.f / std::sqrt(static_cast<float>(s.head_dim));
      p.num_splits = dense_splits(s.batch, s.n_kv_heads, p.capacity, b.rows_.device().n_sms);
      const at::Tensor workspace =
          at::empty({static_cast<std::int64_t>(dense_workspace_bytes(p))}, q.options().dtype(at::kByte));
      p.workspace = reinterpret_cast<float*>(workspace.data_ptr());
      p.stream = current_stream(device);
      attempt("vecinfer dense f16", bytes, [&] {
        dense_decode_attention(p);
        return out;
      });
    }

    KernelBench& b;
    Shape s;
    CodeShape code;
    at::Device device;
    quant::CodeLayout layout;
    at::Tensor q, out, kv_len, want;
    Side k, v;
    double coded_ms = 0;
  };

  BenchRows& rows_;
  Progress& progress_;
  Timer timer_;
};

}  // namespace

void bench_kernels(BenchRows& rows, Progress& progress) {
  const GpuBench& settings = rows.settings();
  if (settings.set != "all" && settings.set != "quick" && settings.set != "paper")
    fail<ConfigError>("bench kernels: expected --cases all, quick or paper, got {}", settings.set);
  KernelBench bench(rows, progress);
  const CodeShape two{4, 8, false}, one{8, 8, false};
  if (!settings.kv_lens.empty()) {
    for (const std::int64_t kv_len : settings.kv_lens)  // whole blocks: codes are made at random
      bench.run({1, std::max<std::int64_t>(16, kv_len / 16 * 16)}, two, true);
    return;
  }
  if (settings.set == "paper") {  // Fig. 5 to 9: every batch and length, both head sizes, 2 and 1 bit
    for (const int head_dim : {128, 64})
      for (const int batch : {1, 4, 8, 16, 32})
        for (const std::int64_t kv_len : kPaperLengths) {
          bench.run({batch, kv_len, head_dim}, two, true);
          bench.run({batch, kv_len, head_dim}, one, false);
        }
    bench.paper();
    return;
  }
  const std::vector<std::pair<int, std::int64_t>> quick = {{1, 196608}, {16, 16384}, {256, 1024}};
  const std::vector<std::pair<int, std::int64_t>> grid = {
      {1, 196608}, {1, 131072}, {1, 98304},  {1, 32768},  {8, 32768},  {16, 16384}, {32, 8192},  {64, 4096},
      {128, 2048}, {128, 4096}, {256, 1024}, {4, 196608}, {8, 131072}, {8, 196608}, {32, 98304}, {32, 196608}};
  for (const auto& [batch, kv_len] : settings.set == "quick" ? quick : grid) bench.run({batch, kv_len}, two, true);
  if (settings.set == "quick") return;
  for (const auto& [batch, kv_len] : std::vector<std::pair<int, std::int64_t>>{{1, 196608}, {16, 16384}, {32, 196608}}) {
    bench.run({batch, kv_len}, one, false);
    bench.run({batch, kv_len, 64}, two, true);
  }
  bench.paper();
}

}  // namespace vi::cuda
