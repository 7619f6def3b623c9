#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/interrupt.h"
#include "pipeline/sweep/launch.h"

namespace vi::pipeline {
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
namespace {

constexpr auto kPoll = std::chrono::milliseconds(20);
constexpr auto kPatience =
    std::chrono::seconds(20);  // from SIGINT to SIGKILL: a unit of work is finished first

struct Child {
  pid_t pid;
  const SweepPoint* point;
  fs::path log;  // of this process; renamed to the point's when it ends, so that two sweeps do not
                 // mix theirs
};

pid_t start(const SweepRun& run, const SweepPoint& point, const fs::path& log, int threads) {
  std::vector<std::string> words = run.command(point.id);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string log_text = log.string(), n_threads = std::to_string(threads);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child < 0) fail<IoError>("sweep: no new process could be started");
  if (child > 0) return child;
  ::setpgid(0, 0);                     // Ctrl-C reaches the sweep, which tells its children once
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // a killed sweep leaves none behind
  if (::getppid() != parent) ::_exit(130);
  const int null = ::open("/dev/null", O_RDONLY),
            out = ::open(log_text.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (out < 0) ::_exit(126);
  ::dup2(null, 0);
  ::dup2(out, 1);
  ::dup2(out, 2);
  ::setenv("OMP_NUM_THREADS", n_threads.c_str(), 0);  // no byte depends on it
  ::setenv("OMP_WAIT_POLICY", "passive", 0);          // points share the cores: who waits must not spin
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

class Children {
 public:
  explicit Children(const SweepRun& run) : run_(run) {}
  ~Children() {  // on any way out
    for (const Child& child : running_) ::kill(child.pid, SIGINT);
    const auto until = Clock::now() + kPatience;
    while (!running_.empty() && Clock::now() < until) reap(), std::this_thread::sleep_for(kPoll);
    for (const Child& child : running_) ::kill(child.pid, SIGKILL);
    while (!running_.empty()) reap(), std::this_thread::sleep_for(kPoll);
  }

  int size() const { return static_cast<int>(running_.size()); }
  double peak_bytes() const { return peak_; }
  void add(const SweepPoint& point, int threads) {
    const fs::path log = run_.log(point).string() + fmt::format(".{}.{}", ::getpid(), started_++);
    running_.push_back({start(run_, point, log, threads), &point, log});
  }
  // Points that have ended since the last call, with their exit codes (128 + signal where they were
  // killed).
  std::vector<std::pair<const SweepPoint*, int>> reap() {
    std::vector<std::pair<const SweepPoint*, int>> ended;
    for (std::size_t i = 0; i < running_.size();) {
      int status = 0;
      rusage usage{};
      if (::wait4(running_[i].pid, &status, WNOHANG, &usage) != running_[i].pid) {
        ++i;
        continue;
      }
      peak_ = std::max(peak_, static_cast<double>(usage.ru_maxrss) * 1024);
      std::error_code code;
      fs::rename(running_[i].log, run_.log(*running_[i].point), code);
      ended.emplace_back(running_[i].point,
                         WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
      running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return ended;
  }

 private:
  const SweepRun& run_;
  std::vector<Child> running_;
  double peak_ = 0;
  int started_ = 0;
};

double gib(double bytes) { return bytes / 1073741824.0; }

}  // namespace

void run_local(const SweepRun& run, int jobs, std::int64_t budget, TerminalProgress& progress) {
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const std::vector<const SweepPoint*> todo = run.missing();
  Children children(run);
  int allowed = budget > 0 ? 1 : jobs;
  std::size_t next = 0, ended = 0;
  while (next < todo.size() || children.size() > 0) {
    check_interrupt();
    while (next < todo.size() && children.size() < allowed) {
      const SweepPoint& point = *todo[next++];
      if (run.done(point)) {  // another sweep on the same results made it meanwhile
        ++ended;
        continue;
      }
      children.add(point,
                   std::max(1, cores / std::max(1, std::min<int>(budget > 0 ? jobs : allowed,
                                                                 static_cast<int>(todo.size())))));
    }
    for (const auto& [point, code] : children.reap()) {
      ++ended;
      progress.note(fmt::format(
          "[{}/{}] {}{}", ended, todo.size(), point->text(),
          code == 0 ? "" : fmt::format(": exit code {}: {}", code, run.failure(*point))));
      if (budget <= 0) continue;
      const int fit = std::clamp(
          static_cast<int>(static_cast<double>(budget) / std::max(1.0, children.peak_bytes())), 1,
          jobs);
      if (fit != allowed)
        progress.note(fmt::format(
            "memory: a point takes up to {:.2f} GiB as measured; {} at a time in {:.2f} GiB",
            gib(children.peak_bytes()), fit, gib(static_cast<double>(budget))));
      allowed = fit;
      if (children.peak_bytes() > static_cast<double>(budget))
        progress.note(fmt::format("memory: one point alone takes {:.2f} GiB, more than the budget",
                                  gib(children.peak_bytes())));
    }
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace vi::pipeline
