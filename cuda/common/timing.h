// Device times by events: warm-up, then single calls with the L2 cache flushed before each (cold),
// or back to back (hot). The median and the spread of the repeats; the caller checks results first.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "cuda/common/buffer.h"

namespace vi::cuda {

struct Timing {
  double median_ms = 0, low_ms = 0, high_ms = 0;  // low, high: 10th and 90th percentile
  int repeats = 0;
};

class Timer {
 public:
  explicit Timer(cudaStream_t stream = nullptr);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  Timing cold(const std::function<void()>& launch, int repeats = 21);
  Timing hot(const std::function<void()>& launch, int repeats = 21);
  // Bytes read plus written per second of a large device-to-device copy: the ceiling to compare
  // with.
  double copy_bandwidth(std::size_t bytes = std::size_t{2} << 30);

 private:
  Timing measure(const std::function<void()>& launch, int repeats, bool flush);
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  Buffer<unsigned char> flush_;
};

}  // namespace vi::cuda
