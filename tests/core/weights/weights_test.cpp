#include <bit>
#include <cstring>
#include <limits>

#include "core/common/hash.h"
#include "core/common/rng.h"
#include "core/weights/gguf.h"
#include "core/weights/safetensors.h"
#include "tests/core/model/text_fixtures.h"

namespace vi::model {
namespace {

std::vector<std::uint8_t> bytes_of(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  return {text.begin(), text.end()};
}

TEST(Gguf, EveryTypeDecodesToTheBitsOfTheReference) {
  const GgufFile file(fixture("quants.gguf"));
  int types = 0;
  for (const TensorInfo& t : file.tensors()) {
    if (t.name.ends_with(".expected")) continue;
    SCOPED_TRACE(t.name);
    ++types;
    EXPECT_EQ(t.shape, (std::vector<std::int64_t>{3, 512}));
    const std::vector<float> got = file.read_f32(t.name),
                             want = file.read_f32(t.name + ".expected");
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i] + 0.0f),
                std::bit_cast<std::uint32_t>(want[i] + 0.0f))
          << i;
  }
  EXPECT_EQ(types, 11);
}

TEST(Gguf, RowsAreThoseOfTheWholeTensor) {
  const GgufFile file(fixture("tiny.gguf"));
  for (const TensorInfo& t : file.tensors()) {
    const std::vector<float> whole = file.read_f32(t.name);
    std::vector<float> row(static_cast<std::size_t>(t.columns()));
    for (std::int64_t r = 0; r < t.rows(); ++r) {
      file.read_rows(t.name, r, 1, row);
      EXPECT_TRUE(std::equal(row.begin(), row.end(), whole.begin() + r * t.columns())) << t.name;
    }
  }
}

TEST(Weights, GgufAndHuggingFaceFolderAreTheSameModel) {
  const GgufFile gguf(fixture("tiny.gguf"));
  const SafetensorsFile hf(fixture("tiny_hf"));
  ASSERT_EQ(gguf.tensors().size(), hf.tensors().size());
  for (std::size_t i = 0; i < hf.tensors().size(); ++i) {
    EXPECT_EQ(gguf.tensors()[i].name, hf.tensors()[i].name);
    EXPECT_EQ(gguf.tensors()[i].shape, hf.tensors()[i].shape);
    EXPECT_EQ(gguf.read_f32(gguf.tensors()[i].name), hf.read_f32(hf.tensors()[i].name))
        << hf.tensors()[i].name;
  }
  const std::int64_t shape[] = {24, 8};
  EXPECT_NO_THROW(hf.expect("model.layers.1.self_attn.q_proj.weight", shape));
  expect_contract_error([&] { hf.expect("model.norm.weight", shape); },
                        {"model.norm.weight", "[24, 8]", "[8]"});
  expect_contract_error([&] { gguf.at("nothing"); }, {"tiny.gguf", "nothing"});
}

TEST(Weights, Sha256) {
  const GgufFile gguf(fixture("tiny.gguf"));
  EXPECT_EQ(gguf.sha256(), sha256_file(fixture("tiny.gguf")));
  EXPECT_EQ(gguf.sha256(), GgufFile(bytes_of(fixture("tiny.gguf")), "memory").sha256());
  const std::string a = "model-00001-of-00002.safetensors", b = "model-00002-of-00002.safetensors";
  const SafetensorsFile hf(fixture("tiny_hf"));
  EXPECT_EQ(hf.sha256(), sha256_hex(sha256_file(fixture("tiny_hf/" + a)) + "  " + a + "\n" +
                                    sha256_file(fixture("tiny_hf/" + b)) + "  " + b + "\n"));
}

TEST(Weights, ValuesThatAreNotFiniteAreNamed) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<std::uint8_t> bytes = bytes_of(fixture("quants.gguf"));
    const GgufFile good(bytes, "q.gguf");
    const std::vector<float> f32 = good.read_f32("f32");
    std::uint8_t pattern[4];  // of row 1, column 2
    std::memcpy(pattern, &f32[512 + 2], 4);
    for (auto it = bytes.begin();; ++it) {
      it = std::search(it, bytes.end(), pattern, pattern + 4);
      if (it == bytes.end()) break;
      std::memcpy(&*it, &bad, 4);
    }
    const GgufFile file(bytes, "q.gguf");
    expect_contract_error([&] { file.read_f32("f32"); },
                          {"q.gguf", "f32", "row 1, column 2", "finite"});
  }
}

