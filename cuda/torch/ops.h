// Glue between tensors and the kernels' parameters: checks first (device, dtype, shape, contiguity: one
// clear vi::Error before any launch), then the launch on the current stream. On a CPU tensor, or with
// `plain`, the same operation is done by ATen or by the f64 oracle: the naive twins, used by the tests.
#pragma once

#include <ATen/core/Tensor.h>
#include <cuda_runtime_api.h>

#include <string_view>

#include "cuda/decode_attention/launch.h"
#include "cuda/encode/params.h"
#include "cuda/step/params.h"
#include "eval/modes/device_codec.h"

namespace vi::cuda {

Dtype dtype_of(const at::Tensor& tensor, std::string_view what);  // f16, bf16 or f32; else Error
// Error "<what>: expected <dtype> [a, b] on <device>, got ...", unless all agree and it is contiguous.
void expect(const at::Tensor& tensor, std::string_view what, at::ScalarType dtype, at::Device device,
            at::IntArrayRef shape);
cudaStream_t current_stream(at::Device device);  // null on the CPU

// Rows of a cache and what it is asked, one layer. Tensors are checked against each other.
struct StepRows {
  at::Tensor qkv;      // [batch, (n_q_heads + 2 n_kv_heads) head_dim]
  at::Tensor cos_sin;  // f32 [batch, 2, head_dim / 2]
  at::Tensor q_norm, k_norm;  // [head_dim] or undefined
  double eps = 0;
  at::Tensor slot;        // i32 [batch]
  at::Tensor q;           // [batch, n_q_heads, head_dim], f16 or bf16
  at::Tensor key, value;  // [batch, n_kv_heads, capacity, head_dim], as q
};
// `codec` null: no maps (a dense cache).
void rope_append(const StepRows& rows, const eval::DeviceCodec* codec, int layer, bool plain);

void rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, at::Tensor& y, bool plain);
void silu_mul(const at::Tensor& x, at::Tensor& y, bool plain);

struct Linear {
  at::Tensor weight;  // [rows, columns]
  at::Tensor bias;    // [rows] or undefined
};
// y (+)= norm(x) W^T + bias; norm undefined: x as it is. y f32 is allowed when `add` is not set.
// scratch: [batch, columns] of x's type, for the normed rows of a batch; may be x's own where norm is
// undefined.
void linear(const at::Tensor& x, const at::Tensor& norm, double eps, const Linear& w, bool add,
            at::Tensor& y, at::Tensor& scratch, bool plain);
// y [batch, ffn] = silu(gate) * up of norm(x); both: [batch, 2 ffn] scratch.
void gated(const at::Tensor& x, const at::Tensor& norm, double eps, const Linear& gate_up,
           at::Tensor& y, at::Tensor& scratch, at::Tensor& both, bool plain);

// Codes n rows of each sequence behind the first[] tokens its streams hold. `mapped`: the rows are in the
// codec's space already.
struct EncodeRows {
  at::Tensor rows;    // [batch, n_kv_heads, n, head_dim]; strides: 1 inside a row, n rows from a sequence
                      // to the next
  at::Tensor from;    // i32 [batch]; if defined, `rows` are whole windows [batch, n_kv_heads, window, head_dim],
                      // contiguous: n_tokens rows from row from[s] on are coded, or none of s where from[s] < 0
  std::int64_t n_tokens = 0;  // with `from`
  at::Tensor first;   // i32 [batch]
  at::Tensor codes;   // u8 [batch, n_kv_heads, stream bytes]
  bool mapped = false;
};
void encode(const EncodeRows& rows, const eval::DeviceSide& side, int layer);

// In each window of `key` and `value` [batch, n_kv_heads, window, head_dim] the `step` rows from row `last` on are copied
// to row from[s] on; nothing is done where from[s] < 0.
void move_piece(at::Tensor& key, at::Tensor& value, const at::Tensor& from, int last, int step, bool plain);

// Attention over coded tokens and exact rows; p's pointers are made from checked tensors by the cache.
void attend(const DecodeParams& p, const KernelConfig& config, at::Device device);
void attend(const DenseParams& p, at::Device device);

}  // namespace vi::cuda
