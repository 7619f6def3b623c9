// VectorCode: codes against an f64 oracle, token by token equals one shot, decode equals look-up.
#include "core/quant/vector_code.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/rng.h"

namespace vi::quant {
namespace {

std::vector<float> random_values(std::uint64_t seed, std::size_t n, bool half = false) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (float& v : x) {
    v = static_cast<float>(rng.normal());
    if (half) v = half_to_float(float_to_half(v));
  }
  return x;
}

transform::HeadTransform smooth_hadamard(int d) {
  transform::HeadTransform t{d, std::vector<transform::Step>(2)};
  Rng rng(9);
  t.steps[0].kind = transform::Step::Kind::scale;
  for (int i = 0; i < d; ++i) t.steps[0].vector.push_back(static_cast<float>(0.5 + rng.uniform()));
  t.steps[1].kind = transform::Step::Kind::hadamard;
  return t;
}

struct Case {
  int head_dim, dsub, bits;
  bool shared;
};
class VectorCodes : public testing::TestWithParam<Case> {
 protected:
  const Case c = GetParam();
  const int n_sub = c.head_dim / c.dsub, ksub = 1 << c.bits;
  const int n_books = c.shared ? 1 : n_sub;
  const std::vector<float> centroids = random_values(3, std::size_t(n_books) * ksub * c.dsub, true);
  const transform::HeadTransform transform = smooth_hadamard(c.head_dim);
  const VectorCode code{c.head_dim, &transform,
                        make_books(c.dsub, c.bits, n_books, centroids.data())};
};
INSTANTIATE_TEST_SUITE_P(All, VectorCodes,
                         testing::Values(Case{64, 4, 8, true}, Case{64, 4, 8, false},
                                         Case{128, 2, 8, true}, Case{64, 8, 12, true},
                                         Case{64, 4, 10, false}, Case{32, 1, 3, false},
                                         Case{64, 64, 5, true}, Case{16, 8, 16, true},
                                         Case{16, 2, 1, false}));

TEST_P(VectorCodes, CodesEqualAnF64OracleButForNearTies) {
  const std::size_t n = c.bits > 12 ? 5 : 37;
  const std::vector<float> rows = random_values(4, n * c.head_dim);
  std::vector<float> y = rows;
  transform.forward(y.data(), n);
  std::vector<std::uint16_t> codes(n * n_sub);
  code.codes(rows.data(), n, codes.data());
  const double bound = 2.0 * (c.dsub + 2) * 0x1p-24 * 1.01;
  int ties = 0;
  for (std::size_t i = 0; i < n * n_sub; ++i) {
    const float* book = centroids.data() + (c.shared ? 0 : i % n_sub) * ksub * c.dsub;
    double best = 1e300, chosen = 0;
    int index = 0;
    for (int k = 0; k < ksub; ++k) {
      double d = 0;
      for (int j = 0; j < c.dsub; ++j)
        d += std::pow(double(y[i * c.dsub + j]) - book[k * c.dsub + j], 2);
      if (d < best) best = d, index = k;
      if (k == codes[i]) chosen = d;
    }
    ties += index != codes[i];
    EXPECT_LE(chosen, best * (1 + bound));
  }
  std::printf("near-ties decided otherwise than in f64: %d of %zu\n", ties, n * n_sub);
  EXPECT_LE(ties, 1);
}

TEST_P(VectorCodes, TokenByTokenEqualsOneShot) {
  for (const std::size_t n : {0, 1, 15, 16, 17, 31, 32, 33, 64, 67, 131}) {
    if (c.bits > 12 && n > 33) continue;
    const std::vector<float> rows = random_values(n, n * c.head_dim);
    std::vector<std::uint8_t> one(code.stream_bytes(n), 0), steps = one, odd = one;
    code.encode(rows.data(), n, 0, one.data());
    for (std::size_t t = 0; t < n; ++t)
      code.encode(rows.data() + t * c.head_dim, 1, t, steps.data());
    for (std::size_t t = 0; t < n; t += 7)
      code.encode(rows.data() + t * c.head_dim, std::min<std::size_t>(7, n - t), t, odd.data());
    EXPECT_EQ(one, steps);
    EXPECT_EQ(one, odd);
    std::vector<float> whole(n * c.head_dim), again = whole;
    code.reconstruct(rows.data(), n, again.data());
    code.decode(one.data(), 0, n, whole.data());
    EXPECT_EQ(whole, again);
    if (n < 20) continue;
    std::vector<float> part(3 * c.head_dim);
    code.decode(one.data(), 15, 3, part.data());
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 15 * c.head_dim));
  }
}

TEST_P(VectorCodes, BitsAreBytes) {
  EXPECT_DOUBLE_EQ(code.payload_bits(), double(c.bits) / c.dsub);
  EXPECT_EQ(code.metadata_bits(), 0);
  EXPECT_EQ(code.stream_bytes(0), 0u);
  EXPECT_EQ(code.stream_bytes(32) * 8, 32 * c.head_dim * code.payload_bits());
  EXPECT_EQ(code.vector_view()->layout.n_books, n_sub);
  EXPECT_EQ(code.vector_view()->shared, c.shared || n_sub == 1);
  EXPECT_EQ(code.vector_view()->transform, &transform);
}

TEST(VectorCode, PointsOnCentroidsComeBackExactly) {
  const std::vector<float> centroids = random_values(1, 256 * 4, true);
  const VectorCode code(64, nullptr, make_books(4, 8, 1, centroids.data()));
  Rng rng(5);
  std::vector<float> rows;
  for (int i = 0; i < 16 * 20; ++i) {
    const std::size_t k = rng.below(256);
    rows.insert(rows.end(), centroids.begin() + k * 4, centroids.begin() + k * 4 + 4);
  }
  std::vector<float> out(rows.size());
  code.reconstruct(rows.data(), 20, out.data());
  EXPECT_EQ(out, rows);
  code.reconstruct(rows.data(), 20, rows.data());  // in place
  EXPECT_EQ(out, rows);
}

TEST(VectorCode, BadInput) {
  std::vector<float> centroids = random_values(1, 16 * 4, true);
  const VectorCode code(8, nullptr, make_books(4, 4, 1, centroids.data()));
  std::vector<float> rows(24, 1.0f);
  rows[13] = std::nanf("");
  std::vector<std::uint8_t> stream(code.stream_bytes(3), 0);
  try {
    code.encode(rows.data(), 3, 0, stream.data());
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("row 1: channel 5"));
  }
  EXPECT_THROW(VectorCode(10, nullptr, make_books(4, 4, 1, centroids.data())), Error);
  EXPECT_THROW(VectorCode(32, nullptr, make_books(4, 2, 3, centroids.data())), Error);
  centroids[5] = 0.1f;  // not exact in f16
  EXPECT_THROW(make_books(4, 4, 1, centroids.data()), ContractError);
  centroids[5] = std::nanf("");
  EXPECT_THROW(make_books(4, 4, 1, centroids.data()), ContractError);
}

}  // namespace
}  // namespace vi::quant
