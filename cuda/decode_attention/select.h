// Problem -> kernel and launch numbers, as a pure function: no device is touched, nothing is
// printed. What no fast kernel serves is refused with the list of what is (the naive kernel only on
// request).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cuda/decode_attention/params.h"
#include "cuda/decode_attention/sliced/plan.h"

namespace vi::cuda {

struct CodeShape {
  int dsub = 0, code_bits = 0;
  bool shared = false;
};

struct Problem {
  int batch = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0;
  CodeShape key, value;
  int capacity = 0;  // coded tokens a sequence can hold: decides the splits, so graphs stay valid
  int page_tokens = 0;     // 0: contiguous
  int dense_capacity = 0;  // rows of the exact window and sinks
  Dtype dtype = Dtype::f16;
  int sm = 0, n_sms = 0;
};

enum class KernelKind { naive, lookup, gather, sliced, generic };

struct KernelConfig {
  KernelKind kind = KernelKind::naive;
  int row = -1;       // of lookup_table() or gather_table()
  int n_ctas = 0;     // lookup, gather: persistent CTAs that share the work evenly
  int min_units = 1;  // lookup, gather: runs of 64 tokens a CTA takes at least
  int splits = 1;     // generic: CTAs a sequence and KV head
  SlicedPlan sliced;  // sliced
  std::size_t workspace_bytes = 0;
};
const char* kernel_name(KernelKind kind);

// What the look-up kernel is compiled for: codes of 8 bits on both sides, either scope.
struct LookupRow {
  int head_dim, key_dsub, value_dsub;
};
const std::vector<LookupRow>& lookup_table();

// What the gather kernel is compiled for: a pass serves 8 or 16 query heads.
struct GatherRow {
  int head_dim;
  CodeShape key, value;
  int heads, from, to;  // heads a pass; GQA groups it is chosen for
};
bool operator==(const GatherRow& a, const GatherRow& b);
const std::vector<GatherRow>& gather_table();

// All that is served, kernel by kernel, fast ones first.
std::string supported_list();

// The kernel for a problem: look-up or gather where one is compiled for it, else sliced, else the slow
// generic kernel, which config.kind says. vi::Error when the problem is malformed or nothing serves it.
KernelConfig select_kernel(const Problem& problem);
// The same, but vi::Error with the list instead of the generic kernel.
KernelConfig select_fast(const Problem& problem);
// One kernel on request, to compare: vi::Error where it is not compiled for the problem.
KernelConfig select_lookup(const Problem& problem);
KernelConfig select_gather(const Problem& problem);
KernelConfig select_sliced(const Problem& problem);
KernelConfig select_generic(const Problem& problem);
// The naive kernel: tests and comparisons only.
KernelConfig select_naive(const Problem& problem);

}  // namespace vi::cuda
