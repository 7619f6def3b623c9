// Decoding on the GPU, a batch of sequences of any lengths at once: a prompt a sequence, then one token
// each a step. A step is a CUDA graph, valid for any lengths: one, or, in steps in which some sequence completes a piece of
// its window so that tokens are coded before they are attended, a second one that does this too. Both are captured at
// the second step.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cuda/torch/cache.h"
#include "cuda/torch/engine.h"

namespace vi::cuda {

struct StepOptions {
  bool graph = true;   // no effect on the CPU
  bool plain = false;  // ATen instead of the kernels of cuda/step: the naive twin
};

// Milliseconds of the parts of one step, all layers: where the time goes.
struct StepTimes {
  double embed = 0, qkv = 0, rope = 0, flush = 0, attention = 0, output = 0, mlp = 0, head = 0, total = 0;
};

class Stepper {
 public:
  Stepper(std::shared_ptr<const GpuEngine> engine, std::unique_ptr<DeviceCache> cache,
          const StepOptions& options = {});
  ~Stepper();
  DeviceCache& cache() { return *cache_; }
  const GpuEngine& engine() const { return *engine_; }
  static MemoryPlan plan(const model::ModelConfig& config, const CacheShape& shape, const codec::Codec* codec,
                         at::ScalarType dtype, std::int64_t longest_prompt);

  void reset();
  // Exact prefill of one sequence; its keys and values go into the cache. -> f32 logits [1, vocab] of the
  // last token. The sequence's next greedy token is next().
  at::Tensor prefill(int sequence, std::span<const std::int32_t> ids);
  // One token for each sequence -> f32 logits [batch, vocab], overwritten by the next call.
  const at::Tensor& step(std::span<const std::int32_t> ids);
  const at::Tensor& step();  // the greedy tokens of the last logits; nothing is read back
  std::vector<std::int32_t> next() const;  // greedy token of each sequence
  // Means over `repeats` greedy steps of a graph that has event nodes between its parts (which cost
  // about a microsecond each: the total is more than a step's).
  StepTimes time_steps(int repeats);

 private:
  struct Graph;
  struct Marks;
  void run(bool flush, Marks* marks) const;
  const at::Tensor& advance();
  std::shared_ptr<const GpuEngine> engine_;
  std::unique_ptr<DeviceCache> cache_;
  StepOptions options_;
  at::Tensor ids_;                                   // i64 [batch]
  at::Tensor frequency_, cos_sin_;
  double attention_factor_ = 1;
  mutable at::Tensor x_, scratch_, qkv_, q_, o_, o_rows_, gate_, both_, logits_, next_;
  std::unique_ptr<Graph> graph_;
  int eager_steps_ = 0;
};

}  // namespace vi::cuda
