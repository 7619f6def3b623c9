#include "eval/efficiency/cpu_kernels.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "core/attention/reference.h"
#include "core/attention/vq_decode.h"
#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/interrupt.h"
#include "core/common/rng.h"
#include "core/quant/vector_code.h"

namespace vi::eval {
namespace {

using attention::DecodeShape;
using attention::HeadView;

struct CodeCase {
  int dsub, bits;
  bool shared;
};
constexpr CodeCase kCases[] = {{4, 8, true},  {4, 8, false}, {8, 8, true}, {8, 8, false},
                               {8, 12, true}, {2, 8, true},  {2, 8, false}};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Memory traffic that leaves nothing of a cache in L1..L3, and the machine's copy bandwidth by the
// way.
class Copier {
 public:
  Copier() : from_(kFloats, 1.0f), to_(kFloats, 0.0f) {}
  double copy() {  // GB/s, read + written
    const double start = seconds();
    const int parts = 64;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < parts; ++i)
      std::memcpy(to_.data() + i * (kFloats / parts), from_.data() + i * (kFloats / parts),
                  kFloats / parts * sizeof(float));
    return 2.0 * kFloats * sizeof(float) / (seconds() - start) * 1e-9;
  }

 private:
  static constexpr std::size_t kFloats = std::size_t{1} << 25;  // 128 MiB each
  std::vector<float> from_, to_;
};

struct Contender {
  std::string name;
  double bits = 0, bytes = 0, error = 0;
  std::function<void()> run{};
  std::vector<double> cold{}, warm{};  // seconds
};

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x.size() % 2 == 1 ? x[x.size() / 2] : 0.5 * (x[x.size() / 2 - 1] + x[x.size() / 2]);
}
double least(const std::vector<double>& x) { return *std::min_element(x.begin(), x.end()); }

// Random codes under a random codebook, keys with the transforms of VecInfer (scale, Hadamard).
class CodedLayer {
 public:
  CodedLayer(const CodeCase& c, const CpuKernelBench& s, std::int64_t kv_len)
      : heads(s.n_kv_heads) {
    Rng rng(s.seed + c.dsub * 100 + c.bits);
    key_transform_.head_dim = value_transform_.head_dim = s.head_dim;
    transform::Step scale, rotate;
    scale.kind = transform::Step::Kind::scale;
    for (int i = 0; i < s.head_dim; ++i)
      scale.vector.push_back(static_cast<float>(0.5 + rng.uniform()));
    rotate.kind = transform::Step::Kind::hadamard;
    key_transform_.steps = {scale, rotate};
    const int n_books = c.shared ? 1 : s.head_dim / c.dsub;
    std::vector<float> centroids((static_cast<std::size_t>(n_books) << c.bits) * c.dsub);
    for (HeadView& head : heads) {
      head.len = static_cast<std::size_t>(kv_len);
      for (const bool key : {true, false}) {
        for (float& x : centroids)
          x = half_to_float(float_to_half(static_cast<float>(rng.normal())));
        auto& coder = coders_.emplace_back(std::make_unique<quant::VectorCode>(
            s.head_dim, key ? &key_transform_ : &value_transform_,
            quant::make_books(c.dsub, c.bits, n_books, centroids.data())));
        auto& stream = streams_.emplace_back(coder->stream_bytes(kv_len));
        for (std::uint8_t& byte : stream) byte = static_cast<std::uint8_t>(rng.next() >> 56);
        (key ? head.key : head.value) = {coder.get(), stream.data(), head.len, nullptr, nullptr};
        bytes += static_cast<double>(stream.size());
      }
    }
  }

 private:
  transform::HeadTransform key_transform_, value_transform_;
  std::vector<std::unique_ptr<quant::VectorCode>> coders_;
  std::vector<std::vector<std::uint8_t>> streams_;

 public:
  std::vector<HeadView> heads;
  double bytes = 0;
};

double error(const float* out, const std::vector<double>& oracle) {
  double most = 0, scale = 0;
  for (std::size_t i = 0; i < oracle.size(); ++i) {
    const double e = std::abs(out[i] - oracle[i]);
    most = std::isnan(e) ? std::numeric_limits<double>::infinity() : std::max(most, e);
    scale = std::max(scale, std::abs(oracle[i]));
  }
  return most / scale;
}

