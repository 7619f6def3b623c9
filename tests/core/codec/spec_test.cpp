// CodecSpec: words and maps, every refused mix names its two choices.
#include "core/codec/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/codec/window.h"
#include "core/config/node.h"

namespace vi::codec {
namespace {

using testing::HasSubstr;

CodecSpec read(const std::string& text) {
  CodecSpec spec;
  config::read(config::parse_yaml_text(text, "m.yaml"), spec);
  return spec;
}

template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}
std::string refused(const std::string& text) {
  return refusal([&] { read(text); });
}
std::string refused_by_model(const std::string& text, int head_dim) {
  const CodecSpec spec = read(text);
  return refusal([&] { check_against_model(spec, head_dim, {}); });
}

TEST(CodeSpec, Words) {
  const CodeSpec code = CodeSpec::from_scalar("d8b12");
  EXPECT_EQ(code.kind, CodeKind::vector);
  EXPECT_EQ(code.dsub, 8);
  EXPECT_EQ(code.bits, 12);
  EXPECT_EQ(code.ksub(), 4096);
  EXPECT_EQ(code.scope, BookScope::shared);
  EXPECT_EQ(code.per, BookPer::head);
  EXPECT_EQ(CodeSpec::from_scalar("none").kind, CodeKind::none);
  for (const char* bad :
       {"", "d", "d4", "d4b", "4b8", "b8d4", "d4b8x", "d-4b8", "d4b-8", "d4 b8", "d99999999999b8"})
    EXPECT_THROW(CodeSpec::from_scalar(bad), Error) << bad;
}

TEST(CodecSpec, WholeDocument) {
  const CodecSpec spec = read(R"(
key: {transforms: [smooth, {kind: hadamard}], code: d4b10}
value: {code: {kind: integer, axis: token, bits: 2, group: 32}}
window: {recent: 64, sinks: 4, value_flush: sliding}
)");
  EXPECT_EQ(spec.key.transforms.size(), 2u);
  EXPECT_EQ(spec.key.code.bits, 10);
  EXPECT_EQ(spec.value.code.axis, Axis::token);
  EXPECT_EQ(spec.window.sinks, 4);
  EXPECT_EQ(spec.window.key_flush, Flush::block);
  EXPECT_EQ(spec.window.value_flush, Flush::sliding);
  EXPECT_FALSE(spec.exact());
  EXPECT_TRUE(read("{}").exact());
  // What was read is what is written: the canonical JSON reads back as the same settings.
  const Json json = config::to_json(spec);
  EXPECT_EQ(config::to_json(read(json.dump())), json);
}

TEST(CodecSpec, Refuses) {
  EXPECT_THAT(refused("key: {code: d4b17}"),
              HasSubstr("m.yaml:1:13: bits of a vector code must be 1..16, not 17"));
  EXPECT_THAT(refused("key: {code: d0b8}"), HasSubstr("dsub must be 1..256"));
  EXPECT_THAT(refused("key: {code: d4b0}"), HasSubstr("1..16"));
  EXPECT_THAT(refused("key: {code: q4}"), HasSubstr("dNbB"));
  EXPECT_THAT(refused("value: {code: {kind: integer, bits: 9}}"), HasSubstr("1..8"));
  EXPECT_THAT(refused("key: {code: {kind: integer, axis: channel, bits: 3, group: 4}}"),
              HasSubstr("whole number"));
  EXPECT_THAT(refused("key: {code: {kind: integer, axis: channel, group: 0}}"), HasSubstr("group must be"));
  EXPECT_THAT(refused("window: {recent: -1}"), HasSubstr("recent"));
  EXPECT_THAT(refused("window: {sinks: -1}"), HasSubstr("sinks"));
  EXPECT_THAT(refused("window: {recnt: 1}"), HasSubstr("did you mean 'recent'"));
  EXPECT_THAT(refused("key: {tap: mid_rope}"), HasSubstr("post_rope, pre_rope"));
  const std::string channel = "{code: {kind: integer, axis: channel, bits: 2, group: 32}}";
  EXPECT_THAT(refused("key: " + channel + "\nwindow: {recent: 48}"), HasSubstr("multiple of 32"));
  EXPECT_THAT(refused("key: " + channel + "\nwindow: {recent: 0}"), HasSubstr("multiple of 32"));
  EXPECT_EQ(refused("key: " + channel + "\nwindow: {recent: 64}"), "accepted");
  EXPECT_EQ(refused("key: " + channel + "\nwindow: {recent: 48, key_flush: sliding}"), "accepted");
}

TEST(CodecSpec, RefusedByTheModel) {
  EXPECT_THAT(refused_by_model("key: {code: d12b8}", 64),
              HasSubstr("key: dsub 12 does not divide the model's head_dim 64"));
  EXPECT_THAT(refused_by_model("value: {code: d128b8}", 64), HasSubstr("value: dsub 128"));
  EXPECT_THAT(refused_by_model("key: {transforms: [hadamard]}", 80), HasSubstr("power of two"));
  EXPECT_EQ(refused_by_model("key: {transforms: [smooth]}", 80), "accepted");
  EXPECT_THAT(refused_by_model("value: {code: {kind: integer, group: 128}}", 64),
              HasSubstr("group 128"));
  EXPECT_THAT(refused_by_model("value: {code: {kind: integer, group: 5, bits: 3}}", 25),
              HasSubstr("bytes"));
  EXPECT_EQ(refused_by_model("value: {code: {kind: integer, group: 32, bits: 2}}", 64), "accepted");
}

// Each refusal names both choices.
TEST(CodecSpec, RefusesMixesThatClash) {
  const auto clash = [](const std::string& text, const char* a, const char* b) {
    const std::string message = refused(text);
    EXPECT_THAT(message, HasSubstr(a)) << text;
    EXPECT_THAT(message, HasSubstr(b)) << text;
  };
  clash("value: {tap: pre_rope, code: d4b8}", "pre_rope", "values");
  clash("key: {tap: pre_rope}", "code none", "tap");
  clash("key: {transforms: [token_norm]}", "code none", "token steps");
  clash("key: {transforms: [hadamard], code: d1b2, outliers: 0.01}", "outliers", "hadamard");
  clash("key: {transforms: [hadamard], code: {kind: vector, dsub: 4, bits: 8, weights: fisher}}", "weights fisher", "hadamard");
  clash("key: {code: {kind: merge, group: 64}, outliers: 0.01}\nvalue: {code: {kind: merge, group: 64}}", "outliers", "merge");
  clash("key: {code: d1b2, balance: {tokens: 128}}", "balance", "points samples");
  clash("key: {code: {kind: integer, axis: channel, group: 64}, balance: {tokens: 32}}", "balance", "integer group");
  clash("key: {code: {kind: integer, axis: channel, group: 64}, pool: {tokens: 3, group: 96}}", "pool", "integer group");
  clash("key: {tap: pre_rope, code: d4b8, pool: {tokens: 3}}", "pool", "tap pre_rope");
  clash("key: {tap: pre_rope, code: {kind: merge, group: 64}}", "merge", "tap pre_rope");
  clash("key: {transforms: [hadamard], code: {kind: merge, group: 64}}", "merge", "transforms");
  clash("key: {code: {kind: integer, stages: 2}}", "stages", "not vector");
  clash("key: {code: {kind: integer, sketch: 1}}", "sketch", "not vector");
  clash("key: {code: {kind: integer, bits: 1, range: symmetric}}", "symmetric", "bits 1");
  clash("key: {code: {kind: vector, dsub: 4, q_norm: true}}", "q_norm", "dsub 4");
  clash("key: {code: {kind: vector, dsub: 1, q_norm: true, stages: 2}}", "q_norm", "stages 2");
  clash("key: {code: {kind: vector, dsub: 4, inliers: true}}", "inliers", "dsub 4");
  clash("key: {code: {kind: vector, points: normal}}", "points normal", "per head");
  clash("key: {code: {kind: vector, points: normal, per: model, stages: 2}}", "points normal", "stages 2");
  clash("value: {code: {kind: merge, group: 64}}", "merge", "keys");
  clash("key: {code: {kind: merge, group: 64}}", "merge", "keys");
  clash("key: {code: {kind: merge, group: 64}}\nvalue: {code: {kind: merge, group: 32}}", "merge", "groups");
  clash("key: {code: d4b8, pool: {tokens: 3}}\nvalue: {code: d4b8, pool: {tokens: 3}}\nwindow: {value_flush: sliding}", "pool", "flush");
  clash("key: {transforms: [{kind: center, quantile: 0.1}]}", "quantile", "half_range");
  clash("key: {transforms: [{kind: smooth, renormalise: true}]}", "renormalise", "token_norm");
  clash("key: {code: {kind: sketch, group: 32, outlier_channels: 8}}\nwindow: {recent: 48}", "multiple of 32", "48");
  clash("key: {code: {kind: vector, points: normal, per: model, dsub: 1, bits: 2}, balance: {tokens: 128}}\nwindow: {recent: 64}", "multiple of 128", "64");
  EXPECT_THAT(refused("key: {code: {kind: integer, clip: 0}}"), HasSubstr("clip"));
  EXPECT_THAT(refused("key: {code: {kind: merge, group: 64, keep: 1.5}}"), HasSubstr("keep"));
  EXPECT_THAT(refused("key: {code: {kind: sketch, bits: 17}}"), HasSubstr("1..16"));
  EXPECT_THAT(refused("key: {code: d4b8, outliers: 1}"), HasSubstr("outliers must be"));
  EXPECT_THAT(refused("exact_layers: {first: -1}"), HasSubstr("exact_layers"));
  EXPECT_THAT(refused_by_model("key: {transforms: [permute]}", 80), HasSubstr("bit_reversal"));
  EXPECT_THAT(refused_by_model("key: {transforms: [{kind: permute, order: volume, group: 3}]}", 64), HasSubstr("permute's group 3"));
  EXPECT_THAT(refused_by_model("key: {code: {kind: sketch, outlier_channels: 64}}\nwindow: {recent: 32}", 64), HasSubstr("64 outlier_channels"));
  EXPECT_THAT(refused_by_model("key: {tap: pre_rope, code: d1b2}", 33), HasSubstr("pairs"));
}

TEST(Window, ByHand) {
  const auto block = [](std::int64_t t, int sinks = 0, int seal = 1) {
    return coded_tokens(WindowSpec{.recent = 128, .sinks = sinks}, true, t, seal);
  };
  EXPECT_EQ(block(0), 0);
  EXPECT_EQ(block(127), 0);
  EXPECT_EQ(block(128), 128);
  EXPECT_EQ(block(300), 256);
  EXPECT_EQ(block(131, 4), 0);
  EXPECT_EQ(block(132, 4), 128);
  EXPECT_EQ(block(2, 4), 0);
  const auto sliding = [](std::int64_t t, int seal) {
    return coded_tokens(WindowSpec{.recent = 128, .value_flush = Flush::sliding}, false, t, seal);
  };
  EXPECT_EQ(sliding(100, 1), 0);
  EXPECT_EQ(sliding(129, 1), 1);
  EXPECT_EQ(sliding(190, 32), 32);
  EXPECT_EQ(coded_tokens(WindowSpec{.recent = 0}, true, 77, 1), 77);
  EXPECT_EQ(coded_tokens(WindowSpec{.recent = 0, .key_flush = Flush::sliding}, true, 77, 32), 64);
  const auto stepped = [](std::int64_t t, int seal) {
    return coded_tokens(WindowSpec{.recent = 112, .sinks = 4, .step = 16}, true, t, seal);
  };
  EXPECT_EQ(stepped(115, 1), 0);
  EXPECT_EQ(stepped(116, 1), 16);  // 100 exact: 4 and 96
  EXPECT_EQ(stepped(131, 1), 16);
  EXPECT_EQ(stepped(132, 1), 32);
  EXPECT_EQ(stepped(1000, 1), 896);
  EXPECT_EQ(stepped(132, 16), 32);
}

TEST(Window, NeverFallsAndAlwaysWholeGroups) {
  for (const Flush flush : {Flush::block, Flush::sliding})
    for (const int sinks : {0, 4})
      for (const auto& [recent, step, seal] : {std::tuple{0, 0, 1}, {1, 0, 1}, {32, 0, 32}, {96, 0, 32}, {96, 32, 32}, {112, 16, 1}, {100, 7, 1}, {128, 0, 1}}) {
        const WindowSpec window{.recent = recent, .sinks = sinks, .step = step, .key_flush = flush};
        std::int64_t before = 0;
        for (std::int64_t t = 0; t < 700; ++t) {
          const std::int64_t coded = coded_tokens(window, true, t, seal);
          EXPECT_GE(coded, before);
          EXPECT_EQ(coded % seal, 0);
          EXPECT_LE(coded, std::max<std::int64_t>(0, t - sinks));
          if (flush == Flush::sliding) {
            EXPECT_GE(t - coded, std::min<std::int64_t>(t, recent));
          } else if (recent > 0) {
            EXPECT_LT(t - coded, sinks + recent);
            if (coded > 0) {
              EXPECT_GE(t - coded, sinks + recent - window.block());
            }
          }
          before = coded;
        }
      }
}

}  // namespace
}  // namespace vi::codec
