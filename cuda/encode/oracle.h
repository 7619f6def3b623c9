// The f64 oracle of encode: the transformed rows and, for each sub-vector, the code an exact search
// gives, with the margin to the second best so that a test can tell a tie from a mistake.
#pragma once

#include <vector>

#include "cuda/encode/params.h"

namespace vi::cuda {

struct OracleCode {
  int code = 0;
  double best = 0, second = 0;  // |c|^2 / 2 - y.c
  double size = 0;              // |y|^2 + |c|^2: the margin's scale
};
// Params with HOST pointers; codes, first, block_table, scratch and stream unused.
// [batch, n_tokens, n_kv_heads, n_books]
std::vector<OracleCode> oracle_codes(const EncodeParams& host);
// The distance of one given code of one sub-vector, to judge a tie.
double oracle_distance(const EncodeParams& host, int row, int head, int m, int code);

}  // namespace vi::cuda
