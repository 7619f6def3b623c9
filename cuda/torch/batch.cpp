#include "cuda/torch/batch.h"

#include <algorithm>

#include "core/common/error.h"

namespace vi::cuda {
namespace {

class GpuBatch final : public eval::BatchModel {
 public:
  GpuBatch(std::shared_ptr<const GpuEngine> engine, std::unique_ptr<DeviceCache> cache, const StepOptions& options)
      : stepper_(std::move(engine), std::move(cache), options),
        live_(static_cast<std::size_t>(stepper_.cache().shape().batch)) {}
  const model::ModelConfig& config() const override { return stepper_.engine().config(); }
  int slots() const override { return static_cast<int>(live_.size()); }

  at::Tensor prefill(int slot, std::span<const std::int32_t> prompt) override {
    live_.at(static_cast<std::size_t>(slot)) = false;
    stepper_.cache().clear(slot);
    at::Tensor logits = stepper_.prefill(slot, prompt);
    live_[static_cast<std::size_t>(slot)] = true;
    return logits;
  }

  at::Tensor step(std::span<const eval::SlotToken> tokens) override {
    std::vector<std::int32_t> ids(live_.size(), 0), rows;
    for (const eval::SlotToken& token : tokens) {
      VI_CHECK(live_.at(static_cast<std::size_t>(token.slot)), "a step of slot {}, which is free", token.slot);
      ids[static_cast<std::size_t>(token.slot)] = token.id;
      rows.push_back(token.slot);
    }
    VI_CHECK(std::count(live_.begin(), live_.end(), true) == std::ssize(tokens), "a step of {} sequences of {}",
             tokens.size(), std::count(live_.begin(), live_.end(), true));
    // A free slot is stepped at position 0 for ever: it neither fills up nor completes a block.
    for (int slot = 0; slot < slots(); ++slot)
      if (!live_[static_cast<std::size_t>(slot)] && stepper_.cache().len(slot) > 0) stepper_.cache().set_len(slot, 0);
    const at::Tensor& logits = stepper_.step(ids);
    return logits.index_select(0, stepper_.engine().index(rows));
  }

  void release(int slot) override {
    live_.at(static_cast<std::size_t>(slot)) = false;
    stepper_.cache().set_len(slot, 0);
  }

 private:
  Stepper stepper_;
  std::vector<bool> live_;
};

}  // namespace

std::unique_ptr<eval::BatchModel> make_gpu_batch(std::shared_ptr<const GpuEngine> engine,
                                                 std::unique_ptr<DeviceCache> cache, const StepOptions& options) {
  return std::make_unique<GpuBatch>(std::move(engine), std::move(cache), options);
}

}  // namespace vi::cuda
