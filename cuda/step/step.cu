// Kernels of params.h that are small beside a matrix product. Their oracle is the ATen twin in
// cuda/torch/step_plain.cpp (tests: decode_step_test); traffic is a few rows, launches are what costs.
#include "cuda/common/check.h"
#include "cuda/common/element.cuh"
#include "cuda/step/dependent.cuh"
#include "cuda/step/params.h"

namespace vi::cuda {
namespace {

__global__ void begin_kernel(BeginParams p) {
  const int b = blockIdx.x, half = p.head_dim / 2;
  __shared__ int position;
  if (threadIdx.x == 0) {
    const int len = p.tokens[b];
    position = len;
    int before = 0, after = 0, slot = len;
    if (p.recent > 0) {
      const int rest = len - p.sinks, kept = p.recent - p.step;
      before = rest >= p.recent ? (rest - kept) / p.step * p.step : 0;
      after = rest + 1 >= p.recent ? (rest + 1 - kept) / p.step * p.step : 0;
      if (rest >= 0) slot = p.sinks + min(rest / p.step, p.recent / p.step - 1) * p.step + rest % p.step;
    }
    p.tokens[b] = len + 1;
    p.first[b] = before;
    p.from[b] = after > before ? p.sinks + (p.recent > p.step ? before / p.step % (p.recent / p.step - 1) : 0) * p.step : -1;
    p.slot[b] = slot;
    p.kv_len[b] = p.recent > 0 ? after : len + 1;
    p.dense_len[b] = len + 1 - after;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < half; i += blockDim.x) {
    // The angle is rounded to f32 as on the host, its cosine is not made from f32.
    const double angle = static_cast<double>(__fmul_rn(static_cast<float>(position), p.frequency[b * half + i]));
    p.cos_sin[(2 * b) * half + i] = static_cast<float>(cos(angle) * static_cast<double>(p.attention_factor));
    p.cos_sin[(2 * b + 1) * half + i] =
        static_cast<float>(sin(angle) * static_cast<double>(p.attention_factor));
  }
  std::int64_t id = p.ids[b];
  id = id < 0 ? 0 : id >= p.vocab ? p.vocab - 1 : id;
  for (int i = threadIdx.x; i < p.hidden; i += blockDim.x)
    store_element(p.x, static_cast<std::int64_t>(b) * p.hidden + i, p.dtype,
                  load_element(p.embedding, id * p.hidden + i, p.dtype));
}

__global__ void move_kernel(MovePieceParams p) {
  const int from = p.from[blockIdx.y];
  if (from < 0 || from == p.last) return;
  const std::int64_t words = p.head_dim / 2, head = (static_cast<std::int64_t>(blockIdx.y) * p.n_kv_heads + blockIdx.x) * p.rows * words;
  for (void* rows : {p.key_rows, p.value_rows}) {
    auto* w = static_cast<std::uint32_t*>(rows) + head;
    for (std::int64_t i = threadIdx.x; i < p.step * words; i += blockDim.x) w[from * words + i] = w[p.last * words + i];
  }
}

__device__ float block_sum(float v) {  // every thread gets it; at most 32 warps
  __shared__ float part[32];
  for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(~0u, v, o);
  __syncthreads();
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < static_cast<int>((blockDim.x + 31) / 32); ++i) sum += part[i];
  return sum;
}

__global__ void norm_kernel(const void* x, const void* weight, void* y, int hidden, float eps,
                            Dtype dtype) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * hidden;
  float sum = 0;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) {
    const float v = load_element(x, row + i, dtype);
    sum += v * v;
  }
  const float scale = rsqrtf(block_sum(sum) / static_cast<float>(hidden) + eps);
  for (int i = threadIdx.x; i < hidden; i += blockDim.x)
    store_element(y, row + i, dtype,
                  load_element(x, row + i, dtype) * scale * load_element(weight, i, dtype));
}

