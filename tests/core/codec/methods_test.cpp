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
#include "core/common/half.h"
#include "tests/support/fit_method.h"

namespace vi::codec {
namespace {

namespace fs = std::filesystem;
namespace testing_support = ::vi::testing;
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
    EXPECT_THAT(error.what(), ::testing::HasSubstr("did you mean 'vecinfer-2'"));
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

class EveryMethod : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Presets, EveryMethod, ::testing::ValuesIn(method_names(kMethods)),
                         [](const auto& i) {
                           std::string name;
                           for (const char c : i.param) {
                             if (c == '+')
                               name += "_plus_";
                             else
                               name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           }
                           return name;
                         });

TEST_P(EveryMethod, ReadsAndRunsAtHeadDim128) {
  const MethodSpec method = find_method(kMethods, GetParam());
  EXPECT_EQ(method.name, GetParam());
  EXPECT_LT(method.description.size(), 140u);
  EXPECT_FALSE(method.source.empty());
  const int d = 128;
  ASSERT_NO_THROW(check_against_model(method.codec, d, {}));
  // Codebooks from few points: this is about bytes, not quality.
  const testing_support::Fitted fitted = testing_support::fit_method(method, {});
  const Codec& codec = *fitted.codec;
  const int layer = 2;

  double bytes_per_token = 0, fixed = 0;
  for (const bool key : {true, false}) {
    const HeadCoder* coder = key ? codec.key(layer, 1) : codec.value(layer, 1);
    const SideSpec& side = key ? method.codec.key : method.codec.value;
    if (side.code.kind == CodeKind::none) {
      EXPECT_EQ(coder, nullptr);
      continue;
    }
    ASSERT_NE(coder, nullptr);
    EXPECT_EQ(coder->head_dim(), d);
    EXPECT_EQ(coder->seal_tokens(), seal_tokens(side));
    const std::size_t seal = coder->seal_tokens(), whole = 256;
    ASSERT_EQ(whole % seal, 0u);
    EXPECT_DOUBLE_EQ((coder->stream_bytes(whole) - coder->fixed_bytes()) * 8,
                     whole * d * (coder->payload_bits() + coder->metadata_bits()));
    // Not the rows the codebooks were trained on: those they may know by heart.
    const std::vector<float> fresh_keys = testing_support::sample_rows({}, 77, true);
    const std::vector<float> rows = key ? fresh_keys : testing_support::sample_rows({}, 78, false);
    const float* keys = fresh_keys.data();
    const auto encode = [&](std::size_t first, std::size_t n, std::vector<std::uint8_t>& stream) {
      if (coder->wants_keys())
        coder->encode_with_keys(rows.data() + first * d, keys + first * d, n, first, stream.data());
      else
        coder->encode(rows.data() + first * d, n, first, stream.data());
    };
    std::vector<std::uint8_t> one(coder->stream_bytes(whole), 0), steps = one;
    encode(0, whole, one);
    for (std::size_t t = 0; t < whole; t += seal) encode(t, seal, steps);
    EXPECT_EQ(one, steps);
    std::vector<float> decoded(whole * d), made(whole * d);
    coder->decode(one.data(), 0, whole, decoded.data());
    coder->reconstruct_at(rows.data(), whole,
                          {static_cast<std::size_t>(method.codec.window.sinks), keys}, made.data());
    EXPECT_EQ(decoded, made);
    std::vector<float> part(3 * d);
    coder->decode(one.data(), 130, 3, part.data());
    EXPECT_TRUE(std::equal(part.begin(), part.end(), decoded.begin() + 130 * d));
    double error = 0, energy = 0;
    for (std::size_t x = 0; x < whole * d; ++x) {
      error += (rows[x] - made[x]) * (rows[x] - made[x]);
      energy += rows[x] * rows[x];
    }
    // One bit between a group's extremes is worse than zero everywhere (about 2.7 for a normal group of 64).
    const double bound = coder->payload_bits() == 1.0 && !coder->vector_view() ? 4.0 : 1.0;
    EXPECT_LT(error / energy, bound);
    EXPECT_GT(error / energy, 1e-7) << "silently exact";
    bytes_per_token += d * (coder->payload_bits() + coder->metadata_bits()) / 8;
    fixed += coder->fixed_bytes();
  }

  // The accountant equals the bytes that a cache of this many tokens holds, layer by layer.
  for (const std::int64_t tokens : {1, 128, 300, 32768}) {
    const BitCount bits = codec.bits(tokens);
    double bytes = 0;
    for (int l = 0; l < codec.n_layers(); ++l)
      for (const bool key : {true, false}) {
        const HeadCoder* coder = key ? codec.key(l, 0) : codec.value(l, 0);
        const Flush flush = key ? method.codec.window.key_flush : method.codec.window.value_flush;
        std::int64_t coded = 0;  // by appending one token at a time
        if (coder)
          for (std::int64_t t = 1; t <= tokens; ++t) {
            const std::int64_t rest = t - method.codec.window.sinks - coded;
            const int recent = method.codec.window.recent, seal = coder->seal_tokens();
            if (flush == Flush::block && rest > 0 && rest == std::max(1, recent)) coded += method.codec.window.step > 0 ? method.codec.window.step : rest;
            if (flush == Flush::sliding && rest >= recent + seal) coded += seal;
          }
        bytes += (tokens - coded) * d * 2.0;
        if (coder && coded > 0)
          bytes += coder->fixed_bytes() + coded * d * (coder->payload_bits() + coder->metadata_bits()) / 8;
      }
    EXPECT_NEAR(bits.total, bytes * 8 / (2.0 * tokens * d * codec.n_layers()), 1e-9) << tokens;
    EXPECT_NEAR(
        bits.total,
        0.5 * (bits.key_payload + bits.value_payload + bits.key_metadata + bits.value_metadata) +
            bits.window,
        1e-12);
  }
  std::int64_t book_bytes = 0;
  for (const CodebookSide* side : {&codec.codebooks().key, &codec.codebooks().value})
    book_bytes += 2 * static_cast<std::int64_t>(side->centroids.size());
  EXPECT_GE(codec.bits(1).codebook_bytes, book_bytes);
}

// A method on a model of 32 layers, head_dim 128, without data: its bits.
BitCount bits_of(const MethodSpec& method) {
  const int d = 128, layers = 32;
  TransformSet transforms{layers, 1, d, {}, {}};
  CodebookSet books;
  const std::vector<float> rows = testing_support::sample_rows({1, 1, d, 8, 0}, 1, true);
  const transform::MomentSource moment = [&](transform::Moment) { return testing_support::some_moment(d); };
  for (const bool key : {true, false}) {
    const SideSpec& side = key ? method.codec.key : method.codec.value;
    if (!side.transforms.empty())
      (key ? transforms.key : transforms.value)
          .assign(layers, transform::calibrate(side.transforms, rows.data(), 8, d, "rows", moment));
    const CodeSpec& code = side.code;
    if (code.kind != CodeKind::vector) continue;
    CodebookSide one{code.per == BookPer::model ? 1 : layers, 1,
                     code.scope == BookScope::shared ? 1 : d / code.dsub, code.ksub(), code.dsub, {}};
    one.n_stages = code.stages;
    one.centroids.resize(static_cast<std::size_t>(one.n_layers) * one.n_books * one.n_stages * one.ksub * one.dsub);
    (key ? books.key : books.value) = std::move(one);
  }
  if (method.codec.key.tap == Tap::pre_rope) transforms.rope = testing_support::rope_of(d);
  return Codec(method.codec, layers, 1, d, std::move(transforms), std::move(books)).fullest_bits(32768);
}

// docs/methods.md holds what the presets say. Where it does not, the text that it should hold is written to
// the file named in the message.
TEST(Methods, TheirPageIsUpToDate) {
  const auto cell = [](std::string text) {  // a bar would end the cell
    for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, 1, '\\');
    return text;
  };
  std::string table =
      "| method | fidelity | K bits | V bits | total | what | source |\n|---|---|---|---|---|---|---|\n";
  std::map<std::string, std::pair<std::string, std::string>> notes;  // key and text -> families
  std::vector<std::string> order;
  for (const std::string& name : method_names(kMethods)) {
    const MethodSpec method = find_method(kMethods, name);
    const BitCount b = bits_of(method);
    table += fmt::format("| `{}` | {} | {:.3f} | {:.3f} | {:.3f} | {} | {} |\n", name,
                         config::to_string(method.fidelity), b.key_payload + b.key_metadata,
                         b.value_payload + b.value_metadata, b.total, cell(method.description), cell(method.source));
    for (const auto& [key, text] : method.notes) {
      auto& [methods, line] = notes[key + text];
      if (methods.empty()) order.push_back(key + text);
      methods += (methods.empty() ? "`" : ", `") + name + "`";
      line = fmt::format("`{}`: {}", key, text);
    }
  }
  std::string list;
  for (const std::string& note : order) list += fmt::format("- {}: {}\n", notes[note].first, notes[note].second);
  const fs::path page = fs::path(VI_SOURCE_DIR) / "docs/methods.md";
  std::ifstream file(page);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const bool holds = text.find(table) != std::string::npos && text.find(list) != std::string::npos;
  if (!holds) {
    const fs::path wanted = fs::temp_directory_path() / "vi_methods_page.md";
    std::ofstream(wanted) << table << "\n" << list;
    FAIL() << "docs/methods.md lacks the tables of " << wanted;
  }
}

