// bench e2e and breakdown: synthetic weights of Llama-3.1-8B's shape in bf16, a cache filled with random
// codes (timings depend on lengths, not on what the codes say; correctness is the tests' work).
#include <c10/cuda/CUDACachingAllocator.h>

#include <chrono>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/interrupt.h"
#include "core/common/rng.h"
#include "cuda/bench/gpu_bench_impl.h"
#include "cuda/torch/stepper.h"

namespace vi::cuda {
namespace {

constexpr int kWarm = 4, kSteps = 132;  // one block of the window is completed in between

struct Method {
  std::string name;
  int dsub = 0, bits = 0;  // 0: dense
  bool shared = false;
  int step = 0;  // window: {step: ..}; 0: coded as a whole
};
const Method kDense{"dense bf16"}, kTwoBits{"d4b8", 4, 8, false}, kTwoBitsShared{"d4b8 shared", 4, 8, true},
    kOneBit{"d8b8", 8, 8, false}, kTwoBitsSteps{"d4b8, window step 16", 4, 8, false, 16};

// Random smooth scales and centroids; the same for every layer, which no timing sees.
std::shared_ptr<const codec::Codec> synthetic_codec(const model::ModelConfig& c, const Method& m) {
  codec::CodecSpec spec;
  spec.window.recent = 128;
  spec.window.step = m.step;
  codec::TransformSet transforms{c.n_layers, c.n_kv_heads, c.head_dim, {}, {}};
  codec::CodebookSet books;
  codec::TransformSpec smooth;
  smooth.kind = codec::TransformKind::smooth;
  spec.key.transforms = {smooth, {}};
  Rng rng(1);
  const int n_books = m.shared ? 1 : c.head_dim / m.dsub, ksub = 1 << m.bits;
  for (codec::SideSpec* side : {&spec.key, &spec.value}) {
    side->code.kind = codec::CodeKind::vector;
    side->code.dsub = m.dsub, side->code.bits = m.bits;
    side->code.scope = m.shared ? codec::BookScope::shared : codec::BookScope::subspace;
    side->code.per = codec::BookPer::model;
    codec::CodebookSide& book = side == &spec.key ? books.key : books.value;
    book = {1, 1, n_books, ksub, m.dsub, std::vector<float>(static_cast<std::size_t>(n_books) * ksub * m.dsub)};
    for (float& x : book.centroids) x = half_to_float(float_to_half(static_cast<float>(rng.normal())));
  }
  transform::HeadTransform t;
  t.head_dim = c.head_dim;
  transform::Step scale, rotate;
  scale.kind = transform::Step::Kind::scale;
  for (int i = 0; i < c.head_dim; ++i) scale.vector.push_back(static_cast<float>(0.5 + rng.uniform()));
  rotate.kind = transform::Step::Kind::hadamard;
  t.steps = {scale, rotate};
  transforms.key.assign(static_cast<std::size_t>(c.n_layers) * c.n_kv_heads, t);
  return std::make_shared<codec::Codec>(spec, c.n_layers, c.n_kv_heads, c.head_dim, transforms, books);
}

class ModelBench {
 public:
  ModelBench(BenchRows& rows, Progress& progress) : rows_(rows), progress_(progress), config_(llama_8b_config()) {
    const MemoryPlan plan = GpuEngine::plan(config_, at::kBFloat16);
    progress_.note("GPU memory: " + plan.text());
    check_fits(plan);
    guard_memory(plan, [&] {
      model::DecoderOptions options;
      options.device = rows_.torch_device();
      options.dtype = at::kBFloat16;
      engine_ = std::make_shared<const GpuEngine>(
          config_, synthetic_weights(options.device, options.dtype, 1), options);
    });
    // What one step reads of the weights: all but the embedding, of which it reads rows.
    for (const GpuLayer& l : engine_->layers())
      for (const Linear* w : {&l.qkv, &l.o, &l.gate_up, &l.down}) weight_bytes_ += w->weight.nbytes();
    weight_bytes_ += engine_->head().weight.nbytes();
  }

  CacheShape shape(int batch, std::int64_t capacity) const {
    return {config_.n_layers, config_.n_q_heads, config_.n_kv_heads, config_.head_dim, batch, capacity, at::kBFloat16};
  }

  std::unique_ptr<Stepper> stepper(const Method& m, int batch, std::int64_t capacity, std::int64_t prompt,
                                   MemoryPlan& plan) {
    check_interrupt();
    c10::cuda::CUDACachingAllocator::emptyCache();
    const auto codec = m.dsub ? synthetic_codec(config_, m) : nullptr;
    plan = Stepper::plan(config_, shape(batch, capacity), codec.get(), at::kBFloat16, prompt);
    plan.parts.erase(plan.parts.begin());  // the weights are there
    progress_.note(fmt::format("{}, {} x {}: GPU memory beside the weights: {}", m.name, batch, capacity, plan.text()));
    check_fits(plan);
    std::unique_ptr<Stepper> stepper;
    guard_memory(plan, [&] {
      const auto tables = codec ? std::make_shared<const eval::DeviceCodec>(codec, rows_.torch_device()) : nullptr;
      stepper = std::make_unique<Stepper>(
          engine_, std::make_unique<DeviceCache>(shape(batch, capacity), tables, rows_.torch_device()));
    });
    return stepper;
  }

