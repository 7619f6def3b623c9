// `vecinfer data`: the list, a local server, a folder of local files, Ctrl-C in the middle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/hash.h"
#include "core/common/json.h"
#include "pipeline/data/sources.h"
#include "tests/support/http_server.h"
#include "tests/support/process.h"

namespace vi::data {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using test::Finished;
using test::HttpReply;
using test::HttpRequest;
using test::HttpServer;
using test::serve_bytes;
using ::testing::HasSubstr;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

class Data : public ::testing::Test {
 protected:
  void SetUp() override { ::setenv("no_proxy", "127.0.0.1", 1); }
  fs::path folder() const { return scratch_.path(); }
  void list(const std::string& text) const { write(folder() / "sources.yaml", "sources:\n" + text); }
  static std::string entry(const std::string& name, const std::string& url, const std::string& file, const std::string& rest) {
    return "  - {name: " + name + ", url: '" + url + "', licence: MIT, file: " + file + ", " + rest + "}\n";
  }
  Finished data(std::vector<std::string> more, std::chrono::microseconds after = {}) const {
    std::vector<std::string> words{"data", "--sources", "sources.yaml", "--to", "to", "--back-off", "0.01", "--tries", "3"};
    words.insert(words.end(), more.begin(), more.end());
    return test::run_vecinfer(words, folder(), after, SIGINT);
  }
  test::Scratch scratch_;
};

TEST(Sources, TheListOfTheProjectReads) {
  const auto sources = read_sources(VI_SOURCE_DIR "/data/sources.yaml");
  EXPECT_GE(sources.size(), 10u);
  for (const Source& source : sources) {
    EXPECT_FALSE(source.licence.empty()) << source.name;
    EXPECT_FALSE(source.description.empty()) << source.name;
    if (!source.sha256 || !source.bytes) {
      EXPECT_FALSE(source.unknown.empty()) << source.name;
    }
  }
  const fs::path shared = VI_SOURCE_DIR "/../shared/data";
  if (!fs::exists(shared / "gsm8k/test.jsonl")) GTEST_SKIP() << "no " << shared;
  for (const Source& source : sources)  // what is at hand is what the list says
    for (const DataFile& file : source.files())
      if (file.sha256 && fs::exists(shared / file.file)) {
        EXPECT_EQ(sha256_file(shared / file.file), *file.sha256) << file.file;
      }
}

TEST_F(Data, BadListsNameFileLineAndField) {
  const auto message = [&](const std::string& text) -> std::string {
    list(text);
    try {
      read_sources(folder() / "sources.yaml");
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  const std::string sum(64, 'a');
  EXPECT_THAT(message(entry("a", "ftp://x/y", "a", "sha256: " + sum + ", bytes: 1")), HasSubstr("sources.yaml:2:5: url: expected http"));
  EXPECT_THAT(message(entry("a", "http://x/y", "../a", "sha256: " + sum + ", bytes: 1")), HasSubstr("leaves the data folder"));
  EXPECT_THAT(message(entry("a", "http://x/y", "a", "sha256: xyz, bytes: 1")), HasSubstr("64 hexadecimal digits"));
  EXPECT_THAT(message(entry("a", "http://x/y", "a", "sha256: null, bytes: 1")), HasSubstr("'unknown' must say why"));
  EXPECT_THAT(message(entry("a", "http://x/y", "a", "sha256: " + sum + ", bytes: 1, sha: 1")), HasSubstr("unknown key 'sha'"));
  const std::string good = entry("a", "http://x/y", "a", "sha256: " + sum + ", bytes: 1");
  EXPECT_THAT(message(good + good), HasSubstr("listed twice"));
}

TEST_F(Data, DownloadsRecordsAndFindsItAgain) {
  const std::string one = "the first file\n";
  std::string two(50'000, 'q');
  HttpServer server([&](const HttpRequest& r, int) {
    return r.path == "/gone" ? HttpReply{.status = 404} : serve_bytes(r.path == "/one" ? one : two, r);
  });
  list(entry("one", server.url("/one"), "a/one.txt", "sha256: " + sha256_hex(one) + ", bytes: 15") +
       entry("two", server.url("/two"), "two.txt", "sha256: null, bytes: null, unknown: a test") +
       "  - {name: made, made_by: make setup, licence: MIT, file: made.txt, sha256: null, bytes: null, unknown: a test}\n");
  const Finished first = data({});
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(read_file(folder() / "to/a/one.txt"), one);
  EXPECT_EQ(read_file(folder() / "to/two.txt"), two);
  EXPECT_THAT(first.err, HasSubstr("two.txt: no checksum is known for it; recorded that of this first copy, sha256 " + sha256_hex(two)));
  EXPECT_THAT(first.out, HasSubstr("`make setup` puts it there"));
  EXPECT_THAT(read_file(folder() / "to/recorded.jsonl"), HasSubstr(sha256_hex(two)));
  const Finished second = data({});
  EXPECT_THAT(second.out, HasSubstr("one: is there"));
  EXPECT_EQ(server.requests().size(), 2u);
  // A damaged file is fetched again; one whose bytes have changed since the record is refused.
  write(folder() / "to/a/one.txt", "the first fine\n");
  EXPECT_THAT(data({"one"}).err, HasSubstr("it is fetched again"));
  EXPECT_EQ(read_file(folder() / "to/a/one.txt"), one);
  fs::remove(folder() / "to/two.txt");
  two = std::string(50'000, 'r');
  const Finished changed = data({"two"});
  EXPECT_EQ(changed.code, 3);
  EXPECT_THAT(changed.err, HasSubstr("recorded.jsonl:1 recorded"));
  EXPECT_FALSE(fs::exists(folder() / "to/two.txt"));
  // One set that cannot be had does not keep the others away.
  list(entry("gone", server.url("/gone"), "gone.txt", "sha256: null, bytes: null, unknown: a test") +
       entry("one", server.url("/one"), "b/one.txt", "sha256: " + sha256_hex(one) + ", bytes: 15"));
  const Finished partly = data({});
  EXPECT_EQ(partly.code, 3);
  EXPECT_THAT(partly.err, HasSubstr("404"));
  EXPECT_EQ(read_file(folder() / "to/b/one.txt"), one);
  EXPECT_EQ(data({"--list"}).code, 0);
  EXPECT_THAT(data({"--list"}).out, HasSubstr("missing  gone"));
  const Finished wrong_name = data({"oen"});
  EXPECT_EQ(wrong_name.code, 2);
  EXPECT_THAT(wrong_name.err, HasSubstr("did you mean 'one'?"));
}

TEST_F(Data, CtrlCLeavesAPartThatTheNextRunContinues) {
  const std::string bytes(400'000, 'b');
  std::atomic<bool> slow{true};
  HttpServer server([&](const HttpRequest& r, int) {
    HttpReply reply = serve_bytes(bytes, r);
    if (slow) reply.slow = 30ms;
    return reply;
  });
  list(entry("big", server.url("/big"), "big.bin", "sha256: " + sha256_hex(bytes) + ", bytes: 400000"));
  const Finished stopped = data({}, 900ms);
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("run the same command again to resume"));
  ASSERT_TRUE(fs::exists(folder() / "to/big.bin.partial"));
  EXPECT_FALSE(fs::exists(folder() / "to/big.bin"));
  const auto have = fs::file_size(folder() / "to/big.bin.partial");
  EXPECT_GT(have, 0u);
  slow = false;
  const Finished resumed = data({});
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("continued at byte " + std::to_string(have)));
  EXPECT_EQ(server.requests().back().headers.at("range"), "bytes=" + std::to_string(have) + "-");
  EXPECT_EQ(read_file(folder() / "to/big.bin"), bytes);
  EXPECT_FALSE(fs::exists(folder() / "to/big.bin.partial"));
}

TEST_F(Data, OfflineIsSaidInOneLine) {
  list(entry("one", "http://127.0.0.1:9/one", "one.txt", "sha256: null, bytes: null, unknown: a test"));
  const Finished got = data({});
  EXPECT_EQ(got.code, 1);
  EXPECT_THAT(got.err, HasSubstr("offline?"));
  EXPECT_THAT(got.err, HasSubstr("--data"));
}

TEST_F(Data, AFolderOfLocalFilesDoesAsWell) {
  const std::string good = "{\"x\":1}\n";
  write(folder() / "mine/deep.jsonl", good);
  write(folder() / "mine/e/t_e.jsonl", good);
  list("  - name: set\n    url: http://127.0.0.1:9/a.zip\n    licence: MIT\n    file: set/a.zip\n    sha256: null\n    bytes: null\n"
       "    unknown: a test\n    unzip:\n      - {file: set/deep.jsonl, sha256: " + sha256_hex(good) + ", bytes: 8}\n"
       "      - set/t_e.jsonl\n      - set/absent.jsonl\n");
  const Finished got = data({"--data", "mine"});
  EXPECT_EQ(got.code, 0) << got.err;
  EXPECT_THAT(got.out, HasSubstr("set: 2 of 3 files copied from mine; not there: absent.jsonl; 1 taken as they are"));
  EXPECT_EQ(read_file(folder() / "to/set/deep.jsonl"), good);
  EXPECT_EQ(read_file(folder() / "to/set/t_e.jsonl"), good);
  write(folder() / "mine/deep.jsonl", "{\"x\":2}\n");
  fs::remove(folder() / "to/set/deep.jsonl");
  const Finished wrong = data({"set", "--data", "mine"});
  EXPECT_EQ(wrong.code, 3);
  EXPECT_THAT(wrong.err, HasSubstr("deep.jsonl: has sha256"));
  EXPECT_FALSE(fs::exists(folder() / "to/set/deep.jsonl"));
  EXPECT_EQ(data({"--data", "nowhere"}).code, 2);
}

TEST_F(Data, ArchivesAreUnpackedAndChecked) {
  if (std::system("command -v zip >/dev/null 2>&1 || python3 -c 'import zipfile'") != 0) GTEST_SKIP() << "neither zip nor python3";
  const std::string good = "{\"x\":1}\n";
  write(folder() / "z/data/one.jsonl", good);
  write(folder() / "z/data/two.jsonl", good);
  ASSERT_EQ(std::system(("cd '" + (folder() / "z").string() + "' && python3 -m zipfile -c ../a.zip data").c_str()), 0);
  const std::string archive = read_file(folder() / "a.zip");
  bool broken = true;
  HttpServer server([&](const HttpRequest& r, int) { return serve_bytes(broken ? archive.substr(0, archive.size() / 2) : archive, r); });
  const std::string head = "  - name: set\n    url: " + server.url("/a.zip") +
                           "\n    licence: MIT\n    file: set/a.zip\n    sha256: null\n    bytes: null\n    unknown: a test\n    unzip:\n";
  list(head + "      - set/one.jsonl\n      - {file: set/two.jsonl, sha256: " + sha256_hex(good) + ", bytes: 8}\n");
  const Finished half = data({});
  EXPECT_EQ(half.code, 3);
  EXPECT_THAT(half.err, HasSubstr("is not a whole zip archive"));
  EXPECT_FALSE(fs::exists(folder() / "to/set/one.jsonl"));
  broken = false;
  fs::remove_all(folder() / "to");
  const Finished whole = data({});
  EXPECT_EQ(whole.code, 0) << whole.err;
  EXPECT_EQ(read_file(folder() / "to/set/one.jsonl"), good);
  EXPECT_FALSE(fs::exists(folder() / "to/set/a.zip"));
  EXPECT_THAT(whole.err, HasSubstr("one.jsonl: no checksum is known"));
  list(head + "      - set/one.jsonl\n      - set/three.jsonl\n");
  const Finished lacking = data({});
  EXPECT_EQ(lacking.code, 3);
  EXPECT_THAT(lacking.err, HasSubstr("holds no file three.jsonl"));
}

}  // namespace
}  // namespace vi::data
