// The KV cache of a batch on a device: packed codes in the kernels' block layout beside an exact window
// (first tokens and the newest ones, in the codec's space), or dense rows. Each sequence has its own
// length. State lives on the device, so that a step can be a CUDA graph; the host keeps a copy of the
// lengths. Flush rule: `block` on both sides (core/codec/window.h), the same as on the CPU.
// On a CPU device it works by the kernels' oracles: what the tests compare with core/cache.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cuda/torch/memory_plan.h"
#include "cuda/torch/ops.h"

namespace vi::cuda {

struct CacheShape {
  int n_layers = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0;
  int batch = 1;
  std::int64_t capacity = 0;          // tokens of a sequence at most, exact ones included
  at::ScalarType dtype = at::kHalf;   // of exact rows and queries: f16 or bf16
};

// Why a codec cannot be held as codes on the GPU ("keys are integers", ...); nullopt if it can.
std::optional<std::string> why_not_coded(const codec::Codec& codec);

class DeviceCache {
 public:
  // codec null: dense. Error if the codec cannot be held as codes, or no kernel serves it (with
  // allow_naive the slow kernel then does, and kernel() says so).
  DeviceCache(const CacheShape& shape, std::shared_ptr<const eval::DeviceCodec> codec, at::Device device,
              bool allow_naive = false);
  static MemoryPlan plan(const CacheShape& shape, const codec::Codec* codec);

  const CacheShape& shape() const { return shape_; }
  const eval::DeviceCodec* codec() const { return codec_.get(); }
  std::string kernel() const;  // kernel_name() of what attends to codes (each, where layers differ), or "dense"
  std::int64_t len(int sequence) const { return len_.at(static_cast<std::size_t>(sequence)); }
  std::int64_t code_bytes() const;  // that one step reads, all layers

  void reset();
  void clear(int sequence);  // as reset(), of one
  // A whole prompt of one layer: k, v [n_kv_heads, n, head_dim] post-RoPE. The sequence must be empty.
  void put_prompt(int layer, int sequence, const at::Tensor& k, const at::Tensor& v);
  void set_len(int sequence, std::int64_t tokens);  // after put_prompt of every layer
  // Random codes and rows for timings, each sequence `tokens` long.
  void fill_random(std::int64_t tokens);

  // One step: the device's begin_step with these tensors, then for each layer rows(), append by rope_append, flush(),
  // attend(). advance() at the end.
  bool flushes_next() const;  // does this step code tokens of some sequence?
  // If so: codes what begin_step's from() says. Device state alone decides, so that a graph holds it.
  void flush(int layer, bool plain = false) const;
  void attend(int layer, const at::Tensor& q, at::Tensor& out) const;
  void advance();             // host lengths; the device's were advanced by begin_step
  void check_room() const;    // Error where a sequence is full

  int sinks() const { return sinks_; }
  int recent() const { return codec_ ? recent_ : 0; }
  int step() const { return step_; }  // tokens coded at once
  const at::Tensor& tokens() const { return tokens_; }
  const at::Tensor& kv_len() const { return kv_len_; }
  const at::Tensor& dense_len() const { return dense_len_; }
  const at::Tensor& slot() const { return slot_; }
  const at::Tensor& first() const { return first_; }
  const at::Tensor& from() const { return from_; }
  at::Tensor key_rows(int layer) const { return key_rows_[layer]; }
  at::Tensor value_rows(int layer) const { return value_rows_[layer]; }

 private:
  std::int64_t coded(std::int64_t tokens) const;
  CacheShape shape_;
  std::shared_ptr<const eval::DeviceCodec> codec_;
  at::Device device_;
  // Of the window's pieces of `step` tokens, the place where the c-th waits until it is coded (cuda/step/params.h).
  std::int64_t place(std::int64_t piece) const { return recent_ > step_ ? piece % (recent_ / step_ - 1) : 0; }
  int sinks_ = 0, recent_ = 0, step_ = 0;
  std::int64_t rows_ = 0;            // of a window; of the dense cache: capacity
  std::int64_t coded_capacity_ = 0;
  int splits_ = 1;
  struct CodedLayer {
    KernelConfig config;
    at::Tensor key_codes, value_codes;      // u8 [batch, n_kv_heads, stream]
    at::Tensor key_by_code, value_by_code;  // f16 [n_kv_heads, ksub, books, dsub]
    at::Tensor key_mean;                    // f32 [n_kv_heads, head_dim]
  };
  std::vector<CodedLayer> coded_layers_;  // [n_layers]; dense: none
  at::Tensor key_rows_, value_rows_;    // [n_layers, batch, n_kv_heads, rows_, head_dim]
  at::Tensor workspace_;
  at::Tensor tokens_, kv_len_, dense_len_, slot_, first_, from_;  // i32 [batch]
  std::vector<std::int64_t> len_;
};

}  // namespace vi::cuda
