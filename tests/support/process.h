// Runs the vecinfer binary as a child process.
#pragma once

#include <chrono>
#include <filesystem>
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
