// Device memory with an owner: allocated and freed by plain cudaMalloc, moved but never copied.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "cuda/common/check.h"

namespace vi::cuda {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t n) : size_(n) {
    if (n > 0) VI_CUDA(cudaMalloc(reinterpret_cast<void**>(&data_), n * sizeof(T)));
  }
  explicit Buffer(const std::vector<T>& host) : Buffer(host.size()) { upload(host); }
  Buffer(Buffer&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  Buffer& operator=(Buffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  ~Buffer() { cudaFree(data_); }

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return size_ * sizeof(T); }
  void upload(const std::vector<T>& host) {
    if (!host.empty())
      VI_CUDA(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyDefault));
  }
  void fill(int byte) {
    if (size_ > 0) VI_CUDA(cudaMemset(data_, byte, bytes()));
  }
  std::vector<T> download() const {
    std::vector<T> host(size_);
    if (size_ > 0) VI_CUDA(cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDefault));
    return host;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace vi::cuda
