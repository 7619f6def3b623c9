// The YAML tree: marks, refusals, composition, --set, nearest names.
#include "core/config/node.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/config/options.h"
#include "tests/core/artifact/scratch.h"

namespace vi::config {
namespace {

using test::message_of;
using test::Scratch;
using testing::HasSubstr;
using testing::StartsWith;

Node parse(const std::string& text) { return parse_yaml_text(text, "f.yaml"); }
std::string refused(const std::string& text) {
  return message_of<ConfigError>([&] { parse(text); });
}
std::string json(const Node& node) { return to_json(node).dump(); }

TEST(Node, KindsAndMarks) {
  const Node node = parse("a: 1\nb:\n  - x\n  - {c: \"1\"}\nd:\ne: ~\n");
  EXPECT_EQ(json(node), R"({"a":1,"b":["x",{"c":"1"}],"d":null,"e":null})");
  EXPECT_EQ(node.find("a")->mark.text(), "f.yaml:1:4");
  EXPECT_EQ(node.find("a")->key_mark.text(), "f.yaml:1:1");
  EXPECT_EQ(node.find("b")->items[1].mark.text(), "f.yaml:4:5");
  EXPECT_EQ(node.find("b")->items[1].find("c")->key_mark.text(), "f.yaml:4:6");
  EXPECT_EQ(node.find("d")->mark.text(), "f.yaml:5:1");
  EXPECT_TRUE(node.find("b")->items[1].find("c")->quoted);
  EXPECT_EQ(node.find("z"), nullptr);
  EXPECT_EQ(parse("").kind, Node::Kind::null);
  EXPECT_EQ(parse("# only a comment\n").mark.text(), "f.yaml:1:1");
  EXPECT_EQ(Mark{}.text(), "(built in)");
}

TEST(Node, ScalarsAsYamlReadsThem) {
  EXPECT_EQ(json(parse("[1, -2, 1.5, 1e3, true, off, word, '1', 0x10, 1.0.0]")),
            R"([1,-2,1.5,1000.0,true,false,"word","1","0x10","1.0.0"])");
  EXPECT_EQ(json(parse("[18446744073709551615, 9223372036854775808, -9223372036854775808]")),
            "[18446744073709551615,9223372036854775808,-9223372036854775808]");
  EXPECT_EQ(json(parse("[nan, inf, -inf, 1e999]")), R"(["nan","inf","-inf","1e999"])");
  EXPECT_EQ(json(parse("!!str 5")), R"("5")");
}

TEST(Node, Refusals) {
  EXPECT_THAT(refused("a: [1\nb: 2\n"), StartsWith("f.yaml:2:2: not valid YAML"));
  EXPECT_THAT(refused("a: 1\n\tb: 2\n"), StartsWith("f.yaml:2:"));
  EXPECT_THAT(refused("a: 1\nb: 2\na: 3\n"), StartsWith("f.yaml:3:1: key 'a' is given twice"));
  EXPECT_THAT(refused("? [x]\n: 1\n"), HasSubstr("a key must be a plain word"));
  EXPECT_THAT(refused("a: 1\n---\nb: 2\n"), HasSubstr("expected one YAML document"));
  EXPECT_THAT(refused("a: *nothing\n"), StartsWith("f.yaml:1:"));
  EXPECT_THAT(refused(std::string(70, '[') + std::string(70, ']')),
              HasSubstr("nested deeper than 64 levels"));
  EXPECT_THAT(refused(std::string(100'000, '[')), StartsWith("f.yaml:1:"));
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    bomb += fmt::format("a{0}: &a{0} [", i);
    for (int j = 0; j < 10; ++j) bomb += fmt::format("*a{}, ", i - 1);
    bomb += "]\n";
  }
  EXPECT_THAT(refused(bomb), HasSubstr("more than 200000 values"));
}

class Files : public testing::Test {
 protected:
  std::filesystem::path put(const std::string& name, const std::string& text) {
    const auto path = scratch_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path;
  }
  Scratch scratch_;
};

TEST_F(Files, BaseComposition) {
  put("base.yaml", "model: {name: a, depth: 1}\nlist: [1, 2]\nkeep: yes\n");
  put("other.yaml", "model: {depth: 2}\n");
  const auto top = put("top.yaml", "base: [base, other.yaml]\nmodel:\n  width: 3\nlist: [9]\n");
  const Node node = load_yaml(top);
  EXPECT_EQ(json(node), R"({"model":{"name":"a","depth":2,"width":3},"list":[9],"keep":true})");
  EXPECT_THAT(node.find("keep")->mark.text(), testing::EndsWith("base.yaml:3:7"));
  EXPECT_THAT(node.find("model")->find("depth")->mark.text(), testing::EndsWith("other.yaml:1:16"));
  EXPECT_THAT(node.find("list")->mark.text(), testing::EndsWith("top.yaml:4:7"));
  EXPECT_EQ(node.find("base"), nullptr);
}

TEST_F(Files, BaseMayReplaceAMapAndComeFromARoot) {
  put("shared/methods/m.yaml", "codec: {bits: 2}\n");
  const auto top = put("here/top.yaml", "base: methods/m\ncodec: none\n");
  EXPECT_EQ(json(load_yaml(top, {scratch_ / "shared"})), R"({"codec":"none"})");
  EXPECT_THAT(message_of<ConfigError>([&] { load_yaml(top); }),
              HasSubstr("top.yaml:1:7: base 'methods/m' not found beside this file"));
  EXPECT_THAT(message_of<ConfigError>([&] { load_yaml(top, {scratch_ / "elsewhere"}); }),
              HasSubstr("nor under"));
  // A diamond is no cycle.
  put("d/a.yaml", "base: [b, c]\n");
  put("d/b.yaml", "base: root\nx: 1\n");
  put("d/c.yaml", "base: root\ny: 1\n");
  put("d/root.yaml", "x: 0\ny: 0\nz: 0\n");
  EXPECT_EQ(json(load_yaml(scratch_ / "d/a.yaml")), R"({"x":0,"y":1,"z":0})");
}

TEST_F(Files, BaseFaults) {
  const auto a = put("a.yaml", "base: b\n");
  put("b.yaml", "base: ./a.yaml\n");
  EXPECT_THAT(message_of<ConfigError>([&] { load_yaml(a); }),
              HasSubstr("base: this file includes itself"));
  const auto self = put("self.yaml", "base: self\n");
  EXPECT_THAT(message_of<ConfigError>([&] { load_yaml(self); }), HasSubstr("includes itself"));
  const auto map = put("map.yaml", "x: 1\nbase: {a: b}\n");
  EXPECT_THAT(message_of<ConfigError>([&] { load_yaml(map); }),
              HasSubstr("map.yaml:2:7: base: expected a file name or a list"));
  const auto deep = put("deep.yaml", "base: [[b]]\n");
  EXPECT_THAT(message_of<ConfigError>([&] { load_yaml(deep); }),
              HasSubstr("deep.yaml:1:8: base: expected a file name"));
  const auto list = put("list.yaml", "[1]\n");
  EXPECT_THAT(message_of<ConfigError>([&] { load_yaml(list); }),
              HasSubstr("list.yaml:1:1: expected a map of settings"));
  const auto empty = put("empty.yaml", "");
  EXPECT_THAT(message_of<ConfigError>([&] { load_yaml(empty); }),
              HasSubstr("empty.yaml:1:1: expected a map"));
  const auto long_name = put("long.yaml", "base: " + std::string(5000, 'x') + "\n");
  EXPECT_THAT(message_of<ConfigError>([&] { load_yaml(long_name); }),
              HasSubstr("not found beside this file"));
  EXPECT_THAT(message_of<ConfigError>([&] { load_yaml(scratch_ / "none.yaml"); }),
              HasSubstr("none.yaml: cannot be read"));
  EXPECT_THAT(message_of<ConfigError>([&] { load_yaml(scratch_.folder()); }),
              HasSubstr("is a folder"));
}

TEST(Set, Values) {
  const auto set = [](const std::string& text, const std::string& assignment) {
    Node node = parse(text);
    apply_set(node, assignment);
    return json(node);
  };
  EXPECT_EQ(set("a: 1", "a=2"), R"({"a":2})");
  EXPECT_EQ(set("a: {b: 1, c: 2}", "a.b=x"), R"({"a":{"b":"x","c":2}})");
  EXPECT_EQ(set("a: 1", "b.c.d=[1, {e: 2}]"), R"({"a":1,"b":{"c":{"d":[1,{"e":2}]}}})");
  EXPECT_EQ(set("a:", "a.b=1"), R"({"a":{"b":1}})");
  EXPECT_EQ(set("", "a=1"), R"({"a":1})");
  EXPECT_EQ(set("a: [1, {b: 2}]", "a.1.b=3"), R"({"a":[1,{"b":3}]})");
  EXPECT_EQ(set("a: 1", "a="), R"({"a":null})");
  EXPECT_EQ(set("a: 1", "a=x=y"), R"({"a":"x=y"})");
  EXPECT_EQ(set("a: {b: 1}", "a=none"), R"({"a":"none"})");
}

TEST(Set, Faults) {
  const auto refused = [](const std::string& assignment) {
    Node node = parse("a: 1\nl: [1, 2]\n");
    return message_of<ConfigError>([&] { apply_set(node, assignment); });
  };
  for (const char* text : {"a", "=1", ""})
    EXPECT_THAT(refused(text), HasSubstr("expected key.path=value"));
  for (const char* text : {"a.=1", ".a=1", "x..y=1", ".=1"})
    EXPECT_THAT(refused(text), HasSubstr("empty key"));
  EXPECT_THAT(refused("a.b=1"), HasSubstr("--set a.b=1: 'b' stands under a plain value"));
  EXPECT_THAT(refused("l.2=1"), HasSubstr("'2' is not an index below 2"));
  EXPECT_THAT(refused("l.x=1"), HasSubstr("'x' is not an index below 2"));
  EXPECT_THAT(refused("l.99999999999999999999=1"), HasSubstr("is not an index"));
  EXPECT_THAT(refused("a=[1"), HasSubstr("--set a=[1:1:1: not valid YAML"));
}

TEST(Nearest, Names) {
  const std::vector<std::string> names{"key_bits", "value_bits", "dsub", "scope"};
  EXPECT_EQ(nearest_name("key_bit", names), "key_bits");
  EXPECT_EQ(nearest_name("vaule_bits", names), "value_bits");
  EXPECT_EQ(nearest_name("dsbu", names), "dsub");
  EXPECT_EQ(nearest_name("completely_different", names), "");
  EXPECT_EQ(nearest_name("", {}), "");
}

}  // namespace
}  // namespace vi::config
