// Training: which points reach which codebook, independence of order and threads, errors.
#include "core/codec/train.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/rng.h"

namespace vi::codec {
namespace {

constexpr TrainShape kShape{2, 3, 8, 40};

CodeSpec code(BookScope scope, BookPer per, int bits = 2) {
  CodeSpec c;
  c.kind = CodeKind::vector;
  c.dsub = 4;
  c.bits = bits;
  c.scope = scope;
  c.per = per;
  return c;
}

// Values of sub-space m of (layer, head) are 100 layer + 10 head + m: codebooks show what they saw.
void marked(int layer, int head, std::vector<float>& rows) {
  rows.resize(kShape.n_tokens * 8);
  for (std::size_t i = 0; i < rows.size(); ++i)
    rows[i] = static_cast<float>(100 * layer + 10 * head + static_cast<int>(i % 8 / 4));
}

std::set<float> seen(const BookPart& part, int group, int book) {
  const std::size_t size = static_cast<std::size_t>(part.ksub) * part.dsub;
  const float* begin = part.centroids.data() + (group * part.n_books + book) * size;
  return {begin, begin + size};
}

TEST(Train, EachCodebookSeesItsPoints) {
  SilentProgress silent;
  const auto part = [&](BookScope scope, BookPer per, int i) {
    return train_part(code(scope, per, 6), Side::key, kShape, {}, marked, i, silent);
  };
  const BookPart head = part(BookScope::shared, BookPer::head, 1);
  EXPECT_EQ(head.n_groups, 3);
  EXPECT_EQ(head.n_books, 1);
  EXPECT_EQ(seen(head, 2, 0), (std::set<float>{120, 121}));
  EXPECT_EQ(head.n_train, (std::vector<std::int64_t>{80, 80, 80}));
  EXPECT_EQ(head.dead, 3 * 62);
  const BookPart sub = part(BookScope::subspace, BookPer::head, 0);
  EXPECT_EQ(sub.n_books, 2);
  EXPECT_EQ(seen(sub, 2, 1), (std::set<float>{21}));
  EXPECT_EQ(sub.n_train[0], 40);
  const BookPart layer = part(BookScope::shared, BookPer::layer, 1);
  EXPECT_EQ(layer.n_groups, 1);
  EXPECT_EQ(seen(layer, 0, 0), (std::set<float>{100, 101, 110, 111, 120, 121}));
  const BookPart model = part(BookScope::subspace, BookPer::model, 0);
  EXPECT_EQ(seen(model, 0, 1), (std::set<float>{1, 11, 21, 101, 111, 121}));
  EXPECT_EQ(model.n_train, (std::vector<std::int64_t>{240, 240}));

  EXPECT_EQ(train_parts(code(BookScope::shared, BookPer::head), kShape), 2);
  EXPECT_EQ(train_parts(code(BookScope::shared, BookPer::model), kShape), 1);
  EXPECT_EQ(train_parts(CodeSpec{}, kShape), 0);
  EXPECT_EQ(part_problems(code(BookScope::subspace, BookPer::head), kShape), 6);
  EXPECT_EQ(part_problems(code(BookScope::subspace, BookPer::model), kShape), 2);
}

void noise(int layer, int head, std::vector<float>& rows) {
  rows.resize(kShape.n_tokens * 8);
  Rng rng(layer * 10 + head);
  for (float& x : rows) x = static_cast<float>(rng.normal());
}

TEST(Train, WeightsOfSubVectorsReachTheirBook) {
  // Two values a channel; one centroid a sub-space: the weighted mean, another weight in each sub-space.
  CodeSpec code;
  code.kind = CodeKind::vector;
  code.dsub = 2;
  code.bits = 0;
  const TrainShape shape{1, 1, 4, 2};
  const std::vector<float> x{0, 0, 0, 0, 8, 8, 8, 8};
  const auto source = [&](int, int, std::vector<float>& rows) { rows = x; };
  SilentProgress progress;
  for (const BookScope scope : {BookScope::subspace, BookScope::shared}) {
    code.scope = scope;
    const BookPart by_sub_vector = train_part(code, Side::key, shape, {}, source, 0, progress,
                                              [](int, int, std::vector<float>& w) { w = {1, 3, 3, 1}; });
    const BookPart by_token = train_part(code, Side::key, shape, {}, source, 0, progress, [](int, int, std::vector<float>& w) { w = {1, 3}; });
    const std::vector<float> expected = scope == BookScope::subspace ? std::vector<float>{6, 6, 2, 2} : std::vector<float>{4, 4};
    EXPECT_EQ(by_sub_vector.centroids, expected);
    EXPECT_EQ(by_token.centroids, scope == BookScope::subspace ? std::vector<float>({6, 6, 6, 6}) : std::vector<float>({6, 6}));
  }
  EXPECT_THROW(train_part(code, Side::key, shape, {}, source, 0, progress, [](int, int, std::vector<float>& w) { w = {1, 2, 3}; }), Error);
}

TEST(Train, PartsDoNotDependOnTheirOrderAndEverySeedDiffers) {
  SilentProgress silent;
  const CodeSpec c = code(BookScope::subspace, BookPer::head);
  const TrainSettings settings{5, 25, 7};
  const BookPart b = train_part(c, Side::key, kShape, settings, noise, 1, silent);
  const BookPart a = train_part(c, Side::key, kShape, settings, noise, 0, silent);
  const BookPart again = train_part(c, Side::key, kShape, settings, noise, 1, silent);
  EXPECT_EQ(again.centroids, b.centroids);
  EXPECT_EQ(again.usage, b.usage);
  EXPECT_EQ(again.train_mse, b.train_mse);
  EXPECT_NE(a.centroids, b.centroids);
  EXPECT_EQ(b.n_train[0], 25);
  EXPECT_EQ(std::accumulate(b.usage.begin(), b.usage.end(), std::int64_t{0}), 25 * 6);
  EXPECT_NE(train_part(c, Side::value, kShape, settings, noise, 1, silent).centroids, b.centroids);
  EXPECT_NE(train_part(c, Side::key, kShape, {5, 25, 8}, noise, 1, silent).centroids, b.centroids);
  for (const float x : b.centroids) EXPECT_EQ(x, half_to_float(float_to_half(x)));

  const CodebookSide side = join_parts({a, b});
  EXPECT_EQ(side.n_layers, 2);
  EXPECT_EQ(std::vector<float>(side.at(1, 0), side.at(1, 0) + b.centroids.size()), b.centroids);
  EXPECT_TRUE(join_parts({}).empty());
}

TEST(Train, SamplesUniformly) {
  // Two centroids over the model: their mean is the sample's, near the mean of all.
  const TrainShape shape{4, 4, 8, 2000};
  CodeSpec c = code(BookScope::shared, BookPer::model, 1);
  SilentProgress silent;
  const RowSource source = [&](int layer, int head, std::vector<float>& rows) {
    rows.assign(2000 * 8, static_cast<float>(layer * 4 + head));
  };
  const BookPart part = train_part(c, Side::key, shape, {30, 512, 1}, source, 0, silent);
  EXPECT_EQ(part.n_train[0], 512);
  EXPECT_EQ(train_part(c, Side::key, shape, {2, 100000, 1}, source, 0, silent).n_train[0], 64000);  // all there are: a small book
  EXPECT_EQ(train_part(code(BookScope::shared, BookPer::model, 9), Side::key, {8, 8, 8, 2000}, {1, 1000000, 1}, source, 0, silent).n_train[0],
            256 * 512);  // 256 a centroid
  const double mean =
      (part.centroids[0] * part.usage[0] + part.centroids[4] * part.usage[1]) / 512.0;
  EXPECT_NEAR(mean, 7.5, 0.7);  // sd of the mean 0.2
}

TEST(Train, UniversalLevelsAreLloydMaxs) {
  SilentProgress silent;
  CodeSpec c = code(BookScope::shared, BookPer::model, 2);
  c.dsub = 1;
  c.points = Points::normal;
  const RowSource none = [](int, int, std::vector<float>&) { FAIL() << "no sample is needed"; };
  const BookPart part = train_part(c, Side::key, kShape, {}, none, 0, silent);
  // Max (1960), table I: levels 0.4528, 1.510, distortion 0.1175
  const float want[] = {-1.510f, -0.4528f, 0.4528f, 1.510f};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(part.centroids[i], want[i], 1e-3);
  EXPECT_NEAR(part.train_mse[0], 0.1175, 1e-4);
  c.bits = 1;
  EXPECT_NEAR(train_part(c, Side::key, kShape, {}, none, 0, silent).centroids[1], 0.7979, 1e-3);
  c.bits = 4;
  EXPECT_NEAR(train_part(c, Side::key, kShape, {}, none, 0, silent).train_mse[0], 0.009497, 1e-5);
  c.dsub = 2;
  const BookPart plane = train_part(c, Side::key, kShape, {20, 4096, 1}, none, 0, silent);
  EXPECT_EQ(plane.centroids.size(), 32u);
  EXPECT_EQ(plane.centroids, train_part(c, Side::value, kShape, {20, 4096, 1}, none, 0, silent).centroids);
  EXPECT_LT(plane.train_mse[0], 0.1175);
}

TEST(Train, SecondStageCodesWhatTheFirstLeaves) {
  SilentProgress silent;
  CodeSpec c = code(BookScope::subspace, BookPer::head, 2);
  const BookPart one = train_part(c, Side::key, kShape, {}, noise, 0, silent);
  c.stages = 2;
  const BookPart two = train_part(c, Side::key, kShape, {}, noise, 0, silent);
  ASSERT_EQ(two.n_stages(), 2);
  EXPECT_EQ(join_parts({two}).n_stages, 2);
  EXPECT_EQ(two.centroids.size(), 2 * one.centroids.size());
  EXPECT_TRUE(std::equal(one.centroids.begin(), one.centroids.begin() + 16, two.centroids.begin()));
  EXPECT_EQ(two.train_mse[0], one.train_mse[0]);
  EXPECT_LT(two.train_mse[1], 0.7 * two.train_mse[0]);
}

TEST(Train, LevelsOfInliersStretchedAndRounded) {
  SilentProgress silent;
  const TrainShape shape{1, 1, 4, 2000};
  const RowSource source = [&](int, int, std::vector<float>& rows) {
    Rng rng(5);
    rows.resize(2000 * 4);
    for (float& x : rows) x = static_cast<float>(rng.uniform() * 1.8 - 0.9);
    for (std::size_t i = 0; i < rows.size(); i += 100) rows[i] = 50;
  };
  CodeSpec c = code(BookScope::shared, BookPer::layer, 2);
  c.dsub = 1;
  c.inliers = true;
  const auto sorted = [](BookPart part) {
    std::sort(part.centroids.begin(), part.centroids.end());
    return part;
  };
  const BookPart plain = sorted(train_part(c, Side::key, shape, {}, source, 0, silent));
  EXPECT_NEAR(plain.centroids[3], 0.675, 0.05);  // without `inliers` it would be 50
  // Uniform on [-0.9, 0.9]: deviation 0.5196, of the four levels 0.5031: stretched by 1.033.
  c.q_norm = true;
  const BookPart stretched = sorted(train_part(c, Side::key, shape, {}, source, 0, silent));
  EXPECT_NEAR(stretched.centroids[3] / plain.centroids[3], std::sqrt(16.0 / 15), 0.01);
  c.q_norm = false;
  c.centroids = Centroids::e5m2;
  for (const float x : train_part(c, Side::key, shape, {}, source, 0, silent).centroids)
    EXPECT_EQ(float_to_half(x) & 0xff, 0) << x;  // an e5m2 is the upper byte of a half
}

TEST(Train, Errors) {
  SilentProgress silent;
  const CodeSpec c = code(BookScope::shared, BookPer::head);
  const auto train = [&](TrainShape shape, const RowSource& source, int part) {
    return train_part(c, Side::key, shape, {}, source, part, silent);
  };
  EXPECT_THROW(train(kShape, noise, 2), Error);
  EXPECT_THROW(train({2, 3, 8, 0}, noise, 0), Error);
  EXPECT_THROW(train({2, 3, 8, 41}, noise, 0), Error);
  EXPECT_THROW(train({2, 3, 10, 40}, noise, 0), Error);
  const RowSource bad = [](int layer, int head, std::vector<float>& rows) {
    noise(layer, head, rows);
    rows[5] = std::nanf("");
  };
  EXPECT_THROW(train(kShape, bad, 0), Error);
  TrainSettings settings;
  EXPECT_THROW(config::read(config::parse_yaml_text("{iterations: 0}", "t"), settings),
               ConfigError);
  EXPECT_THROW(config::read(config::parse_yaml_text("{max_points: 0}", "t"), settings),
               ConfigError);
}

}  // namespace
}  // namespace vi::codec