  Json facts(const Method& m, int batch, std::int64_t context, const MemoryPlan& plan) const {
    std::size_t free = 0, all = 0;
    VI_CUDA(cudaMemGetInfo(&free, &all));
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(rows_.device().index));
    return {{"model", config_.name},
            {"dtype", "bf16"},
            {"method", m.name},
            {"batch", batch},
            {"context", context},
            {"planned_bytes", plan.total() + GpuEngine::plan(config_, at::kBFloat16).total()},
            {"peak_bytes", stats.allocated_bytes[0].peak},
            {"gpu_used_bytes", all - free},
            {"gpu_bytes", all}};
  }

  static void reset_peak(int device) {
    c10::cuda::CUDACachingAllocator::resetPeakStats(static_cast<c10::DeviceIndex>(device));
  }

  // kSteps greedy steps of full sequences; each between events, the host runs ahead.
  void decode(const Method& m, int batch, std::int64_t context) {
    MemoryPlan plan;
    reset_peak(rows_.device().index);
    const auto s = stepper(m, batch, context, 0, plan);
    s->cache().fill_random(context - kWarm - kSteps);
    for (int i = 0; i < kWarm; ++i) s->step();
    const cudaStream_t stream = current_stream(rows_.torch_device());
    std::vector<cudaEvent_t> events(kSteps + 1);
    for (cudaEvent_t& e : events) VI_CUDA(cudaEventCreate(&e));
    at::Tensor logits;
    VI_CUDA(cudaEventRecord(events[0], stream));
    for (int i = 0; i < kSteps; ++i) {
      logits = s->step();
      VI_CUDA(cudaEventRecord(events[static_cast<std::size_t>(i) + 1], stream));
    }
    VI_CUDA(cudaDeviceSynchronize());
    std::vector<double> ms;
    double sum = 0, longest = 0;
    for (int i = 0; i < kSteps; ++i) {
      float t = 0;
      VI_CUDA(cudaEventElapsedTime(&t, events[static_cast<std::size_t>(i)], events[static_cast<std::size_t>(i) + 1]));
      ms.push_back(static_cast<double>(t));
      sum += static_cast<double>(t);
      longest = std::max(longest, static_cast<double>(t));
    }
    for (cudaEvent_t& e : events) VI_CUDA(cudaEventDestroy(e));
    if (!at::isfinite(logits).all().item<bool>()) fail("bench e2e: the logits are not finite");
    Json row = facts(m, batch, context, plan);
    row["measure"] = "decode";
    row.update(spread(ms));
    row["mean_ms"] = sum / kSteps;
    row["flush_step_ms"] = longest;
    row["tokens_per_s"] = 1000.0 * batch * kSteps / sum;
    row["cache_bytes_read"] = s->cache().code_bytes();
    row["weight_bytes_read"] = weight_bytes_;
    row["roofline_ms"] =
        static_cast<double>(weight_bytes_ + s->cache().code_bytes()) / rows_.copy_gb_s() / 1e6;
    row["kernel"] = s->cache().kernel();
    rows_.add(row);
  }

