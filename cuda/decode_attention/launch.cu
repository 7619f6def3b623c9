// Launchers: describe (params.h), decide (select.cpp), launch. Everything on params.stream.
#include "cuda/common/check.h"
#include "cuda/decode_attention/generic.cuh"
#include "cuda/decode_attention/instances.h"
#include "cuda/decode_attention/launch.h"
#include "cuda/decode_attention/naive.cuh"

namespace vi::cuda {
namespace {

void check_side(const CodedSide& side, const char* name, KernelKind kind, int head_dim,
                bool paged) {
  const std::string what = std::string("decode_attention: ") + name;
  const bool lookup = kind == KernelKind::lookup,
             fast = lookup || kind == KernelKind::gather || kind == KernelKind::sliced;
  if (!side.codes || !(lookup ? side.by_code : side.centroids))
    throw_call(what + " codes or codebook missing");
  if (lookup && name[0] == 'k' && !side.mean)
    throw_call(what + " mean centroids missing (prepare_book)");
  if (side.dsub < 1 || head_dim % side.dsub) throw_call(what + " dsub does not fit head_dim");
  const int block = 2 * side.code_bits * (head_dim / side.dsub);  // bytes of 16 tokens
  if (lookup && paged && side.outer_stride % block)
    throw_call(what + " pages are not a whole number of blocks apart");
  if (fast && (reinterpret_cast<std::uintptr_t>(side.codes) % 16 || side.outer_stride % 16 ||
               side.head_stride % 16))
    throw_call(what + " codes are not 16-byte aligned");
  if (!lookup && reinterpret_cast<std::uintptr_t>(side.centroids) % 16)
    throw_call(what + " codebook is not 16-byte aligned");
}

bool same(const CodedSide& side, const CodeShape& shape) {
  return side.dsub == shape.dsub && side.code_bits == shape.code_bits &&
         side.shared == shape.shared;
}

__global__ void transpose_book(const __half* in, __half* out, int n_books, int ksub, int dsub,
                               std::int64_t n) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int d = i % dsub, m = i / dsub % n_books,
            c = i / (static_cast<std::int64_t>(dsub) * n_books) % ksub;
  const std::int64_t h = i / (static_cast<std::int64_t>(dsub) * n_books * ksub);
  out[i] = in[((h * n_books + m) * ksub + c) * dsub + d];
}

// The mean centroid, repeated for each sub-space when they share a book.
__global__ void mean_of_book(const __half* in, float* mean, int n_books, int ksub, int dsub,
                             int head_dim) {
  const int i = threadIdx.x, h = blockIdx.x, m = n_books == 1 ? 0 : i / dsub;
  const __half* book = in + (static_cast<std::int64_t>(h) * n_books + m) * ksub * dsub;
  float sum = 0;
  for (int c = 0; c < ksub; ++c) sum += __half2float(book[c * dsub + i % dsub]);
  mean[h * head_dim + i] = sum / ksub;
}

}  // namespace

void prepare_book(const void* centroids, void* by_code, float* mean, int n_heads, int n_books,
                  int ksub, int dsub, int head_dim, cudaStream_t stream) {
  if (!centroids || !by_code || n_heads < 1 || n_books < 1 || ksub < 1 || dsub < 1 ||
      head_dim < 1 || (n_books != 1 && n_books * dsub != head_dim) || head_dim > 1024)
    throw_call("prepare_book: no codebook, or one that does not fit head_dim");
  const std::int64_t n = static_cast<std::int64_t>(n_heads) * n_books * ksub * dsub;
  const auto* in = static_cast<const __half*>(centroids);
  transpose_book<<<static_cast<unsigned>((n + 255) / 256), 256, 0, stream>>>(
      in, static_cast<__half*>(by_code), n_books, ksub, dsub, n);
  VI_CUDA(cudaGetLastError());
  if (!mean) return;
  mean_of_book<<<n_heads, head_dim, 0, stream>>>(in, mean, n_books, ksub, dsub, head_dim);
  VI_CUDA(cudaGetLastError());
}

void decode_attention(const DecodeParams& p, const KernelConfig& config) {
  if (!p.q || !p.out || !p.kv_len) throw_call("decode_attention: q, out or kv_len missing");
  check_side(p.key, "key", config.kind, p.head_dim, p.block_table);
  check_side(p.value, "value", config.kind, p.head_dim, p.block_table);
  if (p.block_table && (p.page_tokens < 16 || p.page_tokens % 16 || p.max_pages < 1))
    throw_call("decode_attention: a page is not whole blocks of 16 tokens");
  if (p.dense_len && (!p.dense_key || !p.dense_value || p.dense_capacity < 1))
    throw_call("decode_attention: dense rows missing");
  if (config.kind == KernelKind::naive) {
    naive::decode<<<dim3(p.n_q_heads, p.batch), naive::kThreads, 0, p.stream>>>(p);
    VI_CUDA(cudaGetLastError());
    return;
  }
  if (!p.workspace) throw_call("decode_attention: workspace missing");
  if (config.kind == KernelKind::generic) {
    const generic::Args args{p, config.splits, static_cast<float*>(p.workspace)};
    generic::decode<<<dim3(config.splits, p.n_kv_heads, p.batch), generic::kThreads, 0, p.stream>>>(
        args);
    VI_CUDA(cudaGetLastError());
    generic::combine<<<p.batch * p.n_q_heads, p.head_dim, 0, p.stream>>>(args);
    VI_CUDA(cudaGetLastError());
    return;
  }
  if (config.kind == KernelKind::sliced) {
    auto* partial = reinterpret_cast<float*>(static_cast<unsigned char*>(p.workspace) + config.sliced.partial_at);
    sliced::launch(p, config.sliced);
    generic::combine<<<p.batch * p.n_q_heads, p.head_dim, 0, p.stream>>>(generic::Args{p, config.sliced.splits, partial});
    VI_CUDA(cudaGetLastError());
    return;
  }
  if (config.kind == KernelKind::gather) {
    const GatherRow& row = gather_table().at(config.row);
    if (row.head_dim != p.head_dim || !same(p.key, row.key) || !same(p.value, row.value))
      throw_call("decode_attention: the config was selected for another codec");
    gather::launch(row, p, config);
    return;
  }
  const LookupRow& row = lookup_table().at(config.row);
  if (row.head_dim != p.head_dim || row.key_dsub != p.key.dsub || row.value_dsub != p.value.dsub ||
      p.key.code_bits != 8 || p.value.code_bits != 8)
    throw_call("decode_attention: the config was selected for another codec");
  lookup::launch(row, p, config);
}

}  // namespace vi::cuda
