#include "cuda/decode_attention/select.h"

#include <algorithm>
#include <cstdint>

#include "core/common/error.h"
#include "core/quant/code_layout.h"

namespace vi::cuda {
namespace {

constexpr int kUnit = 64;     // tokens: what a warp of the look-up kernel takes at once
constexpr int kShort = 4096;  // capacity up to which gather beats look-up where both are compiled:
                              // no table of scores to build for each sequence
constexpr int kLookupHeads = 4;  // query heads one pass of the look-up kernel serves

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

// Persistent kernels: CTAs and workspace for items of `heads` query heads each.
void plan_walk(const Problem& p, int heads, KernelConfig& config) {
  const int group = p.n_q_heads / p.n_kv_heads, passes = (group + heads - 1) / heads;
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
  config.workspace_bytes = static_cast<std::size_t>(
      (items * sizeof(int) + 255) / 256 * 256 + pieces * heads * (p.head_dim + 1) * sizeof(float));
}

int find_lookup(const Problem& p) {
  const auto& rows = lookup_table();
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows[i].head_dim == p.head_dim && rows[i].key_dsub == p.key.dsub &&
        rows[i].value_dsub == p.value.dsub && p.key.code_bits == 8 && p.value.code_bits == 8)
      return static_cast<int>(i);
  return -1;
}

bool same(const CodeShape& a, const CodeShape& b) {
  return a.dsub == b.dsub && a.code_bits == b.code_bits && a.shared == b.shared;
}

// The row for a problem's GQA group; `any`: else the last one for its codec.
int find_gather(const Problem& p, bool any = false) {
  const auto& rows = gather_table();
  const int group = p.n_q_heads / p.n_kv_heads;
  int found = -1;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].head_dim != p.head_dim || !same(rows[i].key, p.key) ||
        !same(rows[i].value, p.value))
      continue;
    if (group >= rows[i].from && group <= rows[i].to) return static_cast<int>(i);
    if (any) found = static_cast<int>(i);
  }
  return found;
}

// 227 KiB of shared memory a CTA.
bool has_room(const Problem& p) { return p.sm >= 90 && p.sm < 120; }

std::string shape_name(const CodeShape& s) { return fmt::format("d{}b{}", s.dsub, s.code_bits); }

std::string problem_name(const Problem& p) {
  const auto scope = [](const CodeShape& s) { return s.shared ? "shared" : "per sub-space"; };
  return fmt::format("head_dim {} K-{} ({})/V-{} ({})", p.head_dim, shape_name(p.key), scope(p.key),
                     shape_name(p.value), scope(p.value));
}

}  // namespace

const std::vector<LookupRow>& lookup_table() {
  static const std::vector<LookupRow> rows = {{128, 4, 4}, {128, 8, 8}, {128, 4, 8}, {128, 8, 4},
                                              {128, 2, 2}, {64, 4, 4},  {64, 8, 8}};
  return rows;
}

bool operator==(const GatherRow& a, const GatherRow& b) {
  return a.head_dim == b.head_dim && same(a.key, b.key) && same(a.value, b.value) &&
         a.heads == b.heads && a.from == b.from && a.to == b.to;
}

const std::vector<GatherRow>& gather_table() {
  static const std::vector<GatherRow> rows = {
#define VI_GATHER(d, dk, bk, ck, sk, dv, bv, cv, sv, n, from, to) \
  {d, {dk, bk, sk}, {dv, bv, sv}, 8 * n, from, to},
#include "cuda/decode_attention/gather/rows.inc"
#undef VI_GATHER
  };
  return rows;
}

const char* kernel_name(KernelKind kind) {
  switch (kind) {
    case KernelKind::lookup:
      return "lookup";
    case KernelKind::gather:
      return "gather";
    case KernelKind::sliced:
      return "sliced";
    case KernelKind::generic:
      return "generic";
    default:
      return "naive";
  }
}