// Whatever is cut off or changed, it is a ContractError of one line or a file that can be read.
template <class File>
void hurt(const std::filesystem::path& path) {
  const std::vector<std::uint8_t> good = bytes_of(path);
  const auto attempt = [&](std::vector<std::uint8_t> bytes) {
    try {
      const File file(std::move(bytes), "hurt");
      for (const TensorInfo& t : file.tensors())
        if (t.elements() < 100000) file.read_f32(t.name);
    } catch (const ContractError& error) {
      const std::string text = error.what();
      EXPECT_TRUE(text.starts_with("hurt: ")) << text;
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    }
  };
  for (std::size_t n = 0; n < good.size(); n += n < 2000 ? 1 : 97)
    attempt({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n)});
  Rng rng(7);
  for (int i = 0; i < 3000; ++i) {
    std::vector<std::uint8_t> bytes = good;
    for (std::uint64_t k = rng.below(4) + 1; k > 0; --k)
      bytes[rng.below(std::min<std::size_t>(bytes.size(), 9000))] =
          static_cast<std::uint8_t>(rng.below(3) ? rng.next() : 255);
    attempt(std::move(bytes));
  }
}
TEST(Hostile, Gguf) { hurt<GgufFile>(fixture("tiny.gguf")); }
TEST(Hostile, Safetensors) {
  hurt<SafetensorsFile>(fixture("tiny_hf/model-00001-of-00002.safetensors"));
}

std::vector<std::uint8_t> safetensors(const std::string& header, std::size_t data) {
  std::vector<std::uint8_t> bytes(8 + header.size() + data);
  const std::uint64_t n = header.size();
  std::memcpy(bytes.data(), &n, 8);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  return bytes;
}

TEST(Hostile, SafetensorsHeaders) {
  const auto rejects = [](const std::string& header, std::initializer_list<const char*> parts) {
    SCOPED_TRACE(header);
    expect_contract_error([&] { SafetensorsFile(safetensors(header, 16), "m.safetensors"); },
                          parts);
  };
  rejects(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
      {"m.safetensors", "a", "once"});
  rejects(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[16,24]}})", {"tensor a", "16"});
  rejects(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", {"tensor a", "12 bytes"});
  rejects(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})",
          {"tensor a", "shape"});
  rejects(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}})", {"tensor a", "shape"});
  rejects(R"({"a":{"dtype":"F32","shape":[0,1152921504606846975],"data_offsets":[0,0]}})",
          {"tensor a"});
  rejects(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", {"tensor a", "shape", "missing"});
  rejects("[1]", {"header", "an object"});
  rejects("{\"a\xff\":1}", {"header", "UTF-8"});
  rejects(std::string(100, '['), {"header", "deep"});
  EXPECT_EQ(
      SafetensorsFile(
          safetensors(
              R"({"__metadata__":{"x":"y"},"i":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}})",
              16),
          "m")
          .tensors()
          .size(),
      0u);
  std::vector<std::uint8_t> huge(16, 0xff);
  expect_contract_error([&] { SafetensorsFile(huge, "m"); }, {"m: byte 0", "header"});
}

TEST(Hostile, ShardIndex) {
  const auto rejects = [](const std::string& index, std::initializer_list<const char*> parts) {
    const auto path = scratch("model.safetensors.index.json", index);
    expect_contract_error([&] { SafetensorsFile(path.parent_path()); }, parts);
  };
  rejects(R"({"weight_map":{"a":"../../etc/passwd"}})", {"index.json", "same folder"});
  rejects(R"({"weight_map":{"a":"gone.safetensors"}})", {"gone.safetensors"});
  rejects(R"({"weight_map":{}})", {"at least one"});
  rejects(R"({"weight_map":[1]})", {"weight_map", "object"});
  rejects(R"({})", {"weight_map", "missing"});
  expect_contract_error([] { SafetensorsFile(fixture("chat")); }, {"model.safetensors"});
}

