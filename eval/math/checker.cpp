#include "eval/math/checker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>

#include "core/common/error.h"
#include "core/common/json.h"
#include "eval/math/answer.h"

extern char** environ;

namespace vi::eval::math {
namespace {

using Clock = std::chrono::steady_clock;
std::unique_ptr<Checker> shared_checker;  // set once by use_checker()

}  // namespace

Checker::Checker(std::filesystem::path program, CheckerLimits limits)
    : program_(std::move(program)), limits_(limits) {
  if (access(program_.c_str(), X_OK) != 0)
    fail<IoError>("{}: cannot be run: {}", program_.string(), std::strerror(errno));
}

Checker::~Checker() { stop(); }

void Checker::start() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    fail<IoError>("{}: no socket for it: {}", program_.string(), std::strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  // GiNaC tells of broken numbers on stderr; the verdict says all there is.
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::string name = program_.string(), memory = std::to_string(limits_.memory_mib),
              seconds = std::to_string(static_cast<int>(limits_.seconds) + 1);
  char* const arguments[] = {name.data(), memory.data(), seconds.data(), nullptr};
  pid_t process = 0;
  const int error = posix_spawn(&process, name.c_str(), &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (error != 0) {
    close(ends[0]);
    fail<IoError>("{}: cannot be started: {}", name, std::strerror(error));
  }
  socket_ = ends[0];
  process_ = process;
}

void Checker::stop() {
  if (socket_ < 0) return;
  close(socket_);
  socket_ = -1;
  kill(process_, SIGKILL);
  while (waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

// One line there, one line back, within the limit. false: the program is of no more use.
bool Checker::exchange(const std::string& request, std::string& reply) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(limits_.seconds);
  const auto wait = [&](short events) {
    for (;;) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
      if (left <= 0) return false;
      pollfd entry{socket_, events, 0};
      const int ready = poll(&entry, 1, static_cast<int>(left));
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) return false;
    }
  };
  for (std::size_t sent = 0; sent < request.size();) {
    if (!wait(POLLOUT)) return false;
    const ssize_t n = send(socket_, request.data() + sent, request.size() - sent,
                           MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EINTR && errno != EAGAIN) return false;
    if (n > 0) sent += static_cast<std::size_t>(n);
  }
  reply.clear();
  while (!reply.ends_with('\n')) {
    if (!wait(POLLIN)) return false;
    char buffer[4096];
    const ssize_t n = recv(socket_, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) return false;
    if (n > 0) reply.append(buffer, static_cast<std::size_t>(n));
    if (reply.size() > sizeof buffer) return false;
  }
  return true;
}

Checker::Outcome Checker::compare(std::string_view prediction, std::string_view answer) {
  const std::lock_guard lock(mutex_);
  if (socket_ < 0) start();
  const Json request{{"prediction", prediction}, {"answer", answer}};
  std::string reply;
  // A broken byte must not end the exchange: it is replaced, in both texts alike.
  const std::string line = request.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
  if (exchange(line, reply)) {
    if (reply == "{\"equal\":true}\n") return Outcome::equal;
    if (reply == "{\"equal\":false}\n") return Outcome::different;
  }
  stop();
  ++stopped_;
  return Outcome::stopped;
}

void use_checker(const std::filesystem::path& program) {
  shared_checker = program.empty() ? nullptr : std::make_unique<Checker>(program);
}

bool use_installed_checker() {
  static const bool found = [] {
    std::error_code code;
    const auto program =
        std::filesystem::read_symlink("/proc/self/exe", code).parent_path() / "vecinfer-math";
    if (access(program.c_str(), X_OK) != 0) return false;
    use_checker(program);
    return true;
  }();
  return found;
}

std::string comparison() { return shared_checker ? "symbolic" : "numeric"; }

std::int64_t stopped_pairs() { return shared_checker ? shared_checker->stopped() : 0; }

bool answers_equal(std::string_view prediction, std::string_view answer) {
  if (!shared_checker || std::max(prediction.size(), answer.size()) > kLongestAnswer)
    return equal(prediction, answer);
  return shared_checker->compare(prediction, answer) == Checker::Outcome::equal;
}

}  // namespace vi::eval::math
