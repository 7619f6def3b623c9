#include "tests/support/process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

#include "core/common/rng.h"

namespace vi::test {
namespace fs = std::filesystem;
namespace {

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

Scratch::Scratch() {
  std::string name = (fs::temp_directory_path() / "vecinfer-test-XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("no scratch folder");
  path_ = name;
}

Scratch::~Scratch() {
  std::error_code code;
  fs::remove_all(path_, code);
}

namespace {

// moment: empty, or asked every millisecond whether to send `signal`.
Finished run(const std::vector<std::string>& arguments, const fs::path& folder, const std::function<bool()>& moment, int signal) {
  const Scratch io;
  std::vector<std::string> words{VI_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string out = io.path() / "out", err = io.path() / "err", in = folder.string();
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    const int null = ::open("/dev/null", O_RDONLY);
    const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT, 0644), err_fd = ::open(err.c_str(), O_WRONLY | O_CREAT, 0644);
    ::dup2(null, 0);
    ::dup2(out_fd, 1);
    ::dup2(err_fd, 2);
    if (::chdir(in.c_str()) != 0) ::_exit(126);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  pid_t ended = 0;
  if (moment) {
    while ((ended = ::waitpid(child, &status, WNOHANG)) == 0 && !moment()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (ended == 0) ::kill(child, signal);
  }
  if (ended == 0) ::waitpid(child, &status, 0);
  Finished finished;
  finished.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  finished.out = slurp(out);
  finished.err = slurp(err);
  return finished;
}

}  // namespace

Finished run_vecinfer(const std::vector<std::string>& arguments, const fs::path& folder, std::chrono::microseconds kill_after, int signal) {
  if (kill_after.count() <= 0) return run(arguments, folder, {}, signal);
  const auto until = std::chrono::steady_clock::now() + kill_after;
  return run(arguments, folder, [until] { return std::chrono::steady_clock::now() >= until; }, signal);
}

Finished run_vecinfer_until(const std::vector<std::string>& arguments, const fs::path& folder, const std::function<bool()>& moment, int signal) {
  return run(arguments, folder, moment, signal);
}

int kill_at_random(int runs, std::chrono::microseconds took, std::uint64_t seed,
                   const std::function<Finished(int, std::chrono::microseconds)>& once, const std::function<void()>& come_through) {
  using std::chrono::microseconds;
  Rng rng(seed);
  int killed = 0;
  for (int i = 0; i < runs; ++i) {
    const microseconds after(1 + static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(took.count()))));
    const auto begun = std::chrono::steady_clock::now();
    if (once(i, after).code == 128 + SIGKILL) {
      ++killed;
      continue;
    }
    took = std::min(took, std::chrono::duration_cast<microseconds>(std::chrono::steady_clock::now() - begun));
    come_through();
  }
  return killed;
}

std::vector<std::pair<std::string, std::string>> snapshot(const fs::path& folder) {
  std::vector<std::pair<std::string, std::string>> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files.emplace_back(fs::relative(entry.path(), folder).string(), slurp(entry.path()));
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace vi::test
