// The small kernels of one decode step around the big ones: what is new this step (positions,
// window slots, RoPE angles, embeddings), RMS norm, RoPE + map + append to the exact window, gated
// activation, and matrix-vector products for a batch of one. Raw device pointers, C++17; launches go
// to the given stream and allocate nothing, so they can be captured in a CUDA graph.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/common/dtype.h"

namespace vi::cuda {

// How many tokens of a sequence are coded (core/codec/window.h with the block rule), and which row of the window is a token's. Rows
// in use are the first of the window, in whatever order: exact tokens come in pieces of `step`; the piece being filled has the last
// place, and the one that is coded when it is full gives its place to it. So piece c fills place min(c, n - 1) of n = recent / step
// and, once full, waits in place c mod (n - 1).
struct BeginParams {
  int batch = 0, hidden = 0, head_dim = 0;
  int sinks = 0, recent = 0;  // recent 0: a dense cache, where nothing is coded
  int step = 0;               // divides recent
  std::int64_t vocab = 0;     // ids outside are clamped (the caller checks)
  int* tokens = nullptr;      // [batch] in: length before this step; out: with it
  int* kv_len = nullptr;      // [batch] out: coded tokens that attention of this step sees
  int* dense_len = nullptr;   // [batch] out: exact tokens that attention of this step sees
  int* slot = nullptr;        // [batch] out: where this step's row goes in the window
  int* first = nullptr;       // [batch] out: coded tokens before this step
  int* from = nullptr;        // [batch] out: first row of the piece that is coded in this step; none: -1
  const float* frequency = nullptr;  // [batch, head_dim / 2] angle per position
  float attention_factor = 1;        // YaRN
  float* cos_sin = nullptr;          // [batch, 2, head_dim / 2] out
  const std::int64_t* ids = nullptr;  // [batch]
  const void* embedding = nullptr;    // [vocab, hidden], dtype
  void* x = nullptr;                  // [batch, hidden], dtype
  Dtype dtype = Dtype::bf16;
  cudaStream_t stream = nullptr;
};
void begin_step(const BeginParams& params);

// After a piece was coded: the piece that was being filled, the window's last, takes its place.
struct MovePieceParams {
  void* key_rows = nullptr;  // [batch, n_kv_heads, rows, head_dim], 16 bits an element
  void* value_rows = nullptr;
  const int* from = nullptr;  // [batch] BeginParams::from
  int last = 0, step = 0;     // first row of the last piece; rows of a piece
  int batch = 0, n_kv_heads = 0, head_dim = 0;  // head_dim even
  std::int64_t rows = 0;
  cudaStream_t stream = nullptr;
};
void move_piece(const MovePieceParams& params);

// y = x / rms(x) * weight over rows [batch, hidden].
void rms_norm(const void* x, const void* weight, void* y, int batch, int hidden, float eps,
              Dtype dtype, cudaStream_t stream);

// One side's map into the codec's space: y = ((x - center) * scale), then Hadamard or a dense matrix.
// All pointers may be null. Per KV head: [n_kv_heads, head_dim], dense [n_kv_heads, head_dim, head_dim].
struct SideMap {
  const float* center = nullptr;
  const float* scale = nullptr;
  const float* dense = nullptr;
  bool hadamard = false;
};

struct RopeAppendParams {
  const void* qkv = nullptr;          // [batch, (n_q_heads + 2 n_kv_heads) head_dim], in
  const float* cos_sin = nullptr;     // [batch, 2, head_dim / 2]
  const void* q_norm = nullptr;       // [head_dim], in; null: none
  const void* k_norm = nullptr;
  float eps = 0;
  SideMap query, key, value;          // query: center is not used
  void* q = nullptr;                  // [batch, n_q_heads, head_dim], out
  void* key_rows = nullptr;           // [batch, n_kv_heads, capacity, head_dim], out
  void* value_rows = nullptr;
  const int* slot = nullptr;          // [batch] row of each window
  std::int64_t capacity = 0;
  int batch = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0;  // head_dim even, at most 256
  Dtype in = Dtype::bf16, out = Dtype::bf16;
  cudaStream_t stream = nullptr;
};
void rope_append(const RopeAppendParams& params);

// y [batch, ffn] = silu(x[:, :ffn]) * x[:, ffn:].
void silu_mul(const void* x, void* y, int batch, std::int64_t ffn, Dtype dtype, cudaStream_t stream);

// y = W x for one vector: W [rows, columns] row-major in dtype (f16 or bf16), x [columns]; f32 sums.
struct GemvParams {
  enum class Then { store, add, silu };  // store: y = r; add: y += r; silu: y = silu(r[i]) r[i + rows / 2]
  const void* w = nullptr;
  const void* x = nullptr;
  const void* norm = nullptr;  // [columns]: x is RMS-normed with it first; null: not
  float eps = 0;
  const void* bias = nullptr;  // [rows] or null
  void* y = nullptr;           // dtype, or f32 (f32_out, with store only)
  bool f32_out = false;
  Then then = Then::store;
  std::int64_t rows = 0, columns = 0;  // columns a multiple of 8; rows even for silu
  Dtype dtype = Dtype::bf16;
  cudaStream_t stream = nullptr;
};
void gemv(const GemvParams& params);
bool gemv_serves(std::int64_t columns, Dtype dtype);

}  // namespace vi::cuda
