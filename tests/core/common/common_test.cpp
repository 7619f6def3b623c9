// Files, hashes, JSON, random numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <fstream>
#include <map>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/hash.h"
#include "core/common/json.h"
#include "core/common/rng.h"
#include "tests/core/artifact/scratch.h"

namespace vi {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using test::Scratch;
using testing::ElementsAre;
using testing::HasSubstr;

void put(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(File, ReadAndWrite) {
  const Scratch scratch;
  std::string bytes(200'001, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7);
  for (const std::string& text : {std::string(), std::string("a"), bytes}) {
    write_file_atomic(scratch / "a", text);
    EXPECT_EQ(read_file(scratch / "a"), text);
    const MappedFile map(scratch / "a");
    EXPECT_EQ(std::string(map.bytes().begin(), map.bytes().end()), text);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(scratch.folder()), {}), 1) << "a temporary stayed";
  EXPECT_THAT(message_of<ContractError>([&] { read_file(scratch / "none"); }),
              HasSubstr("none: cannot be read: No such file"));
  EXPECT_THAT(message_of<ContractError>([&] { read_file(scratch.folder()); }),
              HasSubstr("is a folder"));
  EXPECT_THAT(message_of<ContractError>([&] { MappedFile(scratch / "none"); }),
              HasSubstr("none: cannot be read"));
  EXPECT_THAT(message_of<ContractError>([&] { MappedFile m(scratch.folder()); }),
              HasSubstr("is not a regular file"));
  EXPECT_THAT(message_of<IoError>([&] { write_file_atomic(scratch / "no/folder", "x"); }),
              HasSubstr("cannot be created"));
}

TEST(File, RelativeNames) {
  const Scratch scratch;
  const fs::path before = fs::current_path();
  fs::current_path(scratch.folder());
  write_file_atomic("plain", "x");
  EXPECT_EQ(read_file("plain"), "x");
  fs::current_path(before);
}

TEST(File, FullDiskKeepsTheOldFile) {
  const Scratch scratch;
  put(scratch / "a", "old");
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{10, 10};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int wrong = 0;
    try {
      write_file_atomic(scratch / "a", std::string(100, 'x'));
      ++wrong;
    } catch (const IoError&) {
    }
    try {
      LineAppender appender(scratch / "lines");
      appender.append("1234567");
      appender.append("more than fits");
      ++wrong;
    } catch (const IoError&) {
    }
    ::_exit(wrong);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(scratch / "a"), "old");
  EXPECT_FALSE(fs::exists(scratch / fmt::format("a.tmp.{}", child)));
  { const LineAppender appender(scratch / "lines"); }
  EXPECT_EQ(read_file(scratch / "lines"), "1234567\n");  // the torn line is cut on opening
}

TEST(LineAppender, CutsATornLine) {
  const Scratch scratch;
  const std::map<std::string, std::string> cases = {
      {"", ""},     {"one\n", "one\n"}, {"one\ntwo", "one\n"},
      {"torn", ""}, {"\n\n", "\n\n"},   {"a\nb\nc", "a\nb\n"}};
  for (const auto& [before, after] : cases) {
    put(scratch / "lines", before);
    {
      LineAppender appender(scratch / "lines");
      appender.append("new");
      appender.append("");
    }
    EXPECT_EQ(read_file(scratch / "lines"), after + "new\n\n");
  }
  std::string big = "first\n" + std::string(300'000, 'x');
  put(scratch / "lines", big);
  { const LineAppender appender(scratch / "lines"); }
  EXPECT_EQ(read_file(scratch / "lines"), "first\n");
  EXPECT_THROW(LineAppender(scratch.folder()), IoError);
}

TEST(Hash, KnownAnswers) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string million(1'000'000, 'a');
  const std::string expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  EXPECT_EQ(sha256_hex(million), expected);
  Sha256 pieces;
  for (std::size_t i = 0; i < million.size(); i += 997)
    pieces.update(million.data() + i, std::min<std::size_t>(997, million.size() - i));
  EXPECT_EQ(pieces.hex(), expected);
  const Scratch scratch;
  put(scratch / "a", million);
  EXPECT_EQ(sha256_file(scratch / "a"), expected);
  EXPECT_THROW(sha256_file(scratch / "none"), ContractError);
  EXPECT_THROW(sha256_file(scratch.folder()), ContractError);
}

TEST(JsonText, ErrorsNameThePlace) {
  EXPECT_EQ(parse_json(R"({"b":1,"a":[true,null]})", "x").dump(), R"({"b":1,"a":[true,null]})");
  EXPECT_THAT(message_of<ContractError>([] { parse_json("{\"a\":", "x.json"); }),
              HasSubstr("x.json: byte 6: not valid JSON"));
  EXPECT_THROW(parse_json("", "x"), ContractError);
  EXPECT_THROW(parse_json("\"\xff\"", "x"), ContractError);
  EXPECT_THROW(parse_json("{} {}", "x"), ContractError);
  EXPECT_THROW(parse_json(std::string(200'000, '['), "x"), ContractError);
  // Deeply nested but valid: refused rather than freed by a recursion that overflows the stack.
  EXPECT_THAT(message_of<ContractError>(
                  [] { parse_json(std::string(200'000, '[') + std::string(200'000, ']'), "x"); }),
              HasSubstr("nested"));
}

TEST(JsonText, Canonical) {
  EXPECT_EQ(canonical_json(Json::parse(R"({ "b": 1, "a": {"z": 0.1, "y": 1e300, "x": 2.0} })")),
            R"({"a":{"x":2.0,"y":1e+300,"z":0.1},"b":1})");
  EXPECT_EQ(canonical_json(Json(1u)), canonical_json(Json(1)));
  EXPECT_EQ(canonical_json(Json("ü\n")), "\"ü\\n\"");
}

TEST(JsonLines, ReadsAndRefuses) {
  const Scratch scratch;
  const auto lines = [&](const std::string& text) {
    put(scratch / "a.jsonl", text);
    std::vector<std::string> out;
    for_each_json_line(scratch / "a.jsonl", [&](std::int64_t n, const Json& json) {
      out.push_back(fmt::format("{}{}", n, json.dump()));
    });
    return out;
  };
  EXPECT_THAT(lines(""), ElementsAre());
  EXPECT_THAT(lines("{\"a\":1}\n\n  \n{\"b\":2}\r\n{}"),
              ElementsAre("1{\"a\":1}", "4{\"b\":2}", "5{}"));
  // Only '\n' ends a line: U+2028 and \u000b inside strings do not.
  EXPECT_THAT(lines("{\"a\":\"\u2028\u0085\"}\n"), testing::SizeIs(1));
  const auto refused = [&](const std::string& text) {
    return message_of<ContractError>([&] { lines(text); });
  };
  EXPECT_THAT(refused("{}\n[1]\n"), HasSubstr("a.jsonl:2: expected a JSON object"));
  EXPECT_THAT(refused("{}\n{}\n{\"a\":\n"), HasSubstr("a.jsonl:3: byte"));
  EXPECT_THAT(refused("{\"a\":\"\xc3\"}\n"), HasSubstr("a.jsonl:1:"));
  EXPECT_THROW(for_each_json_line(scratch / "none", [](std::int64_t, const Json&) {}),
               ContractError);
  EXPECT_THAT(message_of<ContractError>(
                  [&] { for_each_json_line(scratch.folder(), [](std::int64_t, const Json&) {}); }),
              HasSubstr("folder"));
}

TEST(Rng, KnownAnswers) {
  // SplitMix64 from seed 1234567: the reference values of its publication.
  std::uint64_t state = 1234567;
  EXPECT_EQ(splitmix64(state), 6457827717110365317ull);
  EXPECT_EQ(splitmix64(state), 3203168211198807973ull);
  EXPECT_EQ(splitmix64(state), 9817491932198370423ull);
  // xoshiro256** in the plainest form beside ours.
  std::uint64_t seed = 42, s[4];
  for (auto& x : s) x = splitmix64(seed);
  Rng rng(42);
  const auto rotl = [](std::uint64_t x, int k) { return (x << k) | (x >> (64 - k)); };
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t expected = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    ASSERT_EQ(rng.next(), expected);
  }
}

TEST(Rng, Distributions) {
  Rng rng(5);
  std::vector<int> counts(7);
  double sum = 0, squares = 0, least = 1, most = 0;
  constexpr int n = 200'000;
  for (int i = 0; i < n; ++i) {
    ++counts[rng.below(7)];
    const double u = rng.uniform(), z = rng.normal();
    least = std::min(least, u);
    most = std::max(most, u);
    sum += z;
    squares += z * z;
  }
  for (const int count : counts) EXPECT_NEAR(count, n / 7.0, 5 * std::sqrt(n / 7.0));
  EXPECT_GE(least, 0);
  EXPECT_LT(most, 1);
  EXPECT_NEAR(sum / n, 0, 0.012);
  EXPECT_NEAR(squares / n, 1, 0.02);
  EXPECT_EQ(rng.below(1), 0u);
}

}  // namespace
}  // namespace vi
