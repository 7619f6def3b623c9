// Downloads against a local server that cuts, lies and fails.
#include "pipeline/data/download.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/hash.h"
#include "core/common/rng.h"
#include "tests/support/http_server.h"

namespace vi::data {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using test::HttpReply;
using test::HttpRequest;
using test::HttpServer;
using test::serve_bytes;
using ::testing::HasSubstr;

class Log final : public Progress {
 public:
  void begin(std::string_view, std::int64_t units) override { total = units, done = 0; }
  void advance(std::int64_t units) override { done += units; }
  void end() override {}
  void note(std::string_view line) override { notes += std::string(line) + "\n"; }
  std::int64_t total = 0, done = 0;
  std::string notes;
};

class DownloadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::setenv("no_proxy", "127.0.0.1", 1);
    folder = fs::temp_directory_path() / ("vi_download_" + std::to_string(::getpid()));
    fs::remove_all(folder);
    Rng rng(3);
    for (int i = 0; i < 100'000; ++i) bytes += static_cast<char>(rng.below(256));
    sum = sha256_hex(bytes);
  }
  void TearDown() override { fs::remove_all(folder); }
  fs::path target() const { return folder / "sub" / "file.bin"; }
  fs::path part() const { return target().string() + ".partial"; }
  Download wanted(const HttpServer& server) const {
    return {server.url("/file"), target(), sum, static_cast<std::int64_t>(bytes.size())};
  }
  Downloaded get(const Download& what) { return download(what, {.tries = 3, .back_off = 1ms}, log); }
  std::string message(const Download& what) {
    try {
      get(what);
    } catch (const Error& error) {
      EXPECT_FALSE(fs::exists(target()));
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
    return "(nothing was thrown)";
  }
  // What a killed process leaves: `n` bytes of `from` and the note about their origin.
  void leave_part(const Download& what, std::size_t n, const std::string& from, const std::string& validator = "\\\"v1\\\"") {
    fs::create_directories(target().parent_path());
    std::ofstream(part(), std::ios::binary) << from.substr(0, n);
    std::ofstream(part().string() + ".json") << "{\"url\":\"" << what.url << "\",\"validator\":\"" << validator << "\"}\n";
  }
  void expect_whole() {
    EXPECT_EQ(sha256_file(target()), sum);
    EXPECT_FALSE(fs::exists(part()));
    EXPECT_FALSE(fs::exists(part().string() + ".json"));
    EXPECT_EQ(log.done, static_cast<std::int64_t>(bytes.size()));
  }
  fs::path folder;
  std::string bytes, sum;
  Log log;
};

TEST_F(DownloadTest, BringsAFileWithItsSizeOnTheBar) {
  HttpServer server([&](const HttpRequest& r, int) { return serve_bytes(bytes, r); });
  const Downloaded got = get(wanted(server));
  EXPECT_EQ(got.sha256, sum);
  EXPECT_EQ(got.bytes, 100'000);
  EXPECT_EQ(got.tries, 1);
  EXPECT_EQ(log.total, 100'000);
  expect_whole();
}

TEST_F(DownloadTest, ConnectionsThatAreCutAreContinued) {
  HttpServer server([&](const HttpRequest& r, int) {
    HttpReply reply = serve_bytes(bytes, r);
    reply.cut_after = 30'000;
    return reply;
  });
  const Downloaded got = get(wanted(server));
  EXPECT_EQ(got.tries, 4);
  expect_whole();
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 4u);
  EXPECT_EQ(requests[1].headers.at("range"), "bytes=30000-");
  EXPECT_EQ(requests[1].headers.at("if-range"), "\"v1\"");
  EXPECT_EQ(requests[3].headers.at("range"), "bytes=90000-");
}

TEST_F(DownloadTest, AServerThatDropsEveryConnectionEndsInOneLine) {
  HttpServer server([&](const HttpRequest& r, int) {
    HttpReply reply = serve_bytes(bytes, r);
    reply.cut_after = 0;
    return reply;
  });
  EXPECT_THAT(message(wanted(server)), HasSubstr("after 3 tries; 0 bytes are kept"));
  EXPECT_FALSE(fs::exists(part()));
}

TEST_F(DownloadTest, APartOfAnEarlierRunIsContinued) {
  HttpServer server([&](const HttpRequest& r, int) { return serve_bytes(bytes, r); });
  leave_part(wanted(server), 77'777, bytes);
  const Downloaded got = get(wanted(server));
  EXPECT_EQ(got.resumed_from, 77'777);
  EXPECT_EQ(server.requests().at(0).headers.at("range"), "bytes=77777-");
  expect_whole();
}

TEST_F(DownloadTest, AWholePartNeedsNoServer) {
  HttpServer server([&](const HttpRequest&, int) { return HttpReply{.status = 500}; });
  leave_part(wanted(server), bytes.size(), bytes);
  get(wanted(server));
  EXPECT_TRUE(server.requests().empty());
  expect_whole();
}

TEST_F(DownloadTest, APartOfAnotherUrlOrVersionBeginsAnew) {
  HttpServer server([&](const HttpRequest& r, int) { return serve_bytes(bytes, r, "\"v2\""); });
  leave_part(wanted(server), 500, std::string(500, 'x'));  // of version v1: If-Range fails, the whole comes
  get(wanted(server));
  expect_whole();
  fs::remove(target());
  Download other = wanted(server);
  other.url += "?other";
  leave_part(other, 500, std::string(500, 'x'));
  get(wanted(server));
  EXPECT_FALSE(server.requests().back().headers.contains("range"));
  expect_whole();
}

TEST_F(DownloadTest, AServerWithoutRangesStartsOver) {
  HttpServer server([&](const HttpRequest&, int number) {
    HttpReply reply;
    reply.body = bytes;
    if (number == 0) reply.cut_after = 50'000;
    return reply;
  });
  get(wanted(server));
  expect_whole();
}

TEST_F(DownloadTest, RangeNotSatisfiable) {
  // All bytes are here but their number was not known: 416 with the size says so.
  HttpServer server([&](const HttpRequest& r, int) { return serve_bytes(bytes, r); });
  Download unsized = wanted(server);
  unsized.bytes.reset();
  leave_part(unsized, bytes.size(), bytes);
  get(unsized);
  EXPECT_EQ(server.requests().size(), 1u);
  expect_whole();
  // 416 for a part that cannot be right: from the start.
  fs::remove(target());
  HttpServer strict([&](const HttpRequest& r, int) {
    return r.headers.contains("range") ? HttpReply{.status = 416} : serve_bytes(bytes, r);
  });
  unsized.url = strict.url("/file");
  leave_part(unsized, 60'000, bytes);
  log.done = 0;
  get(unsized);
  EXPECT_THAT(log.notes, HasSubstr("begins anew"));
  EXPECT_EQ(sha256_file(target()), sum);
}

TEST_F(DownloadTest, NotFoundIsSaidAtOnce) {
  HttpServer server([&](const HttpRequest&, int) { return HttpReply{.status = 404, .body = "no"}; });
  EXPECT_THROW(get(wanted(server)), ContractError);
  EXPECT_THAT(message(wanted(server)), HasSubstr("/file: the server answers 404, there is no such file"));
  EXPECT_EQ(server.requests().size(), 2u);  // one a call
}

TEST_F(DownloadTest, ServerErrorsAreTriedAgain) {
  HttpServer server([&](const HttpRequest& r, int number) { return number < 2 ? HttpReply{.status = 500 + number * 3} : serve_bytes(bytes, r); });
  EXPECT_EQ(get(wanted(server)).tries, 3);
  EXPECT_THAT(log.notes, HasSubstr("the server answers 500; next try in 0.0 s"));
  expect_whole();
  fs::remove(target());
  HttpServer broken([&](const HttpRequest&, int) { return HttpReply{.status = 500}; });
  EXPECT_THAT(message(wanted(broken)), HasSubstr("the server answers 500 after 3 tries"));
  EXPECT_EQ(broken.requests().size(), 3u);
}

TEST_F(DownloadTest, WrongBytesAreNeverKept) {
  HttpServer server([&](const HttpRequest& r, int) {
    std::string wrong = bytes;
    wrong[5000] = static_cast<char>(wrong[5000] ^ 1);
    return serve_bytes(wrong, r);
  });
  EXPECT_THAT(message(wanted(server)), HasSubstr("expected " + sum + "; nothing was kept"));
  EXPECT_FALSE(fs::exists(part()));
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_F(DownloadTest, ADamagedPartIsFoundByTheChecksumAndMadeAnew) {
  HttpServer server([&](const HttpRequest& r, int) { return serve_bytes(bytes, r); });
  leave_part(wanted(server), 1000, std::string(1000, 'z'));
  const Downloaded got = get(wanted(server));
  EXPECT_EQ(got.tries, 2);
  EXPECT_THAT(log.notes, HasSubstr("wrong checksum"));
  expect_whole();
}

TEST_F(DownloadTest, WrongContentLength) {
  for (const std::int64_t length : {50'000, 100'001, 200'000}) {  // of a file whose size is known: refused at once
    HttpServer server([&](const HttpRequest& r, int) {
      HttpReply reply = serve_bytes(bytes, r);
      reply.content_length = length;
      return reply;
    });
    EXPECT_THAT(message(wanted(server)), HasSubstr("offers " + std::to_string(length) + " bytes, expected 100000"));
    EXPECT_EQ(server.requests().size(), 1u);
  }
  // Unknown size, too large a Content-Length: the connection ends early, and 416 then says that all is here.
  HttpServer large([&](const HttpRequest& r, int) {
    HttpReply reply = serve_bytes(bytes, r);
    if (reply.status == 200) reply.content_length = 120'000;
    return reply;
  });
  Download unsized = wanted(large);
  unsized.bytes.reset();
  EXPECT_EQ(get(unsized).tries, 2);
  EXPECT_EQ(sha256_file(target()), sum);
  fs::remove(target());
  // Too small: the checksum finds it.
  HttpServer small([&](const HttpRequest& r, int) {
    HttpReply reply = serve_bytes(bytes, r);
    reply.content_length = 60'000;
    return reply;
  });
  unsized.url = small.url("/file");
  EXPECT_THAT(message(unsized), HasSubstr("the 60000 bytes that arrived have sha256"));
  // No Content-Length at all, more bytes than expected.
  HttpServer endless([&](const HttpRequest&, int) { return HttpReply{.body = bytes + "more", .content_length = -1}; });
  EXPECT_THAT(message(wanted(endless)), HasSubstr("sends more than the expected 100000 bytes"));
}

TEST_F(DownloadTest, AWebPageIsNotTheFile) {
  HttpServer server([&](const HttpRequest&, int) { return HttpReply{.body = "<html>log in", .headers = {"Content-Type: text/html; charset=utf-8"}}; });
  Download any = wanted(server);
  any.sha256.clear();
  any.bytes.reset();
  EXPECT_THAT(message(any), HasSubstr("a web page instead of the file"));
}

TEST_F(DownloadTest, RedirectsAreFollowedButNotToFiles) {
  HttpServer server([&](const HttpRequest& r, int) {
    if (r.path == "/file") return HttpReply{.status = 302, .headers = {"Location: /there"}};
    if (r.path == "/bad") return HttpReply{.status = 302, .headers = {"Location: file:///etc/passwd"}};
    return serve_bytes(bytes, r);
  });
  get(wanted(server));
  expect_whole();
  fs::remove(target());
  Download bad = wanted(server);
  bad.url = server.url("/bad");
  EXPECT_NE(message(bad), "(nothing was thrown)");
}

TEST_F(DownloadTest, OfflineIsOneClearLine) {
  std::string url;
  {
    HttpServer server([&](const HttpRequest&, int) { return HttpReply{}; });
    url = server.url("/file");
  }  // nobody listens there now
  EXPECT_THAT(message({url, target(), sum, {}}), HasSubstr("offline?"));
  EXPECT_THAT(message({url, target(), sum, {}}), HasSubstr("give a folder of local files with --data"));
  EXPECT_THAT(message({"http://nowhere.invalid/file", target(), sum, {}}), HasSubstr("nowhere.invalid"));
}

TEST_F(DownloadTest, TwoProcessesDoNotMix) {
  HttpServer server([&](const HttpRequest& r, int) {
    HttpReply reply = serve_bytes(bytes, r);
    reply.slow = 5ms;
    return reply;
  });
  std::thread other([&] {
    Log quiet;
    download(wanted(server), {.tries = 3, .back_off = 1ms}, quiet);
  });
  while (!fs::exists(part())) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(20ms);
  EXPECT_THAT([&] { get(wanted(server)); }, ::testing::ThrowsMessage<Error>(HasSubstr("another process")));
  other.join();
  EXPECT_EQ(sha256_file(target()), sum);
}

}  // namespace
}  // namespace vi::data
