// The look-up kernel's arguments and the choice of its instance.
#include "cuda/common/check.h"
#include "cuda/decode_attention/instances.h"
#include "cuda/decode_attention/lookup/lookup.cuh"

namespace vi::cuda::lookup {

void launch(const LookupRow& row, const DecodeParams& p, const KernelConfig& config) {
  const int group = p.n_q_heads / p.n_kv_heads;
  WalkArgs args{};
  args.p = p;
  args.min_units = config.min_units;
  args.passes = (group + kHeads - 1) / kHeads;
  const std::int64_t items = static_cast<std::int64_t>(p.batch) * p.n_kv_heads * args.passes;
  auto* base = static_cast<unsigned char*>(p.workspace);
  args.arrivals = reinterpret_cast<int*>(base);
  args.partial_lse = reinterpret_cast<float*>(base + (items * sizeof(int) + 255) / 256 * 256);
  args.partial_o = args.partial_lse + (items + config.n_ctas) * kHeads;
  const auto is = [&](int d, int k, int v) {
    return row.head_dim == d && row.key_dsub == k && row.value_dsub == v;
  };
  if (is(128, 2, 2))
    launch_row<128, 2, 2>(args, config.n_ctas, p.stream);
  else if (is(128, 4, 4))
    launch_row<128, 4, 4>(args, config.n_ctas, p.stream);
  else if (is(128, 8, 8))
    launch_row<128, 8, 8>(args, config.n_ctas, p.stream);
  else if (is(128, 4, 8))
    launch_row<128, 4, 8>(args, config.n_ctas, p.stream);
  else if (is(128, 8, 4))
    launch_row<128, 8, 4>(args, config.n_ctas, p.stream);
  else if (is(64, 4, 4))
    launch_row<64, 4, 4>(args, config.n_ctas, p.stream);
  else if (is(64, 8, 8))
    launch_row<64, 8, 8>(args, config.n_ctas, p.stream);
  else
    throw_call("decode_attention: lookup_table() names a row that is not compiled");
}

}  // namespace vi::cuda::lookup
