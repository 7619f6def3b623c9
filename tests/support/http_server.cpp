#include "tests/support/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>

namespace vi::test {
namespace {

bool send_all(int connection, const std::string& text, std::size_t begin, std::size_t end) {
  while (begin < end) {
    const ssize_t n = ::send(connection, text.data() + begin, end - begin, MSG_NOSIGNAL);
    if (n <= 0) return false;
    begin += static_cast<std::size_t>(n);
  }
  return true;
}

HttpRequest parse(const std::string& text) {
  HttpRequest request;
  const std::size_t space = text.find(' ');
  request.path = text.substr(space + 1, text.find(' ', space + 1) - space - 1);
  for (std::size_t at = text.find("\r\n") + 2; at < text.size();) {
    const std::size_t end = text.find("\r\n", at);
    if (end == at || end == std::string::npos) break;
    const std::size_t colon = text.find(": ", at);
    std::string name = text.substr(at, colon - at);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    request.headers[name] = text.substr(colon + 2, end - colon - 2);
    at = end + 2;
  }
  return request;
}

}  // namespace

HttpServer::HttpServer(Handler handler) : handler_(std::move(handler)) {
  socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (socket_ < 0 || ::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(socket_, 16) != 0 ||
      ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("no local server");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

HttpServer::~HttpServer() {
  stop_ = true;
  thread_.join();
  ::close(socket_);
}

std::string HttpServer::url(const std::string& path) const { return "http://127.0.0.1:" + std::to_string(port_) + path; }

std::vector<HttpRequest> HttpServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void HttpServer::serve() {
  while (!stop_) {
    pollfd waiting{socket_, POLLIN, 0};
    if (::poll(&waiting, 1, 20) <= 0) continue;
    const int connection = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    answer(connection);
    ::close(connection);
  }
}

void HttpServer::answer(int connection) {
  std::string text;
  char buffer[4096];
  while (text.find("\r\n\r\n") == std::string::npos) {
    const ssize_t n = ::recv(connection, buffer, sizeof buffer, 0);
    if (n <= 0) return;
    text.append(buffer, static_cast<std::size_t>(n));
  }
  const HttpRequest request = parse(text);
  int number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = static_cast<int>(requests_.size());
    requests_.push_back(request);
  }
  const HttpReply reply = handler_(request, number);
  std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " x\r\nConnection: close\r\n";
  if (reply.content_length != -1)
    head += "Content-Length: " +
            std::to_string(reply.content_length >= 0 ? static_cast<std::size_t>(reply.content_length) : reply.body.size()) + "\r\n";
  for (const std::string& header : reply.headers) head += header + "\r\n";
  head += "\r\n";
  if (!send_all(connection, head, 0, head.size())) return;
  const std::size_t end =
      reply.cut_after >= 0 ? std::min(reply.body.size(), static_cast<std::size_t>(reply.cut_after)) : reply.body.size();
  for (std::size_t at = 0; at < end && !stop_; at += 4096) {
    if (reply.slow.count() > 0) std::this_thread::sleep_for(reply.slow);
    if (!send_all(connection, reply.body, at, std::min(end, at + 4096))) return;
  }
  ::shutdown(connection, SHUT_WR);
}

HttpReply serve_bytes(const std::string& bytes, const HttpRequest& request, const std::string& etag) {
  HttpReply reply;
  reply.headers = {"ETag: " + etag, "Accept-Ranges: bytes"};
  const auto range = request.headers.find("range"), if_range = request.headers.find("if-range");
  if (range == request.headers.end() || (if_range != request.headers.end() && if_range->second != etag)) {
    reply.body = bytes;
    return reply;
  }
  const std::size_t begin = std::stoull(range->second.substr(6));
  if (begin >= bytes.size()) {
    reply.status = 416;
    reply.headers.push_back("Content-Range: bytes */" + std::to_string(bytes.size()));
    return reply;
  }
  reply.status = 206;
  reply.body = bytes.substr(begin);
  reply.headers.push_back("Content-Range: bytes " + std::to_string(begin) + "-" + std::to_string(bytes.size() - 1) + "/" +
                          std::to_string(bytes.size()));
  return reply;
}

}  // namespace vi::test
