// Codec: which codebook a head gets, bits by hand, sets that do not fit.
#include "core/codec/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/common/error.h"

namespace vi::codec {
namespace {

CodecSpec spec(const char* text) {
  CodecSpec s;
  config::read(config::parse_yaml_text(text, "t"), s);
  return s;
}

// Every centroid of book b holds b.
CodebookSide books(int layers, int groups, int n_books, int ksub, int dsub) {
  CodebookSide side{layers, groups, n_books, ksub, dsub, {}};
  for (int b = 0; b < layers * groups * n_books; ++b)
    side.centroids.insert(side.centroids.end(), ksub * dsub, static_cast<float>(b));
  return side;
}

TransformSet identity_set() { return {2, 3, 8, {}, {}}; }

TEST(Codec, HeadsGetTheirBooks) {
  const auto first = [](const Codec& codec, int layer, int head) {
    return codec.key(layer, head)->vector_view()->centroids[0];
  };
  const Codec head(spec("key: {code: d4b2}"), 2, 3, 8, identity_set(), {books(2, 3, 1, 4, 4), {}});
  EXPECT_EQ(first(head, 1, 2), 5);
  EXPECT_EQ(head.value(1, 2), nullptr);
  const Codec sub(spec("key: {code: {kind: vector, dsub: 4, bits: 2, scope: subspace}}"), 2, 3, 8,
                  identity_set(), {books(2, 3, 2, 4, 4), {}});
  EXPECT_EQ(first(sub, 1, 2), 10);
  EXPECT_EQ(sub.key(1, 2)->vector_view()->centroids[16], 11);
  const Codec layer(spec("key: {code: {kind: vector, dsub: 4, bits: 2, per: layer}}"), 2, 3, 8,
                    identity_set(), {books(2, 1, 1, 4, 4), {}});
  EXPECT_EQ(first(layer, 0, 2), 0);
  EXPECT_EQ(first(layer, 1, 2), 1);
  EXPECT_EQ(layer.key(1, 0)->vector_view()->centroids, layer.key(1, 2)->vector_view()->centroids);
  const Codec model(spec("key: {code: {kind: vector, dsub: 4, bits: 2, per: model}}"), 2, 3, 8,
                    identity_set(), {books(1, 1, 1, 4, 4), {}});
  EXPECT_EQ(model.key(0, 0)->vector_view()->centroids, model.key(1, 2)->vector_view()->centroids);
}

TEST(Codec, BitsByHand) {
  // d4b2 keys (0.5 bit), 2-bit values in groups of 4 (2 + 8 bits), recent 4, sinks 2.
  const Codec codec(spec("key: {code: d4b2}\n"
                         "value: {code: {kind: integer, bits: 2, group: 4}}\n"
                         "window: {recent: 4, sinks: 2, value_flush: sliding}"),
                    2, 3, 8, identity_set(), {books(2, 3, 1, 4, 4), {}});
  const BitCount b = codec.bits(13);
  EXPECT_EQ(b.tokens, 13);
  EXPECT_EQ(b.key_payload, 0.5);
  EXPECT_EQ(b.value_payload, 2);
  EXPECT_EQ(b.key_metadata, 0);
  EXPECT_EQ(b.value_metadata, 8);
  // keys: 11 after the sinks, 8 coded, 5 exact; values: 7 coded, 6 exact
  EXPECT_NEAR(b.window, 0.5 * (5.0 / 13 * 15.5 + 6.0 / 13 * 6), 1e-12);
  EXPECT_NEAR(b.total, (8 * 0.5 + 5 * 16 + 7 * 10 + 6 * 16) / 26.0, 1e-12);
  EXPECT_EQ(b.codebook_bytes, 2 * 2 * 3 * 16);
  // of 11..14 tokens, 13 has most: 3 keys of the open block, 2 sinks, and 6 values
  EXPECT_EQ(codec.fullest_bits(14).total, b.total);
  EXPECT_LT(codec.bits(14).total, b.total);
  const Codec exact(spec("{}"), 2, 3, 8, identity_set(), {});
  EXPECT_EQ(exact.bits(1).total, 16);
  EXPECT_EQ(exact.bits(1).window, 0);
  EXPECT_THROW(exact.bits(0), Error);
}

TEST(Codec, ExactLayersAndFixedBytes) {
  // Layers 0 and 3 of 4 exact; the others 2 + 32/4 bits: (2 * 16 + 2 * 10) / 4.
  const char* text =
      "key: {code: {kind: integer, bits: 2, group: 4}}\nvalue: {code: {kind: integer, bits: 2, group: 4}}\n"
      "window: {recent: 0}\nexact_layers: {first: 1, last: 1}";
  const Codec codec(spec(text), 4, 1, 8, {4, 1, 8, {}, {}}, {});
  EXPECT_EQ(codec.key(0, 0), nullptr);
  EXPECT_EQ(codec.value(3, 0), nullptr);
  ASSERT_NE(codec.key(1, 0), nullptr);
  EXPECT_DOUBLE_EQ(codec.bits(100).total, 13);
  EXPECT_EQ(codec.bits(100).window, 0);
  // A pool of 3 + 4 tokens (2 more may come in its last event) of 12 + 16 bytes, in layer 1 only.
  const char* pool =
      "key: {code: {kind: integer, bits: 2, group: 4}, pool: {tokens: 3, auxiliary: 4, group: 16, skip_layers: 1}}\n"
      "value: {code: {kind: integer, bits: 2, group: 4}, pool: {tokens: 3, auxiliary: 4, group: 16, skip_layers: 1}}\n"
      "window: {recent: 0, key_flush: sliding, value_flush: sliding}";
  const Codec traced(spec(pool), 2, 1, 8, {2, 1, 8, {}, {}}, {});
  EXPECT_EQ(traced.key(0, 0)->fixed_bytes(), 0u);
  EXPECT_EQ(traced.key(1, 0)->fixed_bytes(), 9u * 28);
  EXPECT_NEAR(traced.bits(160).total, 10 + 0.5 * 9 * 28 * 8 / (160.0 * 8), 1e-12);
  EXPECT_EQ(traced.bits(15).total, 16);
}

TEST(Codec, PreRopeNeedsTheModelsFrequencies) {
  const char* text = "key: {tap: pre_rope, code: d4b2}\nwindow: {recent: 0}";
  EXPECT_THROW(Codec(spec(text), 2, 3, 8, identity_set(), {books(2, 3, 1, 4, 4), {}}), ContractError);
  TransformSet set = identity_set();
  set.rope = {1, 0.1, 0.01, 0.001};
  const Codec codec(spec(text), 2, 3, 8, set, {books(2, 3, 1, 4, 4), {}});
  EXPECT_EQ(codec.key(0, 0)->vector_view(), nullptr);  // no table of scores serves all positions
}

TEST(Codec, StagesAreTakenFromTheirPlaces) {
  CodebookSide side{2, 3, 2, 4, 4, {}};
  side.n_stages = 2;
  for (int b = 0; b < 2 * 3 * 2 * 2; ++b) side.centroids.insert(side.centroids.end(), 16, static_cast<float>(b));
  const Codec codec(spec("key: {code: {kind: vector, dsub: 4, bits: 2, scope: subspace, stages: 2}}"), 2, 3, 8,
                    identity_set(), {side, {}});
  const std::vector<float> row(8, 1.0f);
  std::vector<float> out(8);
  codec.key(1, 2)->reconstruct(row.data(), 1, out.data());
  EXPECT_EQ(out[0], 20 + 21);  // (1 * 3 + 2) * 2 * 2 books before it
  EXPECT_EQ(out[4], 22 + 23);
  EXPECT_EQ(codec.bits(1).key_payload, 1);
  side.n_stages = 1;
  EXPECT_THROW(Codec(spec("key: {code: {kind: vector, dsub: 4, bits: 2, scope: subspace, stages: 2}}"), 2, 3, 8,
                     identity_set(), {side, {}}), ContractError);
}

TEST(Codec, LayersOfSeveralCodecs) {
  const auto a = std::make_shared<Codec>(spec("key: {code: d4b2}\nwindow: {recent: 4}"), 2, 3, 8, identity_set(), CodebookSet{books(2, 3, 1, 4, 4), {}});
  const auto b = std::make_shared<Codec>(spec("key: {code: d4b3}\nvalue: {code: d4b2}\nwindow: {recent: 4}"), 2, 3, 8, identity_set(),
                                         CodebookSet{books(2, 3, 1, 8, 4), books(2, 3, 1, 4, 4)});
  const auto none = std::make_shared<Codec>(spec("{}"), 2, 3, 8, identity_set(), CodebookSet{});
  const Codec both(a, {{b, {1}}});
  EXPECT_TRUE(both.composed());
  EXPECT_EQ(both.key(0, 2), a->key(0, 2));
  EXPECT_EQ(both.key(1, 2), b->key(1, 2));
  EXPECT_EQ(both.value(0, 0), nullptr);
  EXPECT_EQ(both.value(1, 0), b->value(1, 0));
  const BitCount count = both.bits(64);
  EXPECT_EQ(count.key_payload, (0.5 + 0.75) / 2);
  EXPECT_EQ(count.value_payload, (16 + 0.5) / 2);
  EXPECT_DOUBLE_EQ(count.total, (a->bits(64).total + b->bits(64).total) / 2);
  EXPECT_EQ(count.codebook_bytes, 2 * (3 * 16 + 3 * 32 + 3 * 16));  // of one layer each
  const Codec one(none, {{b, {0}}});
  EXPECT_FALSE(one.exact());
  EXPECT_TRUE(Codec(none, {}).exact());
  EXPECT_EQ(one.spec().window.recent, 4);
  EXPECT_EQ(one.key(1, 0), nullptr);
  EXPECT_THROW(Codec(a, {{b, {2}}}), Error);
  EXPECT_THROW(Codec(a, {{b, {1}}, {none, {1}}}), Error);
  EXPECT_THROW(Codec(a, {{std::make_shared<Codec>(a, std::vector<LayerPart>{{b, {1}}}), {0}}}), Error);
  const auto other = std::make_shared<Codec>(spec("key: {code: d4b2}\nwindow: {recent: 8}"), 2, 3, 8, identity_set(),
                                             CodebookSet{books(2, 3, 1, 4, 4), {}});
  EXPECT_THROW(Codec(a, {{other, {1}}}), Error);
}

TEST(Codec, RefusesSetsThatDoNotFit) {
  const auto refuses = [](const char* text, TransformSet transforms, CodebookSet set) {
    EXPECT_THROW(Codec(spec(text), 2, 3, 8, std::move(transforms), std::move(set)), ContractError)
        << text;
  };
  refuses("key: {code: d4b2}", identity_set(), {});
  refuses("key: {code: d4b2}", identity_set(), {books(1, 3, 1, 4, 4), {}});
  refuses("key: {code: d4b2}", identity_set(), {books(2, 3, 1, 8, 4), {}});
  CodebookSet cut{books(2, 3, 1, 4, 4), {}};
  cut.key.centroids.pop_back();
  refuses("key: {code: d4b2}", identity_set(), cut);
  CodebookSet inexact{books(2, 3, 1, 4, 4), {}};
  inexact.key.centroids[3] = 0.1f;
  refuses("key: {code: d4b2}", identity_set(), inexact);
  refuses("key: {transforms: [hadamard]}", identity_set(), {});

  TransformSet set = identity_set();
  transform::Step scale;
  scale.kind = transform::Step::Kind::scale;
  scale.vector.assign(8, 1.0f);
  set.key.assign(6, {8, {scale}});
  EXPECT_NO_THROW(Codec(spec("key: {transforms: [smooth]}"), 2, 3, 8, set, {}));
  refuses("key: {transforms: [hadamard]}", set, {});
  refuses("key: {transforms: [smooth, hadamard]}", set, {});
  TransformSet zero = set;
  zero.key[4].steps[0].vector[2] = 0;
  refuses("key: {transforms: [smooth]}", zero, {});
  TransformSet few = set;
  few.key.pop_back();
  refuses("key: {transforms: [smooth]}", few, {});
}

}  // namespace
}  // namespace vi::codec
