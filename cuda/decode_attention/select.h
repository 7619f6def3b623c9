// Problem -> kernel and launch numbers, as a pure function: no device is touched, nothing is
// printed. What no fast kernel serves is refused with the list of what is (the naive kernel only on
// request).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cuda/decode_attention/params.h"

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

enum class KernelKind { naive, lookup };

struct KernelConfig {
  KernelKind kind = KernelKind::naive;
  int row = -1;       // of lookup_table()
  int n_ctas = 0;     // lookup: persistent CTAs that share the work evenly
  int min_units = 1;  // lookup: runs of 64 tokens a CTA takes at least
  std::size_t workspace_bytes = 0;
};

// What the look-up kernel is compiled for. Codes of 8 bits on both sides, any GQA group of 1..16.
struct LookupRow {
  int head_dim, key_dsub, value_dsub;
};
const std::vector<LookupRow>& lookup_table();
std::string supported_list();

// The fast kernel for a problem. vi::Error when the problem is malformed or no fast kernel serves
// it.
KernelConfig select_kernel(const Problem& problem);
// The naive kernel for a problem: any dsub and head_dim up to 256, 1..16 code bits.
KernelConfig select_naive(const Problem& problem);

}  // namespace vi::cuda
