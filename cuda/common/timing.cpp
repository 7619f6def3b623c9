#include "cuda/common/timing.h"

#include <algorithm>
#include <vector>

namespace vi::cuda {

Timer::Timer(cudaStream_t stream) : stream_(stream), flush_(3 * current_device().l2_bytes) {
  VI_CUDA(cudaEventCreate(&begin_));
  VI_CUDA(cudaEventCreate(&end_));
}

Timer::~Timer() {
  cudaEventDestroy(begin_);
  cudaEventDestroy(end_);
}

Timing Timer::measure(const std::function<void()>& launch, int repeats, bool flush) {
  for (int i = 0; i < 3; ++i) launch();
  std::vector<float> ms;
  for (int i = 0; i < repeats; ++i) {
    if (flush) VI_CUDA(cudaMemsetAsync(flush_.data(), i, flush_.bytes(), stream_));
    VI_CUDA(cudaEventRecord(begin_, stream_));
    launch();
    VI_CUDA(cudaEventRecord(end_, stream_));
    VI_CUDA(cudaEventSynchronize(end_));
    float t = 0;
    VI_CUDA(cudaEventElapsedTime(&t, begin_, end_));
    ms.push_back(t);
  }
  std::sort(ms.begin(), ms.end());
  const auto at = [&](double p) {
    return static_cast<double>(ms[static_cast<std::size_t>(p * (ms.size() - 1) + 0.5)]);
  };
  return {at(0.5), at(0.1), at(0.9), repeats};
}

Timing Timer::cold(const std::function<void()>& launch, int repeats) {
  return measure(launch, repeats, true);
}
Timing Timer::hot(const std::function<void()>& launch, int repeats) {
  return measure(launch, repeats, false);
}

double Timer::copy_bandwidth(std::size_t bytes) {
  Buffer<unsigned char> a(bytes), b(bytes);
  a.fill(1);
  const Timing t = hot(
      [&] {
        VI_CUDA(cudaMemcpyAsync(b.data(), a.data(), bytes, cudaMemcpyDeviceToDevice, stream_));
      },
      11);
  return 2.0 * static_cast<double>(bytes) / (t.median_ms * 1e-3);
}

}  // namespace vi::cuda
