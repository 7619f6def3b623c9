// The gather kernel's arguments and the choice of its instance.
#include "cuda/common/check.h"
#include "cuda/decode_attention/gather/gather.cuh"
#include "cuda/decode_attention/instances.h"

namespace vi::cuda::gather {

template <int kHeadDim, class K, class V, int kNTiles>
void launch_row(const WalkArgs& args, int n_ctas, cudaStream_t stream);

void launch(const GatherRow& row, const DecodeParams& p, const KernelConfig& config) {
  const int group = p.n_q_heads / p.n_kv_heads;
  WalkArgs args{};
  args.p = p;
  args.min_units = config.min_units;
  args.passes = (group + row.heads - 1) / row.heads;
  const std::int64_t items = static_cast<std::int64_t>(p.batch) * p.n_kv_heads * args.passes;
  auto* base = static_cast<unsigned char*>(p.workspace);
  args.arrivals = reinterpret_cast<int*>(base);
  args.partial_lse = reinterpret_cast<float*>(base + (items * sizeof(int) + 255) / 256 * 256);
  args.partial_o = args.partial_lse + (items + config.n_ctas) * row.heads;
#define VI_GATHER(d, dk, bk, ck, sk, dv, bv, cv, sv, n, from, to)                                  \
  if (row == GatherRow{d, {dk, bk, sk}, {dv, bv, sv}, 8 * n, from, to})                            \
    return launch_row<d, Side<d, dk, bk, ck, sk>, Side<d, dv, bv, cv, sv>, n>(args, config.n_ctas, \
                                                                              p.stream);
#include "cuda/decode_attention/gather/rows.inc"
#undef VI_GATHER
  throw_call("decode_attention: gather_table() names a row that is not compiled");
}

}  // namespace vi::cuda::gather
