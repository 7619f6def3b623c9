// libvi_gpu.so: what eval/gpu_backend.h loads.
#include <c10/util/Exception.h>

#include "core/common/error.h"
#include "core/common/interrupt.h"
#include "cuda/bench/gpu_bench.h"
#include "cuda/common/check.h"
#include "cuda/torch/batch.h"
#include "cuda/torch/codebooks.h"
#include "cuda/torch/stepper.h"
#include "eval/gpu_backend.h"

namespace vi::cuda {
namespace {

// The decoder owns the engine and outlives what is made on it.
std::shared_ptr<const GpuEngine> borrowed(const GpuEngine& engine) {
  return {std::shared_ptr<void>(), &engine};
}

const GpuEngine* engine_of(const model::Decoder& decoder) {
  const auto* engine = dynamic_cast<const GpuEngine*>(&decoder.engine());
  VI_CHECK(engine, "a decoder that is not on the GPU");
  return engine;
}

// Why no kernel serves this cache; nullopt if one does.
std::optional<std::string> why_reconstructed(const model::ModelConfig& c, const codec::Codec* codec) {
  if (codec) return why_not_coded(*codec);
  if (c.head_dim == 64 || c.head_dim == 128) return std::nullopt;
  return "no dense kernel for this head_dim";
}

CacheShape shape_of(const GpuEngine& engine, int batch, std::int64_t capacity) {
  const model::ModelConfig& c = engine.config();
  return {c.n_layers, c.n_q_heads, c.n_kv_heads, c.head_dim, batch, capacity,
          engine.dtype() == at::kFloat ? at::kHalf : engine.dtype()};
}

class GpuStepModel final : public eval::StepModel {
 public:
  GpuStepModel(const model::Decoder& decoder, const GpuEngine& engine, std::unique_ptr<DeviceCache> cache)
      : stepper_(borrowed(engine), std::move(cache)),
        decoder_(decoder) {}
  const model::ModelConfig& config() const override { return decoder_.config(); }
  void reset() override { stepper_.reset(); }
  at::Tensor prefill(std::span<const std::int32_t> prompt) override { return stepper_.prefill(0, prompt); }
  at::Tensor step(std::int32_t id) override { return stepper_.step(std::span(&id, 1)); }

 private:
  Stepper stepper_;
  const model::Decoder& decoder_;
};

class Backend final : public eval::GpuBackend {
 public:
  std::string device_name() override { return current_device().name; }

  std::unique_ptr<model::DecoderEngine> make_engine(const model::ModelConfig& config,
                                                    const model::WeightFile& weights, at::ScalarType dtype,
                                                    Progress& progress) override {
    const MemoryPlan plan = GpuEngine::plan(config, dtype);
    progress.note("GPU memory: " + plan.text());
    check_fits(plan);
    model::DecoderOptions options;
    options.device = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(current_device().index));
    options.dtype = dtype;
    std::unique_ptr<model::DecoderEngine> engine;
    guard_memory(plan, [&] { engine = std::make_unique<GpuEngine>(config, weights_of(weights), options); });
    return engine;
  }

  std::unique_ptr<eval::StepModel> make_step_model(const model::Decoder& decoder,
                                                   std::shared_ptr<const codec::Codec> codec,
                                                   std::int64_t capacity, std::string* how) override {
    const GpuEngine* engine = engine_of(decoder);
    if (const auto why = why_reconstructed(decoder.config(), codec.get())) {
      if (how) *how = fmt::format("reconstructions in f32 ({})", *why);
      return eval::make_reconstructing_model(decoder, std::move(codec));
    }
    const CacheShape shape = shape_of(*engine, 1, capacity);
    const MemoryPlan plan = DeviceCache::plan(shape, codec.get());
    check_fits(plan);
    std::unique_ptr<eval::StepModel> model;
    guard_memory(plan, [&] {
      const auto tables =
          codec ? std::make_shared<const eval::DeviceCodec>(codec, engine->device()) : nullptr;
      auto cache = std::make_unique<DeviceCache>(shape, tables, engine->device(), true);
      if (how) *how = fmt::format("{} kernel; {}", cache->kernel(), plan.text());
      model = std::make_unique<GpuStepModel>(decoder, *engine, std::move(cache));
    });
    return model;
  }

  std::unique_ptr<eval::BatchModel> make_batch_model(const model::Decoder& decoder,
                                                     std::shared_ptr<const codec::Codec> codec, int slots,
                                                     std::int64_t capacity, std::string* how) override {
    const GpuEngine* engine = engine_of(decoder);
    if (const auto why = why_reconstructed(decoder.config(), codec.get())) {
      if (how) *how = fmt::format("reconstructions in f32, attention one sequence after another ({})", *why);
      return eval::make_reconstructing_batch(decoder, std::move(codec), slots);
    }
    const CacheShape shape = shape_of(*engine, slots, capacity);
    MemoryPlan plan = Stepper::plan(decoder.config(), shape, codec.get(), engine->dtype(), capacity);
    plan.parts.erase(plan.parts.begin());  // the weights, which are there already
    check_fits(plan);
    std::unique_ptr<eval::BatchModel> model;
    guard_memory(plan, [&] {
      const auto tables =
          codec ? std::make_shared<const eval::DeviceCodec>(codec, engine->device()) : nullptr;
      auto cache = std::make_unique<DeviceCache>(shape, tables, engine->device(), true);
      if (how) *how = fmt::format("{} kernel, batch of {}; {}", cache->kernel(), slots, plan.text());
      model = make_gpu_batch(borrowed(*engine), std::move(cache));
    });
    return model;
  }

  quant::SearchFactory search() override { return gpu_search(); }
  std::vector<quant::KmeansResult> train_batched(std::span<const quant::KmeansProblem> problems,
                                                 const quant::KmeansSettings& settings, Progress& progress) override {
    return cuda::train_batched(problems, settings, progress);
  }
  std::vector<Json> bench(const std::string& what, const std::string& set, Progress& progress,
                          const std::function<void(const Json&)>& each) override {
    return gpu_bench({what, set, {}}, progress, each);
  }
  std::vector<Json> profile(const std::vector<std::int64_t>& kv_lens, Progress& progress) override {
    return gpu_bench({"kernels", "all", kv_lens}, progress, {});
  }
};

}  // namespace
}  // namespace vi::cuda

extern "C" vi::eval::GpuBackend* vi_gpu_backend(std::string* why) {
  try {
    vi::cuda::current_device();
    static vi::cuda::Backend backend;
    return &backend;
  } catch (const std::exception& error) {
    *why = error.what();
    return nullptr;
  }
}
