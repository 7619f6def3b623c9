// vecinfer reconstruct: a method on one tensor, against formulas worked out here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/artifact/h5.h"
#include "core/common/half.h"
#include "core/common/json.h"
#include "core/common/rng.h"
#include "tests/support/process.h"

namespace vi::test {
namespace {

using artifact::DType;
using artifact::H5File;

constexpr std::int64_t kHeads = 2, kTokens = 200, kDim = 64;

std::vector<float> noise(std::int64_t n, std::uint64_t seed, double outlier = 1) {
  Rng rng(seed);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(rng.normal() * (i % kDim == 3 ? outlier : 1) + (i % kDim == 7 ? 2 : 0));
  return x;
}

class Reconstruct : public ::testing::Test {
 protected:
  void write_input(const std::function<void(H5File&)>& more = {}) {
    auto file = H5File::create(scratch_.path() / "in.h5");
    file.write("/key", DType::f32, {kHeads, kTokens, kDim}, key);
    file.write("/value", DType::f32, {kHeads, kTokens, kDim}, value);
    if (more) more(file);
    file.close();
  }
  Finished vi(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "reconstruct");
    return run_vecinfer(arguments, scratch_.path());
  }
  H5File output(const std::string& name = "out.h5") const { return H5File::open(scratch_.path() / name); }
  void expect_failure(const Finished& got, int code, const std::string& part) const {
    EXPECT_EQ(got.code, code) << got.err;
    EXPECT_NE(got.err.find(part), std::string::npos) << got.err;
    EXPECT_EQ(std::count(got.err.begin(), got.err.end(), '\n'), 1) << got.err;
  }
  Scratch scratch_;
  std::vector<float> key = noise(kHeads * kTokens * kDim, 1, 9), value = noise(kHeads * kTokens * kDim, 2);
};

std::size_t at(std::int64_t h, std::int64_t t, std::int64_t c) { return static_cast<std::size_t>((h * kTokens + t) * kDim + c); }

// KIVI: keys a channel over 32 tokens, values a token over 32 channels, 2 bits between minimum and maximum.
float kivi(const std::vector<float>& group, float x) {
  const auto [low, high] = std::minmax_element(group.begin(), group.end());
  const float m = half_to_float(float_to_half(*low)), s = half_to_float(float_to_half((*high - *low) / 3));
  return std::nearbyint(std::clamp((x - m) / s, 0.0f, 3.0f)) * s + m;
}

TEST_F(Reconstruct, KiviByHand) {
  write_input();
  const Finished got = vi({"kivi-2", "in.h5", "out.h5", "--set", "codec.window.recent=32"});
  ASSERT_EQ(got.code, 0) << got.err;
  const auto line = Json::parse(got.out);
  EXPECT_EQ(line.at("key_tokens_coded"), 192);    // whole blocks of 32
  EXPECT_EQ(line.at("value_tokens_coded"), 168);  // all but the newest 32
  EXPECT_EQ(line.at("key_metadata_bits"), 1.0);   // two halves for 32 elements
  EXPECT_GT(line.at("key_relative_error").get<double>(), 0.05);
  const H5File out = output();
  const std::vector<float> k = out.read<float>("/key"), v = out.read<float>("/value");
  for (std::int64_t h = 0; h < kHeads; ++h)
    for (std::int64_t t = 0; t < kTokens; ++t)
      for (std::int64_t c = 0; c < kDim; ++c) {
        std::vector<float> group;
        if (t < 192)
          for (std::int64_t i = 0; i < 32; ++i) group.push_back(key[at(h, t / 32 * 32 + i, c)]);
        ASSERT_NEAR(k[at(h, t, c)], t < 192 ? kivi(group, key[at(h, t, c)]) : key[at(h, t, c)], 1e-5) << h << ' ' << t << ' ' << c;
        group.clear();
        if (t < 168)
          for (std::int64_t i = 0; i < 32; ++i) group.push_back(value[at(h, t, c / 32 * 32 + i)]);
        ASSERT_NEAR(v[at(h, t, c)], t < 168 ? kivi(group, value[at(h, t, c)]) : value[at(h, t, c)], 1e-5) << h << ' ' << t << ' ' << c;
      }
}

// A row's pieces come back as the nearest centroids, through the map that calibration found.
TEST_F(Reconstruct, VectorCodesAreTheNearestCentroids) {
  write_input();
  const Finished got = vi({"vecinfer-subspace-2", "in.h5", "out.h5", "--set", "codec.window.recent=0", "codebook.iterations=3", "codec.key.code.bits=4"});
  ASSERT_EQ(got.code, 0) << got.err;
  const H5File out = output();
  EXPECT_EQ(out.attr_real("/", "key_bits"), 1.0);
  EXPECT_EQ(out.attr_real("/", "value_bits"), 2.0);
  const std::vector<float> k = out.read<float>("/key"), matrix = out.read<float>("/key_matrix"), books = out.read<float>("/key_centroids");
  EXPECT_EQ(out.info("/key_centroids").shape, (artifact::Shape{kHeads, 16, 1, 16, 4}));
  for (std::int64_t h = 0; h < kHeads; ++h)
    for (std::int64_t t = 0; t < kTokens; t += 7) {
      const auto mapped = [&](const std::vector<float>& rows) {
        std::vector<double> y(kDim);
        for (std::int64_t i = 0; i < kDim; ++i)
          for (std::int64_t j = 0; j < kDim; ++j) y[static_cast<std::size_t>(j)] += static_cast<double>(rows[at(h, t, i)]) * matrix[static_cast<std::size_t>((h * kDim + i) * kDim + j)];
        return y;
      };
      const std::vector<double> x = mapped(key), back = mapped(k);
      for (std::int64_t m = 0; m < 16; ++m) {
        double best = 1e30, ours = 0;
        for (std::int64_t c = 0; c < 16; ++c) {
          double d = 0;
          for (std::int64_t j = 0; j < 4; ++j) d += std::pow(x[static_cast<std::size_t>(m * 4 + j)] - books[static_cast<std::size_t>(((h * 16 + m) * 16 + c) * 4 + j)], 2);
          best = std::min(best, d);
        }
        for (std::int64_t j = 0; j < 4; ++j) ours += std::pow(x[static_cast<std::size_t>(m * 4 + j)] - back[static_cast<std::size_t>(m * 4 + j)], 2);
        ASSERT_NEAR(ours, best, 1e-4 * (1 + best));
      }
    }
}

// Methods that ask for more than keys and values say so, and take it where it is given.
TEST_F(Reconstruct, WhatSomeMethodsNeed) {
  write_input();
  expect_failure(vi({"vecinfer+2", "in.h5", "out.h5"}), 3, "/query: missing");
  expect_failure(vi({"kvquant-nuq2", "in.h5", "out.h5"}), 2, "rope_theta");
  const auto rope = [](H5File& file) { file.set_attr("/", "rope_theta", 10000.0); };
  write_input(rope);
  expect_failure(vi({"kvquant-nuq2", "in.h5", "out.h5"}), 3, "_gradient: missing");
  write_input([&](H5File& file) {
    rope(file);
    file.write("/query", DType::f32, {2 * kHeads, kTokens, kDim}, noise(2 * kHeads * kTokens * kDim, 5));
    for (const char* name : {"/key_gradient", "/value_gradient"}) file.write(name, DType::f32, {kHeads, kTokens, kDim}, noise(kHeads * kTokens * kDim, 6));
  });
  for (const char* method : {"vecinfer+2", "kvquant-nuq2", "cq-4c8b-fisher", "nova-kv-2", "chelsea-2"}) {
    const Finished got = vi({method, "in.h5", "out.h5"});
    EXPECT_EQ(got.code, 0) << method << ": " << got.err;
  }
}

TEST_F(Reconstruct, BadInput) {
  write_input();
  expect_failure(vi({"kivi-3", "in.h5", "out.h5"}), 2, "kivi-3");
  expect_failure(vi({"kivi-2", "in.h5", "out.h5", "--set", "codec.key.code.bit=3"}), 2, "bit");
  expect_failure(vi({"kivi-2", "in.h5", "out.h5", "--set", "model=x"}), 2, "expected codec.KEY");
  expect_failure(vi({"kivi-2", "none.h5", "out.h5"}), 3, "none.h5: cannot be read");
  write_input([](H5File& file) { file.write("/queries", DType::f32, {1}, std::vector<float>{1}); });
  expect_failure(vi({"kivi-2", "in.h5", "out.h5"}), 3, "/queries: unknown here");
  value[5] = std::nanf("");
  write_input();
  expect_failure(vi({"kivi-2", "in.h5", "out.h5"}), 3, "/value: expected finite numbers");
  value[5] = 0;
  value.resize(value.size() / 2);
  auto file = H5File::create(scratch_.path() / "in.h5");
  file.write("/key", DType::f32, {kHeads, kTokens, kDim}, key);
  file.write("/value", DType::f32, {kHeads, kTokens / 2, kDim}, value);
  file.close();
  expect_failure(vi({"kivi-2", "in.h5", "out.h5"}), 3, "/value: expected n_tokens 200 as in");
  EXPECT_FALSE(std::filesystem::exists(scratch_.path() / "out.h5"));
}

}  // namespace
}  // namespace vi::test
