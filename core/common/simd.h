// Which vector instructions the fast CPU paths may use; chosen at run time, lowered by tests and benches.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

namespace vi {

enum class Simd { scalar, avx2, avx512 };

constexpr auto enum_names(Simd) {
  using P = std::pair<std::string_view, Simd>;
  return std::array{P{"scalar", Simd::scalar}, P{"avx2", Simd::avx2}, P{"avx512", Simd::avx512}};
}

// The best level of this machine. avx2 means AVX2 + FMA + BMI2; avx512 means F + DQ + BW + VL besides.
inline Simd best_simd() noexcept {
#if defined(__x86_64__)
  static const Simd level = [] {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("bmi2"))
      return Simd::scalar;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl"))
      return Simd::avx2;
    return Simd::avx512;
  }();
  return level;
#else
  return Simd::scalar;
#endif
}

inline std::string_view simd_name(Simd level) {
  return enum_names(level)[static_cast<std::size_t>(level)].first;
}

}  // namespace vi
