// Launchers of cuda/kivi, the naive twin of the decode kernel, and coding.
#include "cuda/common/check.h"
#include "cuda/kivi/kivi.cuh"

namespace vi::cuda {
namespace {

using namespace kivi;

int passes_of(int n_q_heads, int n_kv_heads) {
  return (n_q_heads / n_kv_heads + kHeads - 1) / kHeads;
}

__device__ float half_of(const std::uint32_t* record, int at) {
  return __half2float(reinterpret_cast<const __half*>(record)[at]);
}

// CTA = one query head of one sequence; threads over channels, scores by one warp each.
__global__ void decode_naive(KiviParams p) {
  extern __shared__ float score[];  // [32]
  const int d = threadIdx.x, head = blockIdx.x, b = blockIdx.y,
            h = head / (p.n_q_heads / p.n_kv_heads);
  const std::int64_t row = (static_cast<std::int64_t>(b) * p.n_q_heads + head) * p.head_dim;
  const std::uint32_t* records =
      p.records + (static_cast<std::int64_t>(b) * p.n_kv_heads + h) * p.n_blocks *
                      static_cast<std::int64_t>(record_words(p.head_dim));
  float top = -1e30f, sum = 0, o = 0;
  for (int t = 0; t < p.kv_len[b]; ++t) {
    const std::uint32_t* record =
        records + static_cast<std::int64_t>(t / kBlock) * record_words(p.head_dim);
    const int token = t % kBlock;
    const CodeAt at = key_code_at(token, d);
    const float k = static_cast<float>(record[at.word] >> at.shift & kTop) *
                        half_of(record, key_half_at(p.head_dim, d, false)) +
                    half_of(record, key_half_at(p.head_dim, d, true));
    float s = load_element(p.q, row + d, p.dtype) * k;
    for (int step = 16; step > 0; step /= 2) s += __shfl_xor_sync(kFull, s, step);
    __syncthreads();
    if (d % 32 == 0) score[d / 32] = s;
    __syncthreads();
    s = 0;
    for (int w = 0; w < p.head_dim / 32; ++w) s += score[w];
    s *= p.scale * kLog2e;
    const CodeAt of = value_code_at(p.head_dim, token, d);
    const float v = static_cast<float>(record[of.word] >> of.shift & kTop) *
                        half_of(record, value_half_at(p.head_dim, token, d, false)) +
                    half_of(record, value_half_at(p.head_dim, token, d, true));
    const float next = fmaxf(top, s), shrink = exp2f(top - next), weight = exp2f(s - next);
    sum = sum * shrink + weight;
    o = o * shrink + weight * v;
    top = next;
  }
  store_element(p.out, row + d, p.dtype, sum > 0 ? o / sum : 0.f);
}

struct Group {
  float scale, minimum;
  __device__ Group(float low, float high) {  // as stored, saturated
    const auto half = [](float v) {
      return __half2float(__float2half_rn(fminf(fmaxf(v, -65504.f), 65504.f)));
    };
    scale = half(__fdiv_rn(high - low, static_cast<float>(kTop)));
    minimum = half(low);
  }
  __device__ unsigned code(float x) const {
    if (scale == 0) return 0;
    return static_cast<unsigned>(
        rintf(fminf(fmaxf(__fdiv_rn(x - minimum, scale), 0.f), static_cast<float>(kTop))));
  }
};

// CTA = one block of 32 tokens of one head, head_dim threads.
__global__ void encode(const void* key, const void* value, std::uint32_t* records, int n,
                       int head_dim, Dtype dtype) {
  extern __shared__ std::uint32_t record[];
  const int d = threadIdx.x, words = record_words(head_dim), block = blockIdx.x;
  const std::int64_t first =
      (static_cast<std::int64_t>(blockIdx.y) * n + block * kBlock) * head_dim;
  const int tokens = min(kBlock, n - block * kBlock);
  for (int i = d; i < words; i += head_dim) record[i] = 0;
  __syncthreads();
  auto* halves = reinterpret_cast<__half*>(record);
  float low = INFINITY, high = -INFINITY;
  for (int t = 0; t < tokens; ++t) {
    const float x = load_element(key, first + t * head_dim + d, dtype);
    low = fminf(low, x);
    high = fmaxf(high, x);
  }
  const Group channel(low, high);
  halves[key_half_at(head_dim, d, false)] = __float2half_rn(channel.scale);
  halves[key_half_at(head_dim, d, true)] = __float2half_rn(channel.minimum);
  for (int t = 0; t < tokens; ++t) {
    const CodeAt at = key_code_at(t, d);
    atomicOr(&record[at.word], channel.code(load_element(key, first + t * head_dim + d, dtype))
                                   << at.shift);
    const float x = load_element(value, first + t * head_dim + d, dtype);
    low = high = x;
    for (int step = 16; step > 0; step /= 2) {
      low = fminf(low, __shfl_xor_sync(kFull, low, step));
      high = fmaxf(high, __shfl_xor_sync(kFull, high, step));
    }
    const Group token(low, high);
    if (d % 32 == 0) {
      halves[value_half_at(head_dim, t, d, false)] = __float2half_rn(token.scale);
      halves[value_half_at(head_dim, t, d, true)] = __float2half_rn(token.minimum);
    }
    const CodeAt of = value_code_at(head_dim, t, d);
    atomicOr(&record[of.word], token.code(x) << of.shift);
  }
  __syncthreads();
  std::uint32_t* out =
      records + (static_cast<std::int64_t>(blockIdx.y) * gridDim.x + block) * words;
  for (int i = d; i < words; i += head_dim) out[i] = record[i];
}

void check(const KiviParams& p) {
  if (!p.q || !p.out || !p.records || !p.kv_len)
    throw_call("kivi_decode_attention: a pointer is missing");
  if (p.n_kv_heads < 1 || p.n_q_heads < 1 || p.n_q_heads % p.n_kv_heads || p.batch < 1 ||
      p.batch > 65535 || p.num_splits < 1 || p.n_blocks < 0)
    throw_call("kivi_decode_attention: batch, heads, blocks and splits do not fit");
  if (p.dtype == Dtype::f32 || (p.head_dim != 64 && p.head_dim != 128))
    throw_call("kivi_decode_attention: head_dim 64 or 128 in f16 or bf16 only");
}

template <int kHeadDim>
void launch(const KiviParams& p) {
  static const bool ready = [] {
    VI_CUDA(cudaFuncSetAttribute(kivi::decode<kHeadDim>,
                                 cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 Shape<kHeadDim>::kShared));
    return true;
  }();
  static_cast<void>(ready);
  const int passes = passes_of(p.n_q_heads, p.n_kv_heads);
  kivi::decode<kHeadDim><<<dim3(p.num_splits, p.n_kv_heads * passes, p.batch), kThreads,
                           Shape<kHeadDim>::kShared, p.stream>>>(p, passes);
  VI_CUDA(cudaGetLastError());
}

}  // namespace

int kivi_splits(int batch, int n_q_heads, int n_kv_heads, int n_blocks, int n_sms) {
  // One CTA a multiprocessor keeps enough bytes in flight (two measured 5 % slower). Time goes with
  // whole waves of the longest warp's blocks, and a CTA's start and end cost about six blocks'
  // time.
  const std::int64_t items =
      static_cast<std::int64_t>(batch) * n_kv_heads * passes_of(n_q_heads, n_kv_heads);
  const int most = n_blocks / (2 * kWarps) < 128 ? n_blocks / (2 * kWarps) : 128;
  int best = 1;
  std::int64_t best_cost = 0;
  for (int splits = 1; splits <= (most < 1 ? 1 : most); ++splits) {
    const int per = (n_blocks + splits - 1) / splits;
    const std::int64_t waves = (items * splits + n_sms - 1) / n_sms,
                       cost = waves * ((per + kWarps - 1) / kWarps + 6);
    if (splits == 1 || cost < best_cost) {
      best = splits;
      best_cost = cost;
    }
  }
  return best;
}

std::size_t kivi_workspace_bytes(const KiviParams& p) {
  const std::size_t items =
      static_cast<std::size_t>(p.batch) * p.n_kv_heads * passes_of(p.n_q_heads, p.n_kv_heads);
  return 4 * (items +
              static_cast<std::size_t>(p.batch) * p.n_q_heads * p.num_splits * (p.head_dim + 1));
}

void kivi_decode_attention(const KiviParams& p) {
  check(p);
  if (p.num_splits > 1 && !p.workspace) throw_call("kivi_decode_attention: a pointer is missing");
  p.head_dim == 128 ? launch<128>(p) : launch<64>(p);
}

void kivi_decode_attention_naive(const KiviParams& p) {
  check(p);
  decode_naive<<<dim3(p.n_q_heads, p.batch), p.head_dim, 32 * sizeof(float), p.stream>>>(p);
  VI_CUDA(cudaGetLastError());
}

void kivi_encode(const void* key, const void* value, std::uint32_t* records, int n_heads, int n,
                 int head_dim, Dtype dtype, cudaStream_t stream) {
  if (!key || !value || !records) throw_call("kivi_encode: a pointer is missing");
  if (n_heads < 1 || n_heads > 65535 || n < 0 || (head_dim != 64 && head_dim != 128))
    throw_call("kivi_encode: 1..65535 heads of dimension 64 or 128");
  if (n == 0) return;
  encode<<<dim3((n + kBlock - 1) / kBlock, n_heads), head_dim, 4 * record_words(head_dim),
           stream>>>(key, value, records, n, head_dim, dtype);
  VI_CUDA(cudaGetLastError());
}

}  // namespace vi::cuda