std::string supported_list() {
  std::string list = "lookup (sm_90, sm_100; GQA 1..16; shared or per-sub-space books):";
  for (const LookupRow& r : lookup_table())
    list += fmt::format("{} head_dim {} K-d{}b8/V-d{}b8", list.back() == ':' ? "" : ",", r.head_dim,
                        r.key_dsub, r.value_dsub);
  list += "; gather (sm_90, sm_100):";
  for (const GatherRow& r : gather_table())
    list += fmt::format("{} head_dim {} K-{}/V-{} {} GQA {}..{}", list.back() == ':' ? "" : ",",
                        r.head_dim, shape_name(r.key), shape_name(r.value),
                        r.key.shared ? "shared" : "per sub-space", r.from, r.to);
  return list +
         "; sliced (sm_90, sm_100; three launches): 8, 10 and 12 bits of d2, d4 and d8, either scope, head_dim up to 256, "
         "sub-spaces a multiple of four, GQA 1..16; generic (slower, books read from L2; sm_80 and later): any dsub, 1..16 bits, either "
         "scope, head_dim up to 256, GQA 1..16";
}

KernelConfig select_naive(const Problem& p) {
  check(p);
  VI_CHECK(p.head_dim <= 256, "decode_attention: head_dim {} is larger than 256", p.head_dim);
  return {};
}

KernelConfig select_generic(const Problem& p) {
  check(p);
  if (p.head_dim > 256)
    fail("decode_attention: no kernel for {}; supported: {}", problem_name(p), supported_list());
  if (p.sm < 80)
    fail("decode_attention: no kernel for sm_{}; supported: {}", p.sm, supported_list());
  VI_CHECK(p.n_sms >= 1, "decode_attention: {} multiprocessors", p.n_sms);
  KernelConfig config;
  config.kind = KernelKind::generic;
  // Four CTAs a multiprocessor, two waves; no split under 256 tokens.
  const std::int64_t items = static_cast<std::int64_t>(p.batch) * p.n_kv_heads;
  const std::int64_t wanted = (8 * p.n_sms + items - 1) / items,
                     most = (p.capacity + p.dense_capacity + 255) / 256;
  config.splits = static_cast<int>(std::clamp<std::int64_t>(std::min(wanted, most), 1, 1024));
  config.workspace_bytes = sizeof(float) * static_cast<std::size_t>(p.batch) * p.n_q_heads *
                           config.splits * (p.head_dim + 1);
  return config;
}

namespace {

KernelConfig persistent(const Problem& p, int gather, int lookup) {
  KernelConfig config;
  if (gather < 0 && lookup < 0)
    fail("decode_attention: no fast kernel for {}; supported: {}", problem_name(p),
         supported_list());
  if (!has_room(p))
    fail(
        "decode_attention: the fast kernels need 227 KiB of shared memory (sm_90, sm_100), not "
        "sm_{}; supported: {}",
        p.sm, supported_list());
  VI_CHECK(p.n_sms >= 1, "decode_attention: {} multiprocessors", p.n_sms);
  config.kind = gather >= 0 ? KernelKind::gather : KernelKind::lookup;
  config.row = gather >= 0 ? gather : lookup;
  plan_walk(p, gather >= 0 ? gather_table()[gather].heads : kLookupHeads, config);
  return config;
}

}  // namespace

KernelConfig select_lookup(const Problem& p) {
  check(p);
  return persistent(p, -1, find_lookup(p));
}

KernelConfig select_gather(const Problem& p) {
  check(p);
  return persistent(p, find_gather(p, true), -1);
}

KernelConfig select_sliced(const Problem& p) {
  check(p);
  if (!sliced_serves(p) || !has_room(p))
    fail("decode_attention: the sliced kernel does not serve {} on sm_{}; supported: {}", problem_name(p), p.sm, supported_list());
  VI_CHECK(p.n_sms >= 1, "decode_attention: {} multiprocessors", p.n_sms);
  KernelConfig config;
  config.kind = KernelKind::sliced;
  config.sliced = plan_sliced(p);
  config.workspace_bytes = config.sliced.bytes;
  return config;
}

KernelConfig select_fast(const Problem& p) {
  check(p);
  int gather = find_gather(p);
  const int lookup = find_lookup(p);
  const bool one_pass = p.n_q_heads <= kLookupHeads * p.n_kv_heads;  // of the look-up kernel
  if (lookup >= 0 && one_pass && p.capacity > kShort) gather = -1;
  return persistent(p, gather, lookup);
}

KernelConfig select_kernel(const Problem& p) {
  check(p);
  if (!has_room(p)) return select_generic(p);
  if (find_gather(p) >= 0 || find_lookup(p) >= 0) return select_fast(p);
  return sliced_serves(p) ? select_sliced(p) : select_generic(p);
}

}  // namespace vi::cuda