// GGUF by hand, to reach what gguf's writer refuses to write.
struct Maker {
  std::string bytes;
  template <class T>
  Maker& put(T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Maker& text(const std::string& s) {
    put<std::uint64_t>(s.size());
    bytes += s;
    return *this;
  }
  Maker& head(std::uint64_t tensors, std::uint64_t keys) {
    bytes += "GGUF";
    return put<std::uint32_t>(3).put(tensors).put(keys);
  }
  Maker& arch() { return text("general.architecture").put<std::uint32_t>(8).text("qwen2"); }
  void rejects(std::initializer_list<const char*> parts) const {
    expect_contract_error([&] { GgufFile({bytes.begin(), bytes.end()}, "m.gguf"); }, parts);
  }
};

TEST(Hostile, GgufHeaders) {
  constexpr std::uint64_t kHuge = ~0ull;
  const auto tensor = [](std::uint64_t rows, std::uint64_t columns, std::uint32_t type,
                         std::uint64_t offset, std::uint64_t n = 1) {
    Maker m;
    m.head(n, 1).arch();
    for (std::uint64_t i = 0; i < n; ++i)
      m.text("t").put<std::uint32_t>(2).put(columns).put(rows).put(type).put(offset);
    m.bytes.append(512, '\0');
    return m;
  };
  Maker().rejects({"m.gguf", "magic"});
  Maker().head(0, kHuge).rejects({"byte 24", "metadata key"});
  Maker().head(kHuge, 1).arch().rejects({"tensor name"});
  Maker().head(0, 1).put(kHuge).rejects({"byte 32", "left"});
  Maker().head(0, 1).text("k").put<std::uint32_t>(9).put<std::uint32_t>(8).put(kHuge).rejects(
      {"array", "left"});
  Maker()
      .head(0, 1)
      .text("k")
      .put<std::uint32_t>(9)
      .put<std::uint32_t>(9)
      .put<std::uint64_t>(1)
      .rejects({"plain"});
  Maker().head(0, 1).text("k").put<std::uint32_t>(13).rejects({"0..12"});
  Maker().head(0, 1).text("k").put<std::uint32_t>(10).put(kHuge).rejects({"2^63"});
  Maker().head(0, 2).arch().arch().rejects({"general.architecture", "once"});
  Maker().head(0, 0).rejects({"general.architecture", "missing"});
  tensor(kHuge, 32, 0, 0).rejects({"2^63"});
  tensor(1ull << 62, 32, 0, 0).rejects({"2^62"});
  tensor(1ull << 57, 32, 0, 0).rejects({"tensor t", "inside"});
  tensor(4, 32, 0, 64).rejects({"tensor t", "inside"});
  tensor(4, 32, 0, kHuge - 3).rejects({"tensor t", "inside"});
  tensor(4, 31, 3, 0).rejects({"tensor t", "multiple of 32"});
  tensor(0, 32, 0, 0).rejects({"1 or more"});
  tensor(4, 32, 10, 0).rejects({"type 10"});
  tensor(1, 32, 0, 0, 2).rejects({"tensor t", "once"});
  EXPECT_EQ(GgufFile(
                [] {
                  Maker m;
                  m.head(1, 1)
                      .arch()
                      .text("t")
                      .put<std::uint32_t>(1)
                      .put<std::uint64_t>(8)
                      .put<std::uint32_t>(0)
                      .put<std::uint64_t>(0);
                  m.bytes.append(80, '\0');
                  return std::vector<std::uint8_t>(m.bytes.begin(), m.bytes.end());
                }(),
                "m.gguf")
                .read_f32("t"),
            std::vector<float>(8));
}

TEST(Gguf, EmbeddedModel) {
  if (!std::filesystem::exists(smollm_gguf()))
    GTEST_SKIP() << "no " << smollm_gguf() << ": run `make setup`";
  const GgufFile file(smollm_gguf());
  EXPECT_EQ(file.tensors().size(), 272u);
  EXPECT_EQ(file.at("model.embed_tokens.weight").type, TensorType::q8_0);
  EXPECT_EQ(file.at("model.layers.29.self_attn.k_proj.weight").shape,
            (std::vector<std::int64_t>{192, 576}));
  EXPECT_EQ(file.read_f32("model.layers.0.self_attn.q_proj.weight").size(), 576u * 576u);
}

}  // namespace
}  // namespace vi::model
