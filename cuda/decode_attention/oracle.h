// The f64 oracle of every decode-attention kernel, by the definitions: decode each code, score,
// softmax, sum. Takes the kernels' own DecodeParams with HOST pointers; by_code, mean, out, lse,
// workspace and stream unused.
#pragma once

#include <vector>

#include "cuda/decode_attention/launch.h"

namespace vi::cuda {

struct OracleResult {
  std::vector<double> out;  // [heads, head_dim]
  std::vector<double> lse;  // [heads] in log2; -infinity for an empty sequence
};
// One sequence: all its query heads, or those of one KV head (the rest stay zero).
OracleResult oracle_decode(const DecodeParams& host, int sequence, int kv_head = -1);
// The same for DenseParams with host pointers.
OracleResult oracle_dense(const DenseParams& host, int sequence, int kv_head = -1);

}  // namespace vi::cuda