// One CTA a (head, sequence), one thread a channel. blockDim.x = head_dim rounded up to a warp.
__global__ void rope_kernel(RopeAppendParams p) {
  __shared__ float row[256];
  const int head = blockIdx.x, b = blockIdx.y, i = threadIdx.x, d = p.head_dim, half = d / 2;
  const bool is_query = head < p.n_q_heads;
  const bool is_key = !is_query && head < p.n_q_heads + p.n_kv_heads;
  const int kv = is_query ? head / (p.n_q_heads / p.n_kv_heads)
                          : (head - p.n_q_heads) % p.n_kv_heads;
  const int all = p.n_q_heads + 2 * p.n_kv_heads;
  const bool on = i < d;
  next_may_start();
  wait_for_previous();
  float x = on ? load_element(p.qkv, (static_cast<std::int64_t>(b) * all + head) * d + i, p.in) : 0;
  const void* norm = is_query ? p.q_norm : is_key ? p.k_norm : nullptr;
  if (norm) {
    const float scale = rsqrtf(block_sum(x * x) / static_cast<float>(d) + p.eps);
    if (on) x = x * scale * load_element(norm, i, p.in);
  }
  if (is_query || is_key) {
    if (on) row[i] = x;
    __syncthreads();
    if (on) {
      const float c = p.cos_sin[(2 * b) * half + i % half], s = p.cos_sin[(2 * b + 1) * half + i % half];
      x = i < half ? x * c - row[i + half] * s : x * c + row[i - half] * s;
    }
    __syncthreads();
  }
  const SideMap& map = is_query ? p.query : is_key ? p.key : p.value;
  if (on && map.center && !is_query) x -= map.center[kv * d + i];
  if (on && map.scale) x *= map.scale[kv * d + i];
  if (map.hadamard) {
    for (int h = 1; h < d && h < 32; h *= 2) {
      const float other = __shfl_xor_sync(~0u, x, h);
      x = (i & h) ? other - x : x + other;
    }
    for (int h = 32; h < d; h *= 2) {
      if (on) row[i] = x;
      __syncthreads();
      if (on) x = (i & h) ? row[i ^ h] - x : x + row[i ^ h];
      __syncthreads();
    }
    x *= rsqrtf(static_cast<float>(d));
  } else if (map.dense) {
    if (on) row[i] = x;
    __syncthreads();
    float sum = 0;
    if (on)
      for (int j = 0; j < d; ++j)
        sum += row[j] * map.dense[(static_cast<std::int64_t>(kv) * d + j) * d + i];
    x = sum;
  }
  if (!on) return;
  if (is_query)
    store_element(p.q, (static_cast<std::int64_t>(b) * p.n_q_heads + head) * d + i, p.out, x);
  else
    store_element(is_key ? p.key_rows : p.value_rows,
                  ((static_cast<std::int64_t>(b) * p.n_kv_heads + kv) * p.capacity + p.slot[b]) * d + i,
                  p.out, x);
}

__global__ void silu_kernel(const void* x, void* y, std::int64_t ffn, Dtype dtype) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= ffn) return;
  const std::int64_t b = blockIdx.y;
  const float g = load_element(x, b * 2 * ffn + i, dtype);
  const float u = load_element(x, b * 2 * ffn + ffn + i, dtype);
  store_element(y, b * ffn + i, dtype, g / (1 + __expf(-g)) * u);
}

}  // namespace

void begin_step(const BeginParams& p) {
  if (p.batch < 1 || !p.tokens || !p.ids || !p.x || !p.embedding || !p.cos_sin || !p.frequency)
    throw_call("begin_step: a pointer is missing");
  begin_kernel<<<p.batch, 256, 0, p.stream>>>(p);
  VI_CUDA(cudaGetLastError());
}

void move_piece(const MovePieceParams& p) {
  if (p.batch < 1 || p.n_kv_heads < 1 || p.head_dim % 2 || !p.key_rows || !p.value_rows || !p.from)
    throw_call("move_piece: shapes do not fit or a pointer is missing");
  move_kernel<<<dim3(p.n_kv_heads, p.batch), 256, 0, p.stream>>>(p);
  VI_CUDA(cudaGetLastError());
}

void rms_norm(const void* x, const void* weight, void* y, int batch, int hidden, float eps,
              Dtype dtype, cudaStream_t stream) {
  if (batch < 1 || hidden < 1) throw_call("rms_norm: no rows");
  norm_kernel<<<batch, hidden >= 2048 ? 512 : 128, 0, stream>>>(x, weight, y, hidden, eps, dtype);
  VI_CUDA(cudaGetLastError());
}

void rope_append(const RopeAppendParams& p) {
  if (p.head_dim < 2 || p.head_dim % 2 || p.head_dim > 256)
    throw_call("rope_append: head_dim " + std::to_string(p.head_dim) + ", expected an even one up to 256");
  if (p.n_kv_heads < 1 || p.n_q_heads % p.n_kv_heads || p.batch < 1)
    throw_call("rope_append: batch and heads do not fit");
  for (const SideMap* map : {&p.query, &p.key, &p.value})
    if (map->hadamard && (map->dense || (p.head_dim & (p.head_dim - 1))))
      throw_call("rope_append: hadamard needs head_dim a power of two, and no dense map beside it");
  launch_dependent(rope_kernel, dim3(p.n_q_heads + 2 * p.n_kv_heads, p.batch),
                   (p.head_dim + 31) / 32 * 32, 0, p.stream, p);
}

void silu_mul(const void* x, void* y, int batch, std::int64_t ffn, Dtype dtype,
              cudaStream_t stream) {
  if (batch < 1 || ffn < 1) throw_call("silu_mul: no rows");
  silu_kernel<<<dim3(static_cast<unsigned>((ffn + 255) / 256), batch), 256, 0, stream>>>(x, y, ffn,
                                                                                        dtype);
  VI_CUDA(cudaGetLastError());
}

}  // namespace vi::cuda