void check(Contender& c, const float* out, const std::vector<double>& oracle, double allowed) {
  c.error = error(out, oracle);
  VI_CHECK(c.error <= allowed, "{}: error {:.3g} against the f64 oracle, at most {:.3g} expected",
           c.name, c.error, allowed);
}

// libtorch's attention both ways; the contender is the faster one in a short trial.
class Sdpa {
 public:
  Sdpa(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::ScalarType type)
      : k_(k.to(type)), v_(v.to(type)) {
    const std::int64_t hq = q.size(0), hk = k.size(1), d = q.size(1);
    q_gqa_ = q.to(type).view({1, hq, 1, d});
    q_fold_ = q.to(type).view({1, hk, hq / hk, d});
  }
  at::Tensor run(bool fold) const {
    return at::scaled_dot_product_attention(fold ? q_fold_ : q_gqa_, k_, v_, std::nullopt, 0.0,
                                            false, std::nullopt, !fold);
  }
  double bytes() const { return 2.0 * static_cast<double>(k_.numel() * k_.element_size()); }

 private:
  at::Tensor k_, v_, q_gqa_, q_fold_;
};

void add_sdpa(const std::string& name, std::shared_ptr<Sdpa> sdpa, double bits,
              const std::vector<double>& oracle, double allowed, std::vector<Contender>& to) {
  for (const bool fold : {false, true}) {
    Contender c{name + (fold ? ", group folded" : ", enable_gqa"), bits, sdpa->bytes()};
    const at::Tensor out = sdpa->run(fold).to(at::kFloat).contiguous();
    check(c, out.data_ptr<float>(), oracle, allowed);
    c.run = [sdpa, fold] { sdpa->run(fold); };
    to.push_back(std::move(c));
  }
}

std::vector<Contender> contenders(const CpuKernelBench& s, std::int64_t kv_len) {
  const DecodeShape shape{s.n_q_heads, s.n_kv_heads, s.head_dim};
  const std::size_t n_out = static_cast<std::size_t>(s.n_q_heads) * s.head_dim;
  auto out = std::make_shared<std::vector<float>>(n_out);
  std::vector<double> oracle(n_out);
  std::vector<Contender> all;

  Rng rng(s.seed);
  at::Tensor q = at::empty({s.n_q_heads, s.head_dim});
  for (std::size_t i = 0; i < n_out; ++i) q.data_ptr<float>()[i] = static_cast<float>(rng.normal());
  auto generator = at::detail::createCPUGenerator(s.seed);
  const at::Tensor k = at::randn({1, s.n_kv_heads, kv_len, s.head_dim}, generator);
  const at::Tensor v = at::randn({1, s.n_kv_heads, kv_len, s.head_dim}, generator);
  auto dense = std::make_shared<std::vector<HeadView>>(s.n_kv_heads);
  for (int h = 0; h < s.n_kv_heads; ++h) {
    const std::int64_t at = h * kv_len * s.head_dim;
    (*dense)[h].len = static_cast<std::size_t>(kv_len);
    (*dense)[h].key.recent = k.data_ptr<float>() + at;
    (*dense)[h].value.recent = v.data_ptr<float>() + at;
  }
  reference_attention(shape, dense->data(), q.data_ptr<float>(), oracle.data());
  add_sdpa("sdpa f32", std::make_shared<Sdpa>(q, k, v, at::kFloat), 32, oracle, 1e-4, all);
  add_sdpa("sdpa bf16", std::make_shared<Sdpa>(q, k, v, at::kBFloat16), 16, oracle, 0.2, all);
  Contender mine{"vecinfer dense f32", 32, all[0].bytes};
  mine.run = [=] { decode_attention(shape, dense->data(), q.data_ptr<float>(), out->data()); };
  mine.run();
  check(mine, out->data(), oracle, 1e-4);
  mine.run = [=, kept = k, kept_v = v, run = mine.run] { run(); };  // the tensors live with it
  all.push_back(std::move(mine));

  for (const CodeCase& c : kCases) {
    check_interrupt();
    auto layer = std::make_shared<CodedLayer>(c, s, kv_len);
    Contender coded{
        fmt::format("vecinfer d{}b{} {}", c.dsub, c.bits, c.shared ? "shared" : "subspace"),
        static_cast<double>(c.bits) / c.dsub, layer->bytes};
    coded.run = [=] {
      decode_attention(shape, layer->heads.data(), q.data_ptr<float>(), out->data());
    };
    coded.run();
    reference_attention(shape, layer->heads.data(), q.data_ptr<float>(), oracle.data());
    check(coded, out->data(), oracle, 1e-4);
    all.push_back(std::move(coded));
  }
  return all;
}

