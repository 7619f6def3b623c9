// Launchers of encode: checks, then the tile kernel for chunks and the row kernel for one token a
// sequence.
#include "cuda/common/check.h"
#include "cuda/encode/encode.cuh"

namespace vi::cuda {
namespace {

void check(const EncodeParams& p) {
  if (!p.rows || !p.centroids || !p.codes || !p.first)
    throw_call("encode: rows, centroids, codes or first missing");
  if (p.batch < 1 || p.n_tokens < 0 || p.n_kv_heads < 1 || p.head_dim < 1 || p.dsub < 1 ||
      p.head_dim % p.dsub)
    throw_call("encode: head_dim " + std::to_string(p.head_dim) + " and dsub " +
               std::to_string(p.dsub) + " do not fit");
  if (p.code_bits < 1 || p.code_bits > 16)
    throw_call("encode: " + std::to_string(p.code_bits) + " code bits, expected 1..16");
  if (p.hadamard && (p.dense || (p.head_dim & (p.head_dim - 1))))
    throw_call("encode: hadamard needs head_dim a power of two, and no dense map beside it");
  if (p.block_table && (p.page_tokens < 16 || p.page_tokens % 16 || p.max_pages < 1))
    throw_call("encode: a page is not whole blocks of 16 tokens");
  if (reinterpret_cast<std::uintptr_t>(p.codes) % 16 || p.outer_stride % 16 ||
      p.code_head_stride % 16)
    throw_call("encode: codes are not 16-byte aligned");
}

template <int kDsub, int kTile>
void launch_tile(const EncodeParams& p) {
  using namespace encoding;
  const std::size_t bytes = tile_bytes<kDsub, kTile>(p.head_dim);
  int device = 0, most = 0;
  VI_CUDA(cudaGetDevice(&device));
  VI_CUDA(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  if (bytes > static_cast<std::size_t>(most))
    throw_call("encode: the fused kernel needs " + std::to_string(bytes) +
               " bytes of shared memory a block, this device has " + std::to_string(most) +
               "; encode_naive takes any, 17 tokens at a time need less");
  VI_CUDA(cudaFuncSetAttribute(tile<kDsub, kTile>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(bytes)));
  // The first tile begins at a block of codes, up to 15 tokens before the first new one.
  tile<kDsub, kTile><<<dim3((p.n_tokens + 15 + kTile - 1) / kTile, p.n_kv_heads, p.batch),
                       kTileThreads, bytes, p.stream>>>(p);
}

template <int kDsub>
void launch(const EncodeParams& p) {
  using namespace encoding;
  if (p.n_tokens == 1) {
    row<kDsub><<<dim3(p.n_kv_heads, p.batch), kRowThreads, 0, p.stream>>>(p);
  } else if (p.n_tokens + 15 <= kShortTile) {
    launch_tile<kDsub, kShortTile>(p);
  } else {
    launch_tile<kDsub, kLongTile>(p);
  }
  VI_CUDA(cudaGetLastError());
}

}  // namespace

void encode(const EncodeParams& p) {
  check(p);
  if ((p.dsub != 2 && p.dsub != 4 && p.dsub != 8) || p.head_dim % 16 || p.head_dim > 256 ||
      (p.hadamard && p.head_dim < 32))
    throw_call("encode: no fused kernel for head_dim " + std::to_string(p.head_dim) + " dsub " +
               std::to_string(p.dsub) +
               "; supported: dsub 2, 4, 8 with head_dim a multiple of 16 up to 256; encode_naive "
               "takes any");
  if (p.n_tokens == 0) return;
  if (p.dsub == 2) {
    launch<2>(p);
  } else if (p.dsub == 4) {
    launch<4>(p);
  } else {
    launch<8>(p);
  }
}

void encode_naive(const EncodeParams& p) {
  check(p);
  if (p.head_dim > encoding::kMaxHeadDim)
    throw_call("encode_naive: head_dim " + std::to_string(p.head_dim) + " is larger than 1024");
  if (!p.scratch) throw_call("encode_naive: scratch missing");
  if (p.from) throw_call("encode_naive: rows of a window are coded by the fused kernel only");
  if (p.n_tokens == 0) return;
  const std::int64_t rows = static_cast<std::int64_t>(p.batch) * p.n_tokens;
  const unsigned y = static_cast<unsigned>(rows < 32768 ? rows : 32768);
  encoding::naive_codes<<<dim3(p.n_kv_heads, y, static_cast<unsigned>((rows + y - 1) / y)), 128, 0,
                          p.stream>>>(p);
  VI_CUDA(cudaGetLastError());
  const int n_books = p.head_dim / p.dsub;
  encoding::naive_pack<<<dim3((p.n_tokens + 15 + 15) / 16, p.n_kv_heads, p.batch), n_books, 0,
                         p.stream>>>(p);
  VI_CUDA(cudaGetLastError());
}

}  // namespace vi::cuda
