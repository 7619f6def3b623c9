#include "cuda/decode_attention/select.h"

#include <algorithm>
#include <cstdint>

#include "core/common/error.h"
#include "core/quant/code_layout.h"

namespace vi::cuda {
namespace {

constexpr int kUnit = 64;         // tokens: what a warp of the look-up kernel takes at once
constexpr int kHeadsPerPass = 4;  // query heads one pass over the codes serves

void check(const Problem& p) {
  VI_CHECK(p.batch >= 1 && p.n_kv_heads >= 1 && p.n_q_heads >= 1 && p.n_q_heads % p.n_kv_heads == 0,
           "decode_attention: batch {}, {} query heads and {} KV heads do not fit", p.batch,
           p.n_q_heads, p.n_kv_heads);
  VI_CHECK(p.n_q_heads / p.n_kv_heads <= 16, "decode_attention: GQA group {} is larger than 16",
           p.n_q_heads / p.n_kv_heads);
  VI_CHECK(p.capacity >= 0 && p.dense_capacity >= 0, "decode_attention: negative capacity");
  VI_CHECK(p.page_tokens >= 0 && p.page_tokens % quant::kBlockTokens == 0,
           "decode_attention: a page of {} tokens is not whole blocks of {}", p.page_tokens,
           quant::kBlockTokens);
  VI_CHECK(p.dtype != Dtype::f32, "decode_attention: queries and exact rows are f16 or bf16");
  for (const CodeShape* side : {&p.key, &p.value}) {
    VI_CHECK(side->dsub >= 1 && p.head_dim >= 1 && p.head_dim % side->dsub == 0,
             "decode_attention: head_dim {} is not a multiple of dsub {}", p.head_dim, side->dsub);
    VI_CHECK(side->code_bits >= 1 && side->code_bits <= 16,
             "decode_attention: {} code bits, expected 1..16", side->code_bits);
  }
}

// Cycles of the slowest CTA if every sequence were at capacity: `per` units each, an item (one KV
// head of one sequence, four query heads) costs a table build and a merge, a split item a second
// merge.
std::int64_t makespan(std::int64_t items, std::int64_t units, std::int64_t per, std::int64_t ctas) {
  std::int64_t worst = 0;
  for (std::int64_t c = 0; c < ctas; ++c) {
    const std::int64_t first = c * per, last = std::min(items * units, first + per);
    if (first >= last) break;
    const std::int64_t touched = (last - 1) / units - first / units + 1;
    const bool cut = first % units != 0 || last % units != 0;
    const std::int64_t run = last - first < 16 ? 2500 : 330 * (last - first);
    worst = std::max(worst, run + touched * 3000 + (cut ? 2000 : 0));
  }
  return worst;
}

}  // namespace

const std::vector<LookupRow>& lookup_table() {
  static const std::vector<LookupRow> rows = {
      {128, 4, 4}, {128, 8, 8}, {128, 4, 8}, {128, 8, 4}, {64, 4, 4}};
  return rows;
}

std::string supported_list() {
  std::string list;
  for (const LookupRow& r : lookup_table())
    list += fmt::format("{}head_dim {} K-d{}b8/V-d{}b8", list.empty() ? "" : ", ", r.head_dim,
                        r.key_dsub, r.value_dsub);
  return list + " (sm_90, GQA 1..16, shared or per-sub-space codebooks)";
}

KernelConfig select_naive(const Problem& p) {
  check(p);
  VI_CHECK(p.head_dim <= 256, "decode_attention: head_dim {} is larger than 256", p.head_dim);
  return {};
}

KernelConfig select_kernel(const Problem& p) {
  check(p);
  KernelConfig config;
  const auto& rows = lookup_table();
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows[i].head_dim == p.head_dim && rows[i].key_dsub == p.key.dsub &&
        rows[i].value_dsub == p.value.dsub && p.key.code_bits == 8 && p.value.code_bits == 8)
      config.row = static_cast<int>(i);
  if (config.row < 0)
    fail(
        "decode_attention: no fast kernel for head_dim {} K-d{}b{}/V-d{}b{}; supported: {}; the "
        "naive kernel takes any",
        p.head_dim, p.key.dsub, p.key.code_bits, p.value.dsub, p.value.code_bits, supported_list());
  if (p.sm < 90 || p.sm >= 120)
    fail(
        "decode_attention: the look-up kernel needs 227 KiB of shared memory (sm_90, sm_100), not "
        "sm_{}",
        p.sm);
  VI_CHECK(p.n_sms >= 1, "decode_attention: {} multiprocessors", p.n_sms);
  config.kind = KernelKind::lookup;
  const int group = p.n_q_heads / p.n_kv_heads,
            passes = (group + kHeadsPerPass - 1) / kHeadsPerPass;
  const std::int64_t items = static_cast<std::int64_t>(p.batch) * p.n_kv_heads * passes;
  const std::int64_t units = std::max(1, (p.capacity + kUnit - 1) / kUnit);
  VI_CHECK(items * units < (std::int64_t{1} << 31),
           "decode_attention: {} runs of {} tokens, more than 2^31", items * units, kUnit);
  std::int64_t best = -1;
  for (int ctas = p.n_sms; ctas >= 1; --ctas) {
    const std::int64_t per = (items * units + ctas - 1) / ctas;
    const std::int64_t cost = makespan(items, units, per, ctas);
    if (best >= 0 && cost >= best) continue;
    best = cost;
    config.n_ctas = ctas;
    config.min_units = static_cast<int>(std::min<std::int64_t>(per, 16));
  }
  // One partial (o, lse) for each piece of an item: a piece ends where a CTA or an item ends.
  const std::int64_t pieces = items + config.n_ctas;
  config.workspace_bytes =
      static_cast<std::size_t>((items * sizeof(int) + 255) / 256 * 256 +
                               pieces * kHeadsPerPass * (p.head_dim + 1) * sizeof(float));
  return config;
}

}  // namespace vi::cuda
