#include "cuda/torch/memory_plan.h"

#include <ATen/Context.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include "core/common/out_of_memory.h"
#include "cuda/common/check.h"

namespace vi::cuda {
namespace {

std::string gib(std::int64_t bytes) {
  const double g = static_cast<double>(bytes) / (1 << 30);
  return g < 0.1 ? fmt::format("{:.1f} MiB", g * 1024) : fmt::format("{:.2f} GiB", g);
}

}  // namespace

std::int64_t MemoryPlan::total() const {
  std::int64_t sum = 0;
  for (const auto& [what, bytes] : parts) sum += bytes;
  return sum;
}

std::string MemoryPlan::text() const {
  std::string text;
  for (const auto& [what, bytes] : parts)
    text += fmt::format("{}{} {}", text.empty() ? "" : " + ", what, gib(bytes));
  return text + " = " + gib(total());
}

std::int64_t free_bytes() {
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);  // else torch has no statistics yet
  std::size_t free = 0, all = 0;
  VI_CUDA(cudaMemGetInfo(&free, &all));
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(
      static_cast<c10::DeviceIndex>(current_device().index));
  const auto& reserved = stats.reserved_bytes[0];
  const auto& used = stats.allocated_bytes[0];
  return static_cast<std::int64_t>(free) + reserved.current - used.current;
}

void check_fits(const MemoryPlan& plan) {
  const std::int64_t free = free_bytes();
  if (plan.total() > free)
    fail<OutOfMemoryError>("out of GPU memory: the plan {} needs more than the {} that are free",
                    plan.text(), gib(free));
}

void guard_memory(const MemoryPlan& plan, const std::function<void()>& f) {
  try {
    f();
  } catch (const c10::OutOfMemoryError&) {
    fail<OutOfMemoryError>("out of GPU memory: planned {}, {} free at the failure", plan.text(),
                    gib(free_bytes()));
  } catch (const c10::AcceleratorError& error) {
    fail<CudaError>("{}", error.what_without_backtrace());
  }
}

}  // namespace vi::cuda
