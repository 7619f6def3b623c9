// A small HTTP/1.1 server on 127.0.0.1 for tests of downloads: serves bytes with ranges and
// misbehaves where a test asks it to. One connection at a time, one request each.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace vi::test {

struct HttpRequest {
  std::string path;
  std::map<std::string, std::string> headers;  // names in lower case
};

struct HttpReply {
  int status = 200;
  std::string body = {};
  std::vector<std::string> headers = {};      // "Name: value"
  std::int64_t content_length = -2;      // -2: the body's; -1: none (ends with the connection)
  std::int64_t cut_after = -1;           // bytes of the body after which the connection closes
  std::chrono::milliseconds slow{0};     // pause before each 4 KiB of the body
};

class HttpServer {
 public:
  using Handler = std::function<HttpReply(const HttpRequest&, int number)>;  // number: requests before this one
  explicit HttpServer(Handler handler);
  ~HttpServer();
  std::string url(const std::string& path) const;
  std::vector<HttpRequest> requests() const;

 private:
  void serve();
  void answer(int connection);
  Handler handler_;
  int socket_ = -1, port_ = 0;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  std::vector<HttpRequest> requests_;
  std::thread thread_;
};

// What a good server does with `bytes`: 200, or 206 for a Range whose If-Range (if any) is `etag`, or 416.
HttpReply serve_bytes(const std::string& bytes, const HttpRequest& request, const std::string& etag = "\"v1\"");

}  // namespace vi::test
