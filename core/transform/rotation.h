// A random orthonormal matrix, the same on every machine: the Q of a Gaussian matrix's QR (TurboQuant,
// arXiv 2504.19874, section 3), by Gram-Schmidt in f64, twice.
#pragma once

#include <cstdint>
#include <vector>

namespace vi::transform {

std::vector<float> random_rotation(int d, std::uint64_t seed);  // [d, d], row major

}  // namespace vi::transform
