// Runs the vecinfer binary as a child process.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace vi::test {

struct Finished {
  int code = 0;  // exit code; 128 + signal if it was killed
  std::string out, err;
};

// arguments after the program's name; `folder`: working folder. If `kill_after` > 0, `signal` is sent then.
Finished run_vecinfer(const std::vector<std::string>& arguments, const std::filesystem::path& folder,
                      std::chrono::microseconds kill_after = {}, int signal = 9);

// The same, killed when `moment` comes: asked every millisecond.
Finished run_vecinfer_until(const std::vector<std::string>& arguments, const std::filesystem::path& folder, const std::function<bool()>& moment,
                            int signal = 9);

// Kills runs at random moments: `once(i, after)` is run i, killed `after` its begin. A run that came through is shorter than
// was thought: `come_through` then takes away what the next would find done. `took`: of a whole run. Returns how many of
// `runs` were killed.
int kill_at_random(int runs, std::chrono::microseconds took, std::uint64_t seed,
                   const std::function<Finished(int i, std::chrono::microseconds after)>& once, const std::function<void()>& come_through);

// A fresh folder under the build's scratch space, removed at the end.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Every file below `folder`: relative path -> bytes.
std::vector<std::pair<std::string, std::string>> snapshot(const std::filesystem::path& folder);

}  // namespace vi::test
