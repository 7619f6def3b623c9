#include "core/artifact/store_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "core/common/error.h"

namespace vi::artifact {
namespace fs = std::filesystem;
namespace {

enum class Taken { yes, busy, again };

// Locks an open lock file, then makes sure that the name still means this file: the holder before
// may have removed it.
Taken take(int fd, const fs::path& lock) {
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return Taken::busy;
    if (errno == EINTR) return Taken::again;
    fail<IoError>("{}: cannot be locked: {}", lock.string(), std::strerror(errno));
  }
  struct stat mine {
  }, named{};
  if (::fstat(fd, &mine) != 0 || ::stat(lock.c_str(), &named) != 0) return Taken::again;
  return mine.st_ino == named.st_ino && mine.st_dev == named.st_dev ? Taken::yes : Taken::again;
}

}  // namespace

std::optional<PartialFolder> PartialFolder::try_lock(const fs::path& folder) {
  const fs::path lock = folder / "lock";
  for (;;) {
    std::error_code code;
    fs::create_directories(folder, code);
    if (code) fail<IoError>("{}: cannot be made: {}", folder.string(), code.message());
    const int fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 && errno == ENOENT) continue;  // its holder removed the folder just now
    if (fd < 0) fail<IoError>("{}: cannot be made: {}", lock.string(), std::strerror(errno));
    PartialFolder partial(folder, fd);
    switch (take(fd, lock)) {
      case Taken::yes:
        return partial;
      case Taken::busy:
        return std::nullopt;
      case Taken::again:
        break;
    }
  }
}

void PartialFolder::sweep(const fs::path& folder) noexcept {
  try {
    const fs::path lock = folder / "lock";
    const int fd = ::open(lock.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) {
      ::rmdir(folder.c_str());  // killed between making the folder and its lock
      return;
    }
    PartialFolder partial(folder, fd);
    if (take(fd, lock) == Taken::yes) partial.remove();
  } catch (const std::exception&) {  // a store that is read-only for us
  }
}

PartialFolder::PartialFolder(PartialFolder&& other) noexcept
    : folder_(std::move(other.folder_)), fd_(std::exchange(other.fd_, -1)) {}

PartialFolder& PartialFolder::operator=(PartialFolder&& other) noexcept {
  std::swap(folder_, other.folder_);
  std::swap(fd_, other.fd_);
  return *this;
}

PartialFolder::~PartialFolder() {
  if (fd_ >= 0) ::close(fd_);
}

void PartialFolder::remove() noexcept {
  std::error_code code;
  std::vector<fs::path> entries;
  for (fs::directory_iterator it(folder_, code), end; !code && it != end; it.increment(code))
    if (it->path().filename() != "lock") entries.push_back(it->path());
  for (const fs::path& entry : entries) fs::remove_all(entry, code);
  ::unlink((folder_ / "lock").c_str());
  ::rmdir(folder_.c_str());
}

}  // namespace vi::artifact
