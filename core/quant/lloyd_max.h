// The levels of the scalar quantiser of N(0, 1) with least squared error (Lloyd-Max): what TurboQuant
// takes after a rotation, whatever the model. Levels ascend and are symmetric.
#pragma once

#include <vector>

namespace vi::quant {

struct LloydMax {
  std::vector<double> levels;  // [2^bits]
  double mse = 0;              // of N(0, 1)
};
LloydMax lloyd_max_normal(int bits);  // bits 1..8

}  // namespace vi::quant
