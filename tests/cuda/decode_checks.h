// What the tests of the decode-attention kernels share: a case against the f64 oracle, and the codes of each kernel.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "cuda/common/check.h"
#include "cuda/decode_attention/cases.h"
#include "cuda/decode_attention/oracle.h"

#define VI_NEEDS_GPU() \
  if (!has_device()) GTEST_SKIP() << "no CUDA device"

namespace vi::cuda {

// Largest error of a sequence's heads, each relative to the norm of that head's output; lse too.
struct Errors {
  double out = 0, lse = 0;
};
inline Errors compare(DecodeCase& c, const DecodeCase::Result& r) {
  Errors e;
  const DecodeParams& p = c.host();
  for (int b = 0; b < p.batch; ++b) {
    const OracleResult want = oracle_decode(p, b);
    const std::size_t at = static_cast<std::size_t>(b) * p.n_q_heads;
    const double err = relative_error(&r.out[at * p.head_dim], want.out.data(), want.out.size());
    if (!(err <= e.out)) e.out = err;  // NaN stays
    for (int h = 0; h < p.n_q_heads; ++h) {
      if (std::isinf(want.lse[h])) {
        EXPECT_EQ(r.lse[at + h], want.lse[h]);
        for (int d = 0; d < p.head_dim; ++d) EXPECT_EQ(r.out[(at + h) * p.head_dim + d], 0.f);
        continue;
      }
      const double diff =
          std::abs(r.lse[at + h] - want.lse[h]) / std::max(1.0, std::abs(want.lse[h]));
      if (!(diff <= e.lse)) e.lse = diff;
    }
  }
  return e;
}

inline double bound(Dtype t) {
  return t == Dtype::bf16 ? 4e-3 : 1e-3;
}  // bf16's own rounding of the output is 2e-3

inline void check(const CaseSpec& spec, bool fast, const char* what, double tolerance = 0) {
  DecodeCase c(spec);
  const Device device = current_device();
  const KernelConfig config =
      fast ? select_kernel(c.problem(device)) : select_naive(c.problem(device));
  const auto first = c.run(config);
  const Errors e = compare(c, first);
  std::printf("%-40s out %.1e  lse %.1e\n", what, e.out, e.lse);
  EXPECT_LE(e.out, tolerance > 0 ? tolerance : bound(spec.dtype)) << what;
  EXPECT_LE(e.lse, 2e-3) << what;
  const auto again = c.run(config);
  EXPECT_EQ(first.bits, again.bits) << what << ": two runs differ";
}

inline CaseSpec case_of(const GatherRow& r) {
  CaseSpec s;
  s.head_dim = r.head_dim;
  s.key = r.key;
  s.value = r.value;
  s.group = r.from == 1 ? 4 : r.from;
  return s;
}

// Codes that the sliced kernel alone serves fast, and some that others serve too.
inline std::vector<std::pair<CodeShape, CodeShape>> sliced_codes() {
  return {{{8, 10, false}, {8, 10, false}}, {{4, 10, false}, {4, 10, false}}, {{4, 12, false}, {4, 12, false}},
          {{8, 12, false}, {8, 12, false}}, {{4, 10, false}, {8, 12, false}}, {{8, 10, true}, {8, 10, true}},
          {{2, 8, false}, {4, 8, false}},   {{2, 10, true}, {2, 12, false}},  {{4, 8, false}, {2, 8, false}}};
}

inline std::string code_name(const CodeShape& s) {
  return "d" + std::to_string(s.dsub) + "b" + std::to_string(s.code_bits) + (s.shared ? " shared" : "");
}

}  // namespace vi::cuda
