// The choice of kernel is a pure function: what is served, what is refused and how, and workspace
// sizes.
#include "cuda/decode_attention/select.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/common/error.h"

namespace vi::cuda {
namespace {

Problem plain() {
  Problem p;
  p.batch = 16;
  p.n_q_heads = 32;
  p.n_kv_heads = 8;
  p.head_dim = 128;
  p.key = p.value = {4, 8, false};
  p.capacity = 16384;
  p.sm = 90;
  p.n_sms = 132;
  return p;
}

std::string refusal(const Problem& p) {
  try {
    select_fast(p);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Select, EveryRowIsServed) {
  for (const LookupRow& row : lookup_table()) {
    Problem p = plain();
    p.head_dim = row.head_dim;
    p.key = {row.key_dsub, 8, true};
    p.value = {row.value_dsub, 8, false};  // one side shared: never gather's
    const KernelConfig c = select_kernel(p);
    EXPECT_EQ(c.kind, KernelKind::lookup);
    EXPECT_EQ(select_lookup(p).row, c.row);
    EXPECT_EQ(lookup_table()[c.row].key_dsub, row.key_dsub);
  }
}

TEST(Select, WholeItemsWhereTheyFillTheChip) {
  EXPECT_EQ(select_kernel(plain()).n_ctas, 128);  // 16 x 8 items of one length: one each, none cut
  Problem p = plain();
  p.batch = 1;
  p.capacity = 196608;
  EXPECT_GE(select_kernel(p).n_ctas, 120);
}

TEST(Select, WorkspaceCoversAllPieces) {
  for (int batch : {1, 3, 256})
    for (int group : {1, 4, 5, 16}) {
      Problem p = plain();
      p.batch = batch;
      p.n_q_heads = 8 * group;
      const KernelConfig c = select_kernel(p);
      const std::size_t items = static_cast<std::size_t>(batch) * 8 * ((group + 3) / 4);
      EXPECT_GE(c.workspace_bytes, items * 4 + (items + c.n_ctas) * 4 * 129 * 4);
    }
}

TEST(Select, RefusalsNameWhatIsServed) {
  Problem p = plain();
  p.key = {4, 12, true};
  EXPECT_THAT(
      refusal(p),
      testing::HasSubstr(
          "no fast kernel for head_dim 128 K-d4b12 (shared)/V-d4b8 (per sub-space); supported: "
          "lookup (sm_90, sm_100; GQA 1..16; shared or per-sub-space books): head_dim 128 "
          "K-d4b8/V-d4b8"));
  p = plain();
  p.head_dim = 96;
  EXPECT_THAT(refusal(p), testing::HasSubstr("supported:"));
  p = plain();
  p.sm = 89;
  EXPECT_THAT(refusal(p), testing::HasSubstr("not sm_89"));
  p = plain();
  p.page_tokens = 24;
  EXPECT_THAT(refusal(p), testing::HasSubstr("whole blocks"));
  p = plain();
  p.n_q_heads = 30;
  EXPECT_THAT(refusal(p), testing::HasSubstr("do not fit"));
  p = plain();
  p.dtype = Dtype::f32;
  EXPECT_THAT(refusal(p), testing::HasSubstr("f16 or bf16"));
  p = plain();
  p.key.dsub = 3;
  EXPECT_THAT(refusal(p), testing::HasSubstr("multiple of dsub"));
}

TEST(Select, GatherByCodecAndGroup) {
  Problem p = plain();
  p.key = p.value = {4, 12, true};
  EXPECT_EQ(select_kernel(p).kind, KernelKind::gather);
  p.key = {4, 10, true};
  p.value = {8, 12, true};
  EXPECT_EQ(select_kernel(p).kind, KernelKind::gather);
  p = plain();  // d4b8 per sub-space: four heads a pass by look-up, more than eight by gather
  p.n_q_heads = 8 * 8;
  EXPECT_EQ(select_kernel(p).kind, KernelKind::lookup);
  p.key.shared = p.value.shared = true;
  EXPECT_EQ(select_kernel(p).kind, KernelKind::gather);
  EXPECT_EQ(gather_table()[select_kernel(p).row].heads, 8);
  p.n_q_heads = 8 * 4;
  EXPECT_EQ(select_kernel(p).kind, KernelKind::lookup);  // long: look-up; short: gather
  p.capacity = 2048;
  EXPECT_EQ(select_kernel(p).kind, KernelKind::gather);
  p.key.shared = p.value.shared = false;
  p.n_q_heads = 8 * 16;
  EXPECT_EQ(gather_table()[select_kernel(p).row].heads, 16);
}

TEST(Select, SlicedTakesBooksWiderThanSharedMemory) {
  Problem p = plain();
  for (const CodeShape& shape : {CodeShape{4, 10, false}, {8, 10, false}, {4, 12, false}, {8, 12, false}, {8, 10, true}}) {
    p.key = p.value = shape;
    const KernelConfig c = select_kernel(p);
    ASSERT_EQ(c.kind, KernelKind::sliced);
    const SlicedPlan& plan = c.sliced;
    const int books = 128 / shape.dsub;
    EXPECT_GE(plan.key_books * plan.key_slices, books);
    EXPECT_LT(plan.key_books * (plan.key_slices - 1), books);
    EXPECT_GE(plan.value_books * plan.value_slices, books);
    EXPECT_LE(plan.value_books, 8 * plan.value_rows);
    EXPECT_LE(plan.key_bytes, 232448u);
    EXPECT_LE(plan.value_bytes, 232448u);
    EXPECT_GE(plan.exact_unit * 64, p.capacity);
    EXPECT_GE((plan.units - plan.exact_unit) * 64, p.dense_capacity);
    EXPECT_EQ(c.workspace_bytes, plan.partial_at + sizeof(float) * p.batch * p.n_q_heads * plan.splits * 129);
  }
  // 16 x 8 items: one CTA each for the one slice of keys, and one for each of two slices of values
  p.key = p.value = {8, 10, false};
  EXPECT_EQ(select_kernel(p).sliced.key_slices, 1);
  EXPECT_EQ(select_kernel(p).sliced.score_splits, 1);
  EXPECT_EQ(select_kernel(p).sliced.value_slices, 2);
  p.key = {8, 16, true};
  EXPECT_EQ(select_kernel(p).kind, KernelKind::generic);
  p.key = {8, 10, false};
  p.sm = 89;
  EXPECT_EQ(select_kernel(p).kind, KernelKind::generic);
}

TEST(Select, GenericTakesTheRestAndSaysSo) {
  Problem p = plain();
  p.head_dim = 96;
  p.key = {8, 16, true};
  EXPECT_EQ(select_kernel(p).kind, KernelKind::generic);
  EXPECT_THAT(supported_list(), testing::HasSubstr("generic (slower"));
  p = plain();
  p.sm = 86;  // no room for tables
  EXPECT_EQ(select_kernel(p).kind, KernelKind::generic);
  EXPECT_GE(select_kernel(p).splits, 1);
  p.sm = 75;
  EXPECT_THROW(select_kernel(p), Error);
  p = plain();
  p.head_dim = 512;
  EXPECT_THROW(select_kernel(p), Error);
}

TEST(Select, NaiveOnRequest) {
  Problem p = plain();
  p.head_dim = 96;
  p.key = {8, 16, true};
  EXPECT_EQ(select_naive(p).kind, KernelKind::naive);
  p.head_dim = 512;
  EXPECT_THROW(select_naive(p), Error);
}

}  // namespace
}  // namespace vi::cuda