// The faster of the two rows of a baseline, by `of`.
template <class Of>
double best(const std::vector<Contender>& all, const std::string& prefix, Of of) {
  double time = std::numeric_limits<double>::infinity();
  for (const Contender& c : all)
    if (c.name.starts_with(prefix)) time = std::min(time, of(c.cold));
  return time;
}

}  // namespace

std::vector<Json> cpu_kernel_bench(const CpuKernelBench& settings, Progress& progress) {
  VI_CHECK(settings.repeats >= 9, "{} repeats, at least 9 are needed for a median",
           settings.repeats);
  const c10::InferenceMode no_grad;
  std::vector<Json> rows;
  Copier copier;
  double copy = 0;
  for (int i = 0; i < 5; ++i) copy = std::max(copy, copier.copy());
  for (const std::int64_t kv_len : settings.kv_lens) {
    const double dense =
        2.0 * 4 * static_cast<double>(kv_len) * settings.n_kv_heads * settings.head_dim;
    const double memory =
        static_cast<double>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
    Json common = {{"bench", "kernels"},
                   {"device", "cpu"},
                   {"simd", simd_name(best_simd())},
                   {"threads", omp_get_max_threads()},
                   {"kv_len", kv_len},
                   {"n_q_heads", settings.n_q_heads},
                   {"n_kv_heads", settings.n_kv_heads},
                   {"head_dim", settings.head_dim}};
    if (2.5 * dense > memory) {  // f32, bf16, the oracle's f64 rows of a head, codes
      common["skipped"] = fmt::format("needs {:.1f} GB of free memory", 2.5e-9 * dense);
      progress.note(fmt::format("bench kernels: kv_len {} needs {:.1f} GB of free memory, skipped",
                                kv_len, 2.5e-9 * dense));
      rows.push_back(std::move(common));
      continue;
    }
    progress.begin(fmt::format("kernels, kv_len {}", kv_len), settings.repeats);
    std::vector<Contender> all = contenders(settings, kv_len);
    for (int repeat = 0; repeat < settings.repeats; ++repeat) {
      for (Contender& c :
           all) {  // interleaved, so that a busy moment of the machine meets them all
        check_interrupt();
        copier.copy();
        double start = seconds();
        c.run();
        c.cold.push_back(seconds() - start);
        start = seconds();
        c.run();
        c.warm.push_back(seconds() - start);
      }
      progress.advance();
    }
    progress.end();
    for (const Contender& c : all) {
      Json row = common;
      row["contender"] = c.name;
      row["bits"] = c.bits;
      row["bytes"] = c.bytes;
      row["ms"] = 1e3 * median(c.cold);
      row["ms_min"] = 1e3 * least(c.cold);
      row["warm_ms"] = 1e3 * median(c.warm);
      row["warm_ms_min"] = 1e3 * least(c.warm);
      row["gb_s"] = 1e-9 * c.bytes / median(c.cold);
      row["copy_gb_s"] = copy;
      row["error"] = c.error;
      row["vs_f32"] = best(all, "sdpa f32", median) / median(c.cold);
      row["vs_bf16"] = best(all, "sdpa bf16", median) / median(c.cold);
      row["vs_f32_min"] = best(all, "sdpa f32", least) / least(c.cold);
      row["vs_bf16_min"] = best(all, "sdpa bf16", least) / least(c.cold);
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace vi::eval
