// The GPU half of the program: a library of its own (vi_gpu) that is loaded when `--device cuda` asks for
// it, so that everything else starts fast and works where there is neither CUDA nor a GPU.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/common/json.h"
#include "core/common/progress.h"
#include "core/decoder/decoder.h"
#include "core/decoder/decoder_engine.h"
#include "core/quant/kmeans.h"
#include "eval/generation/batch_model.h"
#include "eval/generation/step_model.h"

namespace vi::eval {

class GpuBackend {
 public:
  virtual ~GpuBackend() = default;
  virtual std::string device_name() = 0;
  // The decoder on the GPU. The plan of its memory goes to `progress` before it is taken.
  virtual std::unique_ptr<model::DecoderEngine> make_engine(const model::ModelConfig& config,
                                                            const model::WeightFile& weights,
                                                            at::ScalarType dtype, Progress& progress) = 0;
  // decoder: made of make_engine's. codec null: exact. `how` may be null: what holds the cache.
  virtual std::unique_ptr<StepModel> make_step_model(const model::Decoder& decoder,
                                                     std::shared_ptr<const codec::Codec> codec,
                                                     std::int64_t capacity, std::string* how) = 0;
  // The same for several sequences at once (eval/generation/batch_model.h). OutOfMemoryError where they do not fit.
  virtual std::unique_ptr<BatchModel> make_batch_model(const model::Decoder& decoder,
                                                       std::shared_ptr<const codec::Codec> codec, int slots,
                                                       std::int64_t capacity, std::string* how) = 0;
  // k-means of codebooks. search(): nearest centroids for faiss::Clustering, the same bytes as on the CPU.
  // train_batched(): all problems at once by our own trainer, within 0.5 % of FAISS's inertia; problems of
  // one shape without weights (Error otherwise).
  virtual quant::SearchFactory search() = 0;
  virtual std::vector<quant::KmeansResult> train_batched(std::span<const quant::KmeansProblem> problems,
                                                         const quant::KmeansSettings& settings,
                                                         Progress& progress) = 0;
  // `vecinfer bench WHAT --device cuda`: kernels | e2e | breakdown | kmeans; set: which cases (docs/kernels).
  // One row a measurement (docs/artifacts.md), also given to `each` as soon as it is there.
  virtual std::vector<Json> bench(const std::string& what, const std::string& set, Progress& progress,
                                  const std::function<void(const Json&)>& each) = 0;
  // The profile stage: bench kernels of one sequence at these lengths.
  virtual std::vector<Json> profile(const std::vector<std::int64_t>& kv_lens, Progress& progress) = 0;
};

// Loads it on first use. CudaError (one line) where this build has none, a library it needs is missing,
// or there is no GPU.
GpuBackend& gpu_backend();

}  // namespace vi::eval

// The one symbol of the library: the backend (a static object), or null with the reason in *why.
extern "C" vi::eval::GpuBackend* vi_gpu_backend(std::string* why);