// Every preset gives back something else than every other on the committed tensor (docs: what a preset
// is for): fixtures/kv_tensor.f16, keys then values, [2, 320, 128] halves, written by make_kv_tensor.py.
TEST(Methods, EachDiffersFromEveryOther) {
  const int d = 128;
  const std::size_t n = 320;
  std::ifstream file(fs::path(VI_TESTS_DIR) / "core/codec/fixtures/kv_tensor.f16", std::ios::binary);
  std::vector<std::uint16_t> halves(2 * n * d);
  file.read(reinterpret_cast<char*>(halves.data()), static_cast<std::streamsize>(halves.size() * 2));
  ASSERT_TRUE(file.good());
  std::vector<float> keys, values;
  for (std::size_t i = 0; i < n * d; ++i) keys.push_back(half_to_float(halves[i]));
  for (std::size_t i = n * d; i < 2 * n * d; ++i) values.push_back(half_to_float(halves[i]));
  std::map<std::vector<float>, std::string> seen;
  for (const std::string& name : method_names(kMethods)) {
    const MethodSpec method = find_method(kMethods, name);
    const testing_support::Fitted fitted = testing_support::fit_method(method, {5, 1, d, 1300, 1300});
    std::vector<float> out;
    for (const bool key : {true, false}) {
      const HeadCoder* coder = key ? fitted.codec->key(2, 0) : fitted.codec->value(2, 0);
      std::vector<float> rows = key ? keys : values;
      if (coder) coder->reconstruct_at(rows.data(), n, {0, keys.data()}, rows.data());
      out.insert(out.end(), rows.begin(), rows.end());
    }
    const auto [other, fresh] = seen.emplace(std::move(out), name);
    EXPECT_TRUE(fresh) << name << " equals " << other->second;
  }
}

}  // namespace
}  // namespace vi::codec