  void prefill(const Method& m, std::int64_t tokens) {
    MemoryPlan plan;
    reset_peak(rows_.device().index);
    const auto s = stepper(m, 1, tokens + 256, tokens, plan);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
    Rng rng(2);
    for (std::int32_t& id : ids) id = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(config_.vocab)));
    guard_memory(plan, [&] { s->prefill(0, std::span(ids).first(1024)); });
    s->reset();
    VI_CUDA(cudaDeviceSynchronize());
    const auto start = std::chrono::steady_clock::now();
    guard_memory(plan, [&] { s->prefill(0, ids); });
    s->next();  // the first token is on the host
    const double ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    Json row = facts(m, 1, tokens, plan);
    row["measure"] = "prefill";
    row["ttft_ms"] = ms;
    row["prefill_tokens_per_s"] = 1000.0 * static_cast<double>(tokens) / ms;
    rows_.add(row);
  }

  // The largest batch whose plan fits.
  int largest_batch(const Method& m, std::int64_t context) {
    const auto codec = m.dsub ? synthetic_codec(config_, m) : nullptr;
    c10::cuda::CUDACachingAllocator::emptyCache();
    const std::int64_t free = free_bytes();
    int batch = 1;
    const auto fits = [&](int b) {
      MemoryPlan plan = Stepper::plan(config_, shape(b, context), codec.get(), at::kBFloat16, 0);
      return plan.total() - plan.parts[0].second < free - (std::int64_t{1} << 30);
    };
    while (batch < 512 && fits(batch + 1)) ++batch;
    return batch;
  }

  void breakdown(const Method& m, std::int64_t context) {
    MemoryPlan plan;
    const auto s = stepper(m, 1, context, 0, plan);
    s->cache().fill_random(context - 96);
    for (int i = 0; i < kWarm; ++i) s->step();
    const StepTimes t = s->time_steps(20);
    Json row = facts(m, 1, context, plan);
    row["ms"] = t.total;
    row["parts_ms"] = {{"embedding", t.embed},     {"norm_qkv", t.qkv},   {"rope_map_append", t.rope},
                       {"attention", t.attention}, {"output", t.output}, {"mlp", t.mlp},
                       {"head_argmax", t.head}};
    rows_.add(row);
  }

  void paper_e2e() {
    const std::int64_t contexts[] = {98304, 131072, 163840, 196608};
    const std::pair<const char*, std::array<double, 4>> all[] = {
        {"paper: SDPA", {117, 151, 186, 221}},
        {"paper: FlashAttention-2", {38, 46.5, 55.6, 65}},
        {"paper: MILLION-2", {24.3, 28.6, 32.1, 36.5}},
        {"paper: VecInfer-2", {23.4, 23.5, 24.6, 26.8}},
        {"paper: VecInfer-1", {23, 23.2, 23.7, 24.8}}};
    for (const auto& [name, ms] : all)
      for (std::size_t i = 0; i < 4; ++i)
        rows_.add({{"measure", "decode"}, {"method", name}, {"batch", 1}, {"context", contexts[i]}, {"ms", ms[i]},
                   {"source", "VecInfer Fig. 7, read off the figure"}});
  }

  void paper_breakdown() {
    rows_.add({{"method", "paper: SDPA"}, {"batch", 1}, {"context", 196608}, {"ms", 169.6},
               {"parts_ms", {{"proj", 3.4}, {"rotary", 3.1}, {"concat", 35.4}, {"repeat_kv", 101.7}, {"attention", 26.1}}},
               {"source", "VecInfer Fig. 8, read off the figure"}});
    rows_.add({{"method", "paper: VecInfer"}, {"batch", 1}, {"context", 196608}, {"ms", 21.8},
               {"parts_ms", {{"proj", 3.4}, {"rotary", 3.0}, {"smooth", 1.3}, {"hadamard", 1.2}, {"attention", 12.8}}},
               {"source", "VecInfer Fig. 8, read off the figure"}});
  }

  // A case that does not fit says so in its row; the others go on.
  void guarded(const Method& m, int batch, std::int64_t context, const std::function<void()>& f) {
    try {
      f();
    } catch (const CudaError& error) {
      progress_.note(error.what());
      rows_.add({{"method", m.name}, {"batch", batch}, {"context", context}, {"skipped", error.what()}});
    }
  }

 private:
  BenchRows& rows_;
  Progress& progress_;
  model::ModelConfig config_;
  std::shared_ptr<const GpuEngine> engine_;
  std::int64_t weight_bytes_ = 0;
};

}  // namespace

void bench_model(BenchRows& rows, Progress& progress) {
  const std::string& set = rows.settings().set;
  if (set != "all" && set != "quick" && set != "long" && set != "prefill")
    fail<ConfigError>("bench {}: expected --cases all, quick, long or prefill, got {}", rows.settings().what, set);
  ModelBench bench(rows, progress);
  const bool all = set == "all";
  const auto decode = [&](const Method& m, int batch, std::int64_t context) {
    bench.guarded(m, batch, context, [&] { bench.decode(m, batch, context); });
  };
  if (rows.settings().what == "breakdown") {
    for (const std::int64_t context : {98304, 131072, 163840, 196608})
      if (all || context == 196608)
        bench.guarded(kTwoBits, 1, context, [&] { bench.breakdown(kTwoBits, context); });
    bench.guarded(kDense, 1, 196608, [&] { bench.breakdown(kDense, 196608); });
    bench.paper_breakdown();
    return;
  }
  if (all || set == "quick") {
    decode(kTwoBits, 1, 196608);
    decode(kDense, 1, 196608);
  }
  if (all) {
    for (const std::int64_t context : {1024, 98304, 131072, 163840}) {
      decode(kTwoBits, 1, context);
      decode(kDense, 1, context);
    }
    decode(kTwoBitsShared, 1, 196608);
    decode(kOneBit, 1, 196608);
    decode(kTwoBitsSteps, 1, 196608);
    decode(kTwoBitsSteps, 16, 16384);
    for (const auto& [batch, context] : std::vector<std::pair<int, std::int64_t>>{{8, 32768}, {16, 16384}}) {
      decode(kTwoBits, batch, context);
      decode(kDense, batch, context);
    }
    for (const Method* m : {&kTwoBits, &kDense}) {
      const int most = bench.largest_batch(*m, 32768);
      decode(*m, most, 32768);
    }
  }
  if (all || set == "long")
    for (const std::int64_t context : {std::int64_t{2} << 20, std::int64_t{3} << 20, std::int64_t{4000000}})
      decode(kTwoBits, 1, context);
  if (all || set == "prefill") {
    for (const std::int64_t tokens : {32768, 131072})
      for (const Method* m : {&kDense, &kTwoBits})
        bench.guarded(*m, 1, tokens, [&] { bench.prefill(*m, tokens); });
    bench.guarded(kTwoBits, 1, 196608, [&] { bench.prefill(kTwoBits, 196608); });
  }
  bench.paper_e2e();
}

}  // namespace vi::cuda
