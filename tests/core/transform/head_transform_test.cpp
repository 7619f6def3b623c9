// HeadTransform: identities (inverse, kept scores), the Hadamard matrix against its definition.
#include "core/transform/head_transform.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "core/common/error.h"
#include "core/common/rng.h"

namespace vi::transform {
namespace {

std::vector<float> random_rows(std::uint64_t seed, std::size_t n) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (float& v : x) v = static_cast<float>(rng.normal());
  return x;
}

TEST(Hadamard, MatchesDefinition) {
  for (const int n : {1, 2, 4, 8, 16, 64, 128, 256}) {
    const std::vector<float> x = random_rows(n, 3 * n);
    std::vector<float> y = x;
    hadamard(y.data(), 3, n);
    for (int r = 0; r < 3; ++r)
      for (int j = 0; j < n; ++j) {
        double sum = 0;
        for (int i = 0; i < n; ++i)
          sum += (std::popcount(static_cast<unsigned>(i & j)) % 2 ? -1.0 : 1.0) * x[r * n + i];
        EXPECT_NEAR(y[r * n + j], sum / std::sqrt(double(n)), 4e-6) << n;
      }
  }
}

TEST(Hadamard, IsItsOwnInverse) {
  const std::vector<float> x = random_rows(1, 5 * 128);
  std::vector<float> y = x;
  hadamard(y.data(), 5, 128);
  hadamard(y.data(), 5, 128);
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 3e-6);
}

TEST(Hadamard, NeedsPowerOfTwo) {
  std::vector<float> x(48);
  EXPECT_THROW(hadamard(x.data(), 1, 48), Error);
  EXPECT_THROW(hadamard(x.data(), 1, 0), Error);
}

HeadTransform everything(int d) {
  Rng rng(7);
  HeadTransform t{d, std::vector<Step>(5)};
  t.steps[0].kind = Step::Kind::center;
  t.steps[1].kind = Step::Kind::scale;
  t.steps[2].kind = Step::Kind::hadamard;
  t.steps[3].kind = Step::Kind::dense;
  t.steps[4].kind = Step::Kind::scale;
  for (int i = 0; i < d; ++i) {
    t.steps[0].vector.push_back(static_cast<float>(rng.normal()));
    t.steps[1].vector.push_back(static_cast<float>(0.25 + 2 * rng.uniform()));
    t.steps[4].vector.push_back(static_cast<float>(0.5 + rng.uniform()));
  }
  // A permutation with signs and powers of two: exactly invertible.
  t.steps[3].matrix.assign(d * d, 0.0f);
  t.steps[3].inverse.assign(d * d, 0.0f);
  for (int i = 0; i < d; ++i) {
    const int j = (5 * i + 3) % d;
    const float s = (i % 2 ? -1.0f : 1.0f) * (i % 3 ? 2.0f : 0.5f);
    t.steps[3].matrix[i * d + j] = s;
    t.steps[3].inverse[j * d + i] = 1.0f / s;
  }
  return t;
}

TEST(HeadTransform, InverseUndoesForward) {
  const HeadTransform t = everything(64);
  for (const std::size_t n : {0, 1, 31, 32, 33}) {
    const std::vector<float> x = random_rows(n, n * 64);
    std::vector<float> y = x;
    t.forward(y.data(), n);
    t.inverse(y.data(), n);
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 1e-5);
  }
}

TEST(HeadTransform, ScoresAreKeptUpToTheOffset) {
  const int d = 64;
  const HeadTransform t = everything(d);
  const std::vector<float> k = random_rows(1, 9 * d), q = random_rows(2, 4 * d);
  std::vector<float> y = k, p = q;
  t.forward(y.data(), 9);
  t.query(p.data(), 4);
  for (int i = 0; i < 4; ++i) {
    double offset = 0;  // q.mean
    for (int c = 0; c < d; ++c) offset += double(q[i * d + c]) * t.steps[0].vector[c];
    for (int j = 0; j < 9; ++j) {
      double before = 0, after = 0;
      for (int c = 0; c < d; ++c) {
        before += double(q[i * d + c]) * k[j * d + c];
        after += double(p[i * d + c]) * y[j * d + c];
      }
      EXPECT_NEAR(after, before - offset, 2e-4);
    }
  }
}

TEST(HeadTransform, DenseIsTheLinearPart) {
  const int d = 32;
  const HeadTransform t = everything(d);
  const std::vector<float> a = t.dense(), x = random_rows(3, d);
  std::vector<float> y = x;
  t.forward(y.data(), 1);
  for (int j = 0; j < d; ++j) {
    double sum = 0;
    for (int i = 0; i < d; ++i) sum += (double(x[i]) - t.steps[0].vector[i]) * a[i * d + j];
    EXPECT_NEAR(y[j], sum, 3e-5);
  }
  const HeadTransform none{d, {}};
  EXPECT_TRUE(none.identity());
  const std::vector<float> eye = none.dense();
  for (int i = 0; i < d * d; ++i) EXPECT_EQ(eye[i], i % (d + 1) == 0 ? 1.0f : 0.0f);
}

}  // namespace
}  // namespace vi::transform
