// Typed options: reading with places in every message, strict keys, enums, short forms, canonical
// JSON.
#include "core/config/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/artifact/scratch.h"

namespace vi::config {
namespace {

using namespace std::string_view_literals;
using test::message_of;
using testing::HasSubstr;
using testing::StrEq;

enum class Flush { block, sliding };
constexpr auto enum_names(Flush) {
  return std::array{std::pair{"block"sv, Flush::block}, std::pair{"sliding"sv, Flush::sliding}};
}

struct Code {
  int dsub = 4;
  int bits = 8;
  template <class V>
  void visit(V& v) {
    v("dsub", dsub, "dimensions");
    v("bits", bits, "bits");
  }
  static Code from_scalar(std::string_view word) {
    if (word == "none") return {0, 0};
    if (word == "d8b12") return {8, 12};
    throw Error(fmt::format("expected none or dNbB, not '{}'", word));
  }
  void check(const Mark& mark) const {
    if (bits > 16) config_fail(mark, "bits {} > 16", bits);
  }
};

struct Settings {
  bool flag = false;
  int count = 1;
  std::int64_t large = 0;
  std::uint64_t seed = 7;
  double rate = 0.5;
  std::string name = "x";
  Flush flush = Flush::block;
  Code code;
  std::vector<Code> codes;
  std::optional<double> limit;
  std::map<std::string, int> table;
  Node free;
  template <class V>
  void visit(V& v) {
    v("flag", flag, "");
    v("count", count, "");
    v("large", large, "");
    v("seed", seed, "");
    v("rate", rate, "");
    v("name", name, "");
    v("flush", flush, "");
    v("code", code, "");
    v("codes", codes, "");
    v("limit", limit, "");
    v("table", table, "");
    v("free", free, "");
  }
};

Settings parse(const std::string& text) {
  Settings settings;
  read(parse_yaml_text(text, "f.yaml"), settings);
  return settings;
}
std::string refused(const std::string& text) {
  return message_of<ConfigError>([&] { parse(text); });
}

TEST(Options, ReadsEveryType) {
  const Settings s = parse(
      "flag: on\ncount: +3\nlarge: -9223372036854775808\nseed: 18446744073709551615\nrate: "
      "1e-3\nname: 12\n"
      "flush: sliding\ncode: d8b12\ncodes: [none, {bits: 3}]\nlimit: 2\ntable: {a: 1, b: "
      "-2}\nfree: {x: [1]}\n");
  EXPECT_TRUE(s.flag);
  EXPECT_EQ(s.count, 3);
  EXPECT_EQ(s.large, INT64_MIN);
  EXPECT_EQ(s.seed, UINT64_MAX);
  EXPECT_EQ(s.rate, 1e-3);
  EXPECT_EQ(s.name, "12");
  EXPECT_EQ(s.flush, Flush::sliding);
  EXPECT_EQ(s.code.dsub, 8);
  ASSERT_EQ(s.codes.size(), 2u);
  EXPECT_EQ(s.codes[0].bits, 0);
  EXPECT_EQ(s.codes[1].dsub, 4);
  EXPECT_EQ(s.codes[1].bits, 3);
  EXPECT_EQ(s.limit, 2.0);
  EXPECT_EQ(s.table.at("b"), -2);
  EXPECT_EQ(to_json(s.free).dump(), R"({"x":[1]})");
}

TEST(Options, DefaultsStay) {
  const Settings s = parse("count: 2\nlimit: ~\ncodes:\n");
  EXPECT_EQ(s.seed, 7u);
  EXPECT_EQ(s.flush, Flush::block);
  EXPECT_FALSE(s.limit);
  EXPECT_TRUE(s.codes.empty());
}

TEST(Options, UnknownKeyNamesPlaceAndNearest) {
  EXPECT_THAT(
      refused("count: 1\ncuont: 2\n"),
      HasSubstr(
          "f.yaml:2:1: unknown key 'cuont' (did you mean 'count'?); known here: flag, count"));
  EXPECT_THAT(refused("code:\n  dsub: 1\n  bitz:\n    - 1\n"),
              HasSubstr("f.yaml:3:3: unknown key 'bitz' (did you mean 'bits'?)"));
  EXPECT_THAT(refused("zzzzzzzzzzzz: 1\n"), testing::Not(HasSubstr("did you mean")));
  Settings settings;
  Node node = parse_yaml_text("count: 1", "f.yaml");
  apply_set(node, "cod.bits=1");
  EXPECT_THAT(message_of<ConfigError>([&] { read(node, settings); }),
              HasSubstr("--set:1:1: unknown key 'cod' (did you mean 'code'?)"));
}

TEST(Options, WrongTypesNameThePlace) {
  EXPECT_THAT(refused("count: x"), StrEq("f.yaml:1:8: expected a whole number, not 'x'"));
  EXPECT_THAT(refused("count: 1.5"), HasSubstr("expected a whole number, not '1.5'"));
  EXPECT_THAT(refused("count: '1'"), StrEq("f.yaml:1:8: expected a whole number"));
  EXPECT_THAT(refused("count: 3000000000"), HasSubstr("expected a whole number"));
  EXPECT_THAT(refused("count: [1]"), StrEq("f.yaml:1:8: expected a whole number"));
  for (const char* text : {"count: +-1", "count: ++1", "count: +", "count: 0x10", "count: 1 2"})
    EXPECT_THAT(refused(text), HasSubstr("expected a whole number"));
  EXPECT_THAT(refused("seed: -1"), HasSubstr("expected a whole number from 0, not '-1'"));
  for (const char* text : {"rate: nan", "rate: inf", "rate: 1e999", "rate: .", "rate: 1,5"})
    EXPECT_THAT(refused(text), HasSubstr("f.yaml:1:7: expected a"));
  EXPECT_THAT(refused("flag: maybe"), HasSubstr("expected true or false, not 'maybe'"));
  EXPECT_THAT(refused("flag:"), HasSubstr("f.yaml:1:1: expected true or false"));
  EXPECT_THAT(refused("name: [a]"), HasSubstr("expected a text"));
  EXPECT_THAT(refused("flush: blok"),
              StrEq("f.yaml:1:8: expected one of block, sliding, not 'blok'"));
  EXPECT_THAT(refused("flush: [block]"), StrEq("f.yaml:1:8: expected one of block, sliding"));
  EXPECT_THAT(refused("codes: none"), HasSubstr("expected a list"));
  EXPECT_THAT(refused("table: [1]"), HasSubstr("expected a map"));
  EXPECT_THAT(refused("code: [1]"), HasSubstr("expected a map of settings"));
  EXPECT_THAT(refused("- 1"), HasSubstr("f.yaml:1:1: expected a map of settings"));
  EXPECT_THAT(refused("code: d9"), StrEq("f.yaml:1:7: expected none or dNbB, not 'd9'"));
  EXPECT_THAT(refused("code: {bits: 17}"), StrEq("f.yaml:1:7: bits 17 > 16"));
  EXPECT_THAT(refused("codes:\n  - none\n  - {bits: 99}\n"), StrEq("f.yaml:3:5: bits 99 > 16"));
}

TEST(Options, CanonicalJson) {
  const Settings a = parse("rate: 0.1\nname: n\nfree: {b: 1, a: 'two'}\n");
  const Settings b = parse("free:\n  a: \"two\"\n  b: 1\nname: 'n'\nrate: 1e-1\n");
  EXPECT_EQ(canonical_json(to_json(a)), canonical_json(to_json(b)));
  EXPECT_EQ(
      canonical_json(to_json(a)),
      R"({"code":{"bits":8,"dsub":4},"codes":[],"count":1,"flag":false,"flush":"block","free":{"a":"two","b":1},)"
      R"("large":0,"limit":null,"name":"n","rate":0.1,"seed":7,"table":{}})");
}

}  // namespace
}  // namespace vi::config
