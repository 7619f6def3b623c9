// Contracts: files made whole pass, and each single fault is named; transform.h5 and codebook.h5
// round trips; foreign files in a child process, every byte of one flipped in turn.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <functional>

#include "core/artifact/contracts.h"
#include "core/artifact/foreign.h"
#include "core/codec/codec_io.h"
#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/half.h"
#include "core/common/rng.h"
#include "tests/core/artifact/sample_files.h"
#include "tests/core/artifact/scratch.h"

namespace vi::artifact {
namespace {

using testing::HasSubstr;

using namespace test;  // sample files

TEST(Contract, WholeFilesPass) {
  const Scratch scratch;
  H5File samples = H5File::create(scratch / "kv_samples.h5");
  write_samples(samples);
  check_contract(samples, FileKind::kv_samples);
  samples.close();
  check_contract(H5File::open(scratch / "kv_samples.h5"), FileKind::kv_samples);
  H5File file = H5File::create(scratch / "codec.h5");
  write_codec(file);
  check_contract(file, FileKind::codec);
}

TEST(Contract, KvTransformed) {
  const Scratch scratch;
  H5File file = H5File::create(scratch / "kv_transformed.h5");
  write_transformed(file);
  check_contract(file, FileKind::kv_transformed);
  file.write("/outliers/key/after_4", DType::f32, {1, 3, 4}, numbers(12, 1));
  EXPECT_THAT(message_of<ContractError>([&] { check_contract(file, FileKind::kv_transformed); }),
              HasSubstr("/outliers/key/after_4: unknown here"));
}

// Each change to a good file, and what the message must say.
TEST(Contract, EachFaultIsNamed) {
  struct Fault {
    FileKind kind;
    std::function<void(H5File&)> change;
    std::string message;
  };
  const auto f32 = DType::f32;
  const std::vector<Fault> faults = {
      {FileKind::kv_statistics, [](H5File& f) { f.set_attr("/", "recent", "x"); }, "/@recent: expected"},
      {FileKind::kv_gradients, [](H5File& f) { f.set_attr("/", "head_dim", "x"); }, "/@head_dim: expected"},
      {FileKind::kv_tensors, [](H5File& f) { f.set_attr("/", "rope_theta", "x"); }, "/@rope_theta: expected"},
      {FileKind::kv_tensors, [](H5File& f) { f.write("/keys", f32, {1}, numbers(1, 1)); }, "/keys: unknown here"},
      {FileKind::kv_statistics, [](H5File& f) { f.write("/layer_00/more", f32, {1}, numbers(1, 1)); },
       "/layer_00/more"},
      {FileKind::kv_samples, [](H5File& f) { f.set_attr("/", "format", "x"); },
       "/@format: expected 'vecinfer.kv_samples'"},
      {FileKind::kv_samples, [](H5File& f) { f.set_attr("/", "format_version", 9); },
       "/@format_version: expected 1, found 9"},
      {FileKind::kv_samples, [](H5File& f) { f.set_attr("/", "n_layers", 3); },
       "/layer_02/key: missing"},
      {FileKind::kv_samples, [](H5File& f) { f.set_attr("/", "n_layers", 1); },
       "/layer_01: unknown here"},
      {FileKind::kv_samples, [](H5File& f) { f.set_attr("/", "n_layers", std::int64_t{1} << 40); },
       "/@n_layers: expected at most"},
      {FileKind::kv_samples, [](H5File& f) { f.set_attr("/", "n_layers", 0); },
       "/@n_layers: expected a positive"},
      {FileKind::kv_samples, [](H5File& f) { f.set_attr("/", "n_q_heads", 7); },
       "expected n_q_heads 7 as in /@n_q_heads, found 6"},
      {FileKind::kv_samples, [](H5File& f) { f.set_attr("/", "head_dim", 8); },
       "/layer_00/key: expected head_dim 8"},
      {FileKind::kv_samples, [](H5File& f) { f.set_attr("/", "tap", "pre"); },
       "/@tap: expected post_rope"},
      {FileKind::kv_samples, [](H5File& f) { f.set_attr("/", "model", 3); },
       "/@model: expected text"},
      {FileKind::kv_samples, [&](H5File& f) { f.write("/more", f32, {1}, numbers(1, 1)); },
       "/more: unknown here"},
      {FileKind::kv_samples,
       [](H5File& f) {
         f.write_slab<float>("/layer_01/value", {{1, 2, 3}, {1, 1, 1}}, std::vector<float>{NAN});
       },
       "/layer_01/value: expected finite numbers, found nan"},
      {FileKind::kv_samples,
       [](H5File& f) {
         f.write_slab<std::int32_t>("/doc", {{4}, {1}}, std::vector<std::int32_t>{-5});
       },
       "/doc: expected no negative number, found -5"},
      {FileKind::codec, [](H5File& f) { f.set_attr("/transform", "key_steps", "center,twist"); },
       "found 'twist'"},
      {FileKind::codec, [](H5File& f) { f.set_attr("/transform", "key_steps", "center,"); },
       "after the last comma"},
      {FileKind::codec, [](H5File& f) { f.set_attr("/transform", "value_steps", "smooth"); },
       "/transform/value/smooth: missing"},
      {FileKind::codec,
       [](H5File& f) {
         f.write_slab<float>("/transform/key/smooth_2", {{1, 1, 1}, {1, 1, 1}},
                             std::vector<float>{0});
       },
       "/transform/key/smooth_2: expected divisors > 0, found 0"},
      {FileKind::codec,
       [](H5File& f) {
         f.write_slab<float>("/transform/key/basis", {{1, 1, 1, 1}, {1, 1, 1, 1}},
                             std::vector<float>{9});
       },
       "/transform/key/basis_inverse: expected the inverse of /transform/key/basis at layer 1 head "
       "1"},
      {FileKind::codec,
       [](H5File& f) {
         f.write_slab<float>("/codebook/key/centroids", {{0, 0, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1}},
                             std::vector<float>{0.1f});
       },
       "/codebook/key/centroids: expected centroids exact in f16, found 0.1"},
      {FileKind::codec, [](H5File& f) { f.set_attr("/codebook/key", "bits", 4); },
       "expected key.ksub 16"},
      {FileKind::codec, [](H5File& f) { f.set_attr("/codebook/key", "bits", 17); },
       "/codebook/key@bits: expected 1 to 16"},
      {FileKind::codec, [](H5File& f) { f.set_attr("/codebook/key", "dsub", 3); },
       "/codebook/key@dsub: expected a divisor"},
      {FileKind::codec, [](H5File& f) { f.set_attr("/codebook/key", "scope", "own"); },
       "expected shared or subspace"},
      {FileKind::codec, [](H5File& f) { f.set_attr("/codebook/value", "scope", "shared"); },
       "expected value.n_books 1"},
      {FileKind::codec, [](H5File& f) { f.set_attr("/codebook/value", "per", "layer"); },
       "expected value.layers 2"},
      {FileKind::codec, [](H5File& f) { f.set_attr("/codebook", "n_layers", 9); },
       "/codebook/key/centroids: expected key.layers 9"},
      {FileKind::codec, [](H5File& f) { f.create_group("/extra"); },
       "/extra: expected only transform and codebook"},
  };
  const Scratch scratch;
  for (const Fault& fault : faults) {
    H5File file = H5File::create(scratch / "bad.h5");
    if (fault.kind == FileKind::kv_samples) write_samples(file);
    if (fault.kind == FileKind::codec) write_codec(file);
    if (fault.kind == FileKind::kv_statistics) write_statistics(file);
    if (fault.kind == FileKind::kv_gradients) write_gradients(file);
    if (fault.kind == FileKind::kv_tensors) write_tensors(file);
    fault.change(file);
    EXPECT_THAT(message_of<ContractError>([&] { check_contract(file, fault.kind); }),
                testing::AllOf(HasSubstr("bad.h5: "), HasSubstr(fault.message)));
  }
}

TEST(CodecIo, TransformsRoundTrip) {
  const Scratch scratch;
  const codec::TransformSet set = transforms();
  {
    H5File file = H5File::create(scratch / "transform.h5");
    codec::write_transforms(set, file);
    file.close();
  }
  const H5File file = H5File::open(scratch / "transform.h5");
  EXPECT_EQ(file.attr_text("/", "key_steps"), "center,smooth,hadamard,smooth,basis");
  EXPECT_EQ(file.attr_text("/", "value_steps"), "");
  EXPECT_THAT(file.list("/key"),
              testing::ElementsAre("basis", "basis_inverse", "center", "smooth", "smooth_2"));
  const codec::TransformSet back = codec::read_transforms(file);
  EXPECT_EQ(back.n_layers, kLayers);
  EXPECT_EQ(back.n_kv_heads, kHeads);
  EXPECT_EQ(back.head_dim, kDim);
  EXPECT_TRUE(back.value.empty());
  ASSERT_EQ(back.key.size(), set.key.size());
  for (std::size_t i = 0; i < set.key.size(); ++i) {
    EXPECT_EQ(back.key[i].head_dim, kDim);
    ASSERT_EQ(back.key[i].steps.size(), set.key[i].steps.size());
    for (std::size_t s = 0; s < set.key[i].steps.size(); ++s) {
      EXPECT_EQ(back.key[i].steps[s].kind, set.key[i].steps[s].kind);
      EXPECT_EQ(back.key[i].steps[s].vector, set.key[i].steps[s].vector);
      EXPECT_EQ(back.key[i].steps[s].matrix, set.key[i].steps[s].matrix);
      EXPECT_EQ(back.key[i].steps[s].inverse, set.key[i].steps[s].inverse);
    }
  }
  codec::TransformSet uneven = set;
  uneven.key[3].steps.pop_back();
  H5File bad = H5File::create(scratch / "bad.h5");
  EXPECT_THROW(codec::write_transforms(uneven, bad), Error);
}

TEST(CodecIo, PermutationsTokenStepsAndRopeRoundTrip) {
  const Scratch scratch;
  using transform::Step;
  codec::TransformSet set{2, 1, 4, {}, {}};
  set.rope = {1.0, 0.25};
  for (int head = 0; head < 2; ++head) {
    Step order, norm, range;
    order.kind = Step::Kind::permute;
    order.vector = {2, 0, 3, static_cast<float>(1)};
    norm.kind = Step::Kind::token_norm;
    range.kind = Step::Kind::token_range;
    range.vector = {static_cast<float>(head)};
    set.key.push_back({4, {norm, order, norm}, 3});
    set.value.push_back({4, {range}, 0});
  }
  {
    H5File file = H5File::create(scratch / "transform.h5");
    codec::write_transforms(set, file);
    file.close();
  }
  const H5File file = H5File::open(scratch / "transform.h5");
  EXPECT_EQ(file.attr_text("/", "key_steps"), "token_norm,permute,token_norm");
  EXPECT_EQ(file.attr_int("/", "key_floored"), 6);
  const codec::TransformSet back = codec::read_transforms(file);
  EXPECT_EQ(back.rope, set.rope);
  EXPECT_EQ(back.key[1].steps[1].vector, set.key[1].steps[1].vector);
  EXPECT_EQ(back.key[1].steps[2].kind, Step::Kind::token_norm);
  EXPECT_EQ(back.value[1].steps[0].vector, std::vector<float>{1});
  H5File again = H5File::create(scratch / "again.h5");
  codec::write_transforms(back, again);
  EXPECT_EQ(again.attr_int("/", "key_floored"), 6);
  set.rope = {1.0};
  H5File bad = H5File::create(scratch / "bad.h5");
  codec::write_transforms(set, bad);
  EXPECT_THROW(codec::read_transforms(bad), ContractError);
}

TEST(CodecIo, TwoStagesRoundTrip) {
  const Scratch scratch;
  codec::CodebookSide side{1, 1, 2, 2, 2, {}};
  side.n_stages = 2;
  codec::CodebookFacts facts;
  facts.scope = codec::BookScope::subspace;
  facts.per = codec::BookPer::model;
  facts.bits = 1;
  for (int i = 0; i < 2 * 2 * 2 * 2; ++i) side.centroids.push_back(static_cast<float>(i));
  facts.usage.assign(8, 1);
  facts.train_mse.assign(4, 0.5);
  H5File file = H5File::create(scratch / "codebook.h5");
  codec::write_codebooks({side, {}}, facts, {}, {3, 2, 4}, file);
  const codec::CodebookSide back = codec::read_codebooks(file).key;
  EXPECT_EQ(back.n_stages, 2);
  EXPECT_EQ(back.centroids, side.centroids);
  side.n_stages = 3;
  side.centroids.resize(24);
  facts.usage.assign(12, 1);
  facts.train_mse.assign(6, 0.5);
  H5File bad = H5File::create(scratch / "bad.h5");
  EXPECT_THROW(codec::write_codebooks({side, {}}, facts, {}, {3, 2, 4}, bad), ContractError);
}

TEST(CodecIo, CodebooksRoundTrip) {
  const Scratch scratch;
  const codec::CodebookSet set = books();
  {
    H5File file = H5File::create(scratch / "codebook.h5");
    write_books(file);
    file.close();
  }
  const H5File file = H5File::open(scratch / "codebook.h5");
  const codec::CodebookSet back = codec::read_codebooks(file);
  for (const auto& [a, b] : {std::pair{&set.key, &back.key}, {&set.value, &back.value}}) {
    EXPECT_EQ(a->centroids, b->centroids);
    EXPECT_EQ((std::array{a->n_layers, a->n_groups, a->n_books, a->ksub, a->dsub}),
              (std::array{b->n_layers, b->n_groups, b->n_books, b->ksub, b->dsub}));
  }
  const codec::CodebookFacts key = codec::read_codebook_facts(file, "key");
  EXPECT_EQ(key.seed, UINT64_MAX - 1);
  EXPECT_EQ(key.bits, 3);
  EXPECT_EQ(key.dead_centroids, 4);
  EXPECT_EQ(key.usage.size(), static_cast<std::size_t>(kLayers * kHeads * 8));
  EXPECT_EQ(codec::read_codebook_facts(file, "value").per, codec::BookPer::model);
  EXPECT_EQ(codec::read_shape(file).head_dim, kDim);

  codec::CodebookSet keys_only{set.key, {}};  // the exact side is absent
  H5File one = H5File::create(scratch / "one.h5");
  codec::write_codebooks(keys_only, key, {}, {kLayers, kHeads, kDim}, one);
  EXPECT_FALSE(one.exists("/value"));
  EXPECT_TRUE(codec::read_codebooks(one).value.empty());
}

TEST(Foreign, CleanCopyHasTheSameContent) {
  const Scratch scratch;
  {
    H5File file = H5File::create(scratch / "given.h5");
    write_codec(file);
    file.close();
  }
  import_foreign(scratch / "given.h5", FileKind::codec, scratch / "copy.h5");
  import_foreign(scratch / "copy.h5", FileKind::codec, scratch / "again.h5");
  EXPECT_EQ(read_file(scratch / "copy.h5"), read_file(scratch / "again.h5"));
  const H5File copy = H5File::open(scratch / "copy.h5");
  check_contract(copy, FileKind::codec);
  EXPECT_EQ(codec::read_codebooks(copy, "/codebook").key.centroids, books().key.centroids);
  EXPECT_EQ(codec::read_transforms(copy, "/transform").key[5].steps[1].vector,
            transforms().key[5].steps[1].vector);
}

TEST(Foreign, FaultsBecomeContractErrors) {
  const Scratch scratch;
  const auto refused = [&](const ForeignOptions& options = {}) {
    const std::string message = message_of<ContractError>([&] {
      import_foreign(scratch / "given.h5", FileKind::codec, scratch / "copy.h5", options);
    });
    EXPECT_FALSE(std::filesystem::exists(scratch / "copy.h5"));
    return message;
  };
  EXPECT_THAT(refused(), HasSubstr("given.h5: cannot be read"));
  write_file_atomic(scratch / "given.h5", "not HDF5");
  EXPECT_THAT(refused(), HasSubstr("given.h5: expected a whole HDF5 file"));
  {
    H5File file = H5File::create(scratch / "given.h5");
    write_codec(file);
    file.set_attr("/codebook/key", "bits", 17);
    file.close();
  }
  EXPECT_THAT(refused(), HasSubstr("given.h5: /codebook/key@bits: expected 1 to 16"));
  ForeignOptions crash, slow, absent;
  crash.command = {"/bin/sh", "-c", "kill -SEGV $$"};
  slow.command = {"/bin/sh", "-c", "sleep 100"};
  slow.seconds = 1;
  absent.command = {"/nowhere/vecinfer"};
  EXPECT_THAT(refused(crash), HasSubstr("the HDF5 library died of it (Segmentation fault)"));
  EXPECT_THAT(refused(slow), HasSubstr("read within 1 s"));
  EXPECT_THAT(message_of<IoError>([&] {
                import_foreign(scratch / "given.h5", FileKind::codec, scratch / "copy.h5", absent);
              }),
              HasSubstr("exit code 127"));
}

// Damaged at many places: refused or read, but this process lives and a refused file leaves no
// copy.
TEST(Foreign, FlippedBytes) {
  const Scratch scratch;
  {
    H5File file = H5File::create(scratch / "whole.h5");
    write_codec(file);
    file.close();
  }
  const std::string whole = read_file(scratch / "whole.h5");
  Rng rng(1);
  int refused = 0;
  for (int i = 0; i < 80; ++i) {
    std::string bytes = whole;
    for (std::uint64_t n = 1 + rng.below(4); n > 0; --n)
      bytes[rng.below(i < 60 ? 4096 : bytes.size())] ^= static_cast<char>(1 + rng.below(255));
    std::ofstream(scratch / "bad.h5", std::ios::binary) << bytes;
    try {
      import_foreign(scratch / "bad.h5", FileKind::codec, scratch / "copy.h5");
    } catch (const ContractError&) {
      ++refused;
      EXPECT_FALSE(std::filesystem::exists(scratch / "copy.h5"));
    }
  }
  EXPECT_GT(refused, 25);
}

}  // namespace
}  // namespace vi::artifact
