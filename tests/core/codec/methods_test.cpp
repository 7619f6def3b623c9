// Conformance walk over every preset: it reads, says where it comes from, fits a model, and its
// coders keep the contract: bytes counted = bytes written, token by token = one shot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>

#include "core/codec/codec.h"
#include "core/codec/method.h"
#include "core/codec/train.h"
#include "core/common/rng.h"
#include "core/transform/calibrate.h"

namespace vi::codec {
namespace {

namespace fs = std::filesystem;
const fs::path kMethods = fs::path(VI_SOURCE_DIR) / "experiments/methods";

TEST(Methods, ThePapersRowsExist) {
  for (const char* name :
       {"fp16", "plain-2", "smooth-2", "hadamard-2", "hadamard-smooth-2", "vecinfer-4",
        "vecinfer-3", "vecinfer-2", "vecinfer-2-mixed", "vecinfer-1.5", "vecinfer-1.25",
        "vecinfer-1", "vecinfer-subspace-2", "million-2", "kivi-2"})
    EXPECT_NO_THROW(find_method(kMethods, name)) << name;
}

TEST(Methods, Errors) {
  try {
    find_method(kMethods, "vecinfr-2");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("did you mean 'vecinfer-2'"));
  }
  EXPECT_THROW(find_method(kMethods, "_kivi"), ConfigError);
  EXPECT_THROW(find_method(kMethods / "nowhere", "kivi-2"), ConfigError);
  const fs::path folder = fs::temp_directory_path() / fmt::format("vi_methods_test_{}", ::getpid());
  fs::create_directories(folder);
  const auto write = [&](const char* text) { std::ofstream(folder / "m.yaml") << text; };
  write("name: other\ndescription: d\nsource: s\n");
  EXPECT_THROW(load_method(folder / "m.yaml"), ConfigError);
  write("name: m\nsource: s\n");
  EXPECT_THROW(load_method(folder / "m.yaml"), ConfigError);
  write("name: m\ndescription: d\nsource: s\ncodec: {window: {size: 3}}\n");
  EXPECT_THROW(load_method(folder / "m.yaml"), ConfigError);
  write("name: m\ndescription: d\nsource: s\n");
  EXPECT_NO_THROW(load_method(folder / "m.yaml"));
  fs::remove_all(folder);
}

// Payload bits of each side as the names promise; the paper's section 2 table.
TEST(Methods, BitsAreThePapers) {
  struct Row {
    double key, value;
  };
  const std::map<std::string, Row> rows = {
      {"vecinfer-4", {4, 4}},       {"vecinfer-3", {3, 3}},
      {"vecinfer-2", {2, 2}},       {"vecinfer-2-mixed", {2.5, 1.5}},
      {"vecinfer-1.5", {1.5, 1.5}}, {"vecinfer-1.25", {1.5, 1}},
      {"vecinfer-1", {1, 1}},       {"million-4", {4, 4}},
      {"million-3", {3, 3}},        {"million-2", {2, 2}},
      {"plain-2", {2, 2}},          {"vecinfer-subspace-1.25", {1.5, 1}}};
  for (const auto& [name, row] : rows) {
    const CodecSpec codec = find_method(kMethods, name).codec;
    EXPECT_DOUBLE_EQ(double(codec.key.code.bits) / codec.key.code.dsub, row.key) << name;
    EXPECT_DOUBLE_EQ(double(codec.value.code.bits) / codec.value.code.dsub, row.value) << name;
    EXPECT_EQ(codec.window.recent, 128);
    EXPECT_EQ(codec.window.sinks, 0);
    EXPECT_TRUE(codec.value.transforms.empty()) << name;
  }
}

class EveryMethod : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Presets, EveryMethod, testing::ValuesIn(method_names(kMethods)),
                         [](const auto& i) {
                           std::string name = i.param;
                           for (char& c : name)
                             c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

TEST_P(EveryMethod, ReadsAndRunsAtHeadDim128) {
  const MethodSpec method = find_method(kMethods, GetParam());
  EXPECT_EQ(method.name, GetParam());
  EXPECT_LT(method.description.size(), 140u);
  const int d = 128, layers = 2, heads = 2;
  const std::size_t n = 300;
  ASSERT_NO_THROW(check_against_model(method.codec, d, {}));

  // Samples with outlier channels; codebooks from few points: this is about bytes, not quality.
  Rng rng(1);
  std::vector<std::vector<float>> samples(layers * heads, std::vector<float>(n * d));
  for (auto& rows : samples)
    for (std::size_t i = 0; i < n * d; ++i)
      rows[i] = static_cast<float>(rng.normal() * (i % d == 3 ? 20 : 1));
  TransformSet transforms{layers, heads, d, {}, {}};
  CodebookSet books;
  SilentProgress silent;
  for (const Side side : {Side::key, Side::value}) {
    const SideSpec& spec = side == Side::key ? method.codec.key : method.codec.value;
    auto& list = side == Side::key ? transforms.key : transforms.value;
    for (const auto& rows : samples)
      list.push_back(transform::calibrate(spec.transforms, rows.data(), n, d));
    const TrainShape shape{layers, heads, d, static_cast<std::int64_t>(n)};
    const RowSource source = [&](int layer, int head, std::vector<float>& rows) {
      rows = samples[layer * heads + head];
      list[layer * heads + head].forward(rows.data(), n);
    };
    std::vector<BookPart> parts;
    for (int part = 0; part < train_parts(spec.code, shape); ++part)
      parts.push_back(train_part(spec.code, side, shape, {2, 512, 1}, source, part, silent));
    (side == Side::key ? books.key : books.value) = join_parts(parts);
  }
  const Codec codec(method.codec, layers, heads, d, transforms, books);

  for (const bool key : {true, false}) {
    const HeadCoder* coder = key ? codec.key(1, 1) : codec.value(1, 1);
    if ((key ? method.codec.key : method.codec.value).code.kind == CodeKind::none) {
      EXPECT_EQ(coder, nullptr);
      continue;
    }
    ASSERT_NE(coder, nullptr);
    EXPECT_EQ(coder->head_dim(), d);
    const std::size_t seal = coder->seal_tokens(), whole = 256;
    ASSERT_EQ(whole % seal, 0u);
    EXPECT_EQ(coder->stream_bytes(whole) * 8,
              whole * d * (coder->payload_bits() + coder->metadata_bits()));
    const std::vector<float>& rows = samples[3];
    std::vector<std::uint8_t> one(coder->stream_bytes(whole), 0), steps = one;
    coder->encode(rows.data(), whole, 0, one.data());
    for (std::size_t t = 0; t < whole; t += seal)
      coder->encode(rows.data() + t * d, seal, t, steps.data());
    EXPECT_EQ(one, steps);
    std::vector<float> decoded(whole * d), made(whole * d);
    coder->decode(one.data(), 0, whole, decoded.data());
    coder->reconstruct(rows.data(), whole, made.data());
    EXPECT_EQ(decoded, made);
    // One bit between a group's extremes is worse than zero everywhere (about 2.7 for a normal group of 64).
    const double bound = coder->payload_bits() == 1.0 && !coder->vector_view() ? 4.0 : 1.0;
    EXPECT_LT(reconstruction_error(*coder, rows.data(), whole).relative(), bound);
  }

  // The accountant equals the bytes that a cache of this many tokens holds.
  for (const std::int64_t tokens : {1, 128, 300, 32768}) {
    const BitCount bits = codec.bits(tokens);
    double bytes = 0;
    for (const bool key : {true, false}) {
      const HeadCoder* coder = key ? codec.key(0, 0) : codec.value(0, 0);
      const Flush flush = key ? method.codec.window.key_flush : method.codec.window.value_flush;
      std::int64_t coded = 0;  // by appending one token at a time
      if (coder)
        for (std::int64_t t = 1; t <= tokens; ++t) {
          const std::int64_t rest = t - method.codec.window.sinks - coded;
          if (flush == Flush::block && rest == method.codec.window.recent) coded += rest;
          if (flush == Flush::sliding && rest > method.codec.window.recent) coded += 1;
        }
      bytes += (tokens - coded) * d * 2.0;
      if (coded % 16 == 0)
        bytes += coder ? coder->stream_bytes(coded) : 0;
      else
        bytes += coded * d * (coder->payload_bits() + coder->metadata_bits()) / 8;
    }
    EXPECT_NEAR(bits.total, bytes * 8 / (2.0 * tokens * d), 1e-9) << tokens;
    EXPECT_NEAR(
        bits.total,
        0.5 * (bits.key_payload + bits.value_payload + bits.key_metadata + bits.value_metadata) +
            bits.window,
        1e-12);
  }
  std::int64_t book_bytes = 0;
  for (const CodebookSide* side : {&books.key, &books.value})
    book_bytes += 2 * static_cast<std::int64_t>(side->centroids.size());
  EXPECT_GE(codec.bits(1).codebook_bytes, book_bytes);
}

}  // namespace
}  // namespace vi::codec
