// A random decode-attention problem, on host and device at once: what tests and the benchmark run.
// Centroids may be biased and hold outlier channels, as keys of real models do.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/common/buffer.h"
#include "cuda/decode_attention/launch.h"

namespace vi::cuda {

struct CaseSpec {
  int n_kv_heads = 2, group = 4, head_dim = 128;
  CodeShape key{4, 8, false}, value{4, 8, false};
  std::vector<int> kv_len;     // one a sequence
  int capacity = 0;            // 0: the longest of kv_len
  int page_tokens = 0;         // 0: contiguous; pages are dealt out in a shuffled order
  std::vector<int> dense_len;  // empty: none
  Dtype dtype = Dtype::f16;
  double bias = 0;  // every key channel's mean is N(0, bias^2); every eighth one ten times that
  double key_scale = 1;
  std::uint64_t seed = 1;
  bool device_codes =
      false;  // random codes made on the device only (for large timings): host has none
};

class DecodeCase {
 public:
  explicit DecodeCase(const CaseSpec& spec);
  const CaseSpec& spec() const { return spec_; }
  Problem problem(const Device& device) const;
  const DecodeParams& host() const { return host_; }
  // Launches on the device; the output is poisoned first.
  struct Result {
    std::vector<float> out, lse;
    std::vector<std::uint16_t> bits;
  };
  Result run(const KernelConfig& config, cudaStream_t stream = nullptr);
  DecodeParams device_params(const KernelConfig& config,
                             cudaStream_t stream = nullptr);  // sets the workspace
  Result read() const;
  void set_lengths(const std::vector<int>& kv_len);  // each at most the capacity
  void poison();
  // Copies the codes of one sequence back to the host, for the oracle of a large case (contiguous
  // only).
  DecodeParams host_of_sequence(int b, std::vector<std::uint8_t>& key,
                                std::vector<std::uint8_t>& value) const;
  std::int64_t code_bytes() const;  // that one decode step reads

 private:
  CaseSpec spec_;
  DecodeParams host_, device_;
  std::vector<std::uint16_t> q_, book_k_, book_v_, dense_k_, dense_v_;
  std::vector<std::uint8_t> codes_k_, codes_v_;
  std::vector<int> kv_len_, dense_len_, table_;
  Buffer<std::uint16_t> d_q_, d_out_, d_book_k_, d_book_v_, d_by_k_, d_by_v_, d_dense_k_,
      d_dense_v_;
  Buffer<std::uint8_t> d_codes_k_, d_codes_v_, workspace_;
  Buffer<float> d_lse_, d_mean_;
  Buffer<int> d_len_, d_dense_len_, d_table_;
};

// Fills device memory with copies of a host pattern.
void spread_on_device(void* to, std::size_t n, const void* seed, std::size_t seed_bytes);
// ||a - b|| / ||b||; NaN if a holds one.
double relative_error(const float* a, const double* b, std::size_t n);

}  // namespace vi::cuda
