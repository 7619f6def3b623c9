// The folder of work under way, <key16>.partial/{lock,checkpoints,out}, and the right to it: an
// exclusive flock on `lock`, which the kernel drops with the process. Internal to core/artifact.
#pragma once

#include <filesystem>
#include <optional>

namespace vi::artifact {

class PartialFolder {
 public:
  // nullopt: another process holds it. IoError if it cannot be made or locked.
  static std::optional<PartialFolder> try_lock(const std::filesystem::path& folder);
  // Removes what a finished or killed process left, unless a process holds it. Never throws.
  static void sweep(const std::filesystem::path& folder) noexcept;

  PartialFolder(PartialFolder&& other) noexcept;
  PartialFolder& operator=(PartialFolder&& other) noexcept;
  ~PartialFolder();
  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path out() const { return folder_ / "out"; }
  std::filesystem::path checkpoints() const { return folder_ / "checkpoints"; }
  void remove() noexcept;  // everything, the lock last

 private:
  PartialFolder(std::filesystem::path folder, int fd) : folder_(std::move(folder)), fd_(fd) {}
  std::filesystem::path folder_;
  int fd_ = -1;
};

}  // namespace vi::artifact
