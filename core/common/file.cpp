#include "core/common/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>

#include "core/common/error.h"

namespace vi {
namespace {

[[noreturn]] void io_fail(const std::filesystem::path& path, const char* what) {
  fail<IoError>("{}: {}: {}", path.string(), what, std::strerror(errno));
}

void write_all(int fd, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) io_fail(path, "cannot be written");
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  std::error_code code;
  if (std::filesystem::is_directory(path, code))
    fail<ContractError>("{}: is a folder, expected a file", path.string());
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) fail<ContractError>("{}: cannot be read: {}", path.string(), std::strerror(errno));
  std::string text;
  char buffer[1 << 16];
  while (std::size_t n = std::fread(buffer, 1, sizeof buffer, file.get())) text.append(buffer, n);
  if (std::ferror(file.get()))
    fail<ContractError>("{}: read error: {}", path.string(), std::strerror(errno));
  return text;
}

void write_file_atomic(const std::filesystem::path& path, std::string_view bytes) {
  static std::atomic<unsigned> counter{0};  // threads may write the same file
  const std::filesystem::path temporary =
      path.string() + fmt::format(".tmp.{}.{}", ::getpid(), counter++);
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) io_fail(temporary, "cannot be created");
  try {
    write_all(fd, bytes, temporary);
    if (::fsync(fd) != 0) io_fail(temporary, "cannot be synced");
  } catch (...) {
    ::close(fd);
    ::unlink(temporary.c_str());
    throw;
  }
  if (::close(fd) != 0 && errno != EINTR) {  // some file systems report a full disk here
    const int saved = errno;
    ::unlink(temporary.c_str());
    errno = saved;
    io_fail(temporary, "cannot be written");
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int saved = errno;
    ::unlink(temporary.c_str());
    errno = saved;
    io_fail(path, "cannot be renamed into place");
  }
  fsync_directory(path.parent_path());
}

void fsync_directory(const std::filesystem::path& folder) {
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // some file systems refuse; the rename itself has happened
  ::fsync(fd);
  ::close(fd);
}

LineAppender::LineAppender(const std::filesystem::path& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) io_fail(path, "cannot be opened for appending");
  const auto refuse = [&](const char* what) {
    const int saved = errno;
    ::close(fd_);
    errno = saved;
    io_fail(path, what);
  };
  const off_t size = ::lseek(fd_, 0, SEEK_END);
  off_t end = size;
  char last = '\n';
  while (end > 0) {  // cut a torn last line
    if (::pread(fd_, &last, 1, end - 1) != 1) refuse("cannot be read back");
    if (last == '\n') break;
    --end;
  }
  if ((end != size && ::ftruncate(fd_, end) != 0) || ::lseek(fd_, end, SEEK_SET) < 0)
    refuse("cannot be cut");
  if (size == 0) fsync_directory(path.parent_path());
}

LineAppender::~LineAppender() { ::close(fd_); }

void LineAppender::append(std::string_view line) {
  std::string text(line);
  text += '\n';
  write_all(fd_, text, path_);
  if (::fdatasync(fd_) != 0) io_fail(path_, "cannot be synced");
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail<ContractError>("{}: cannot be read: {}", path.string(), std::strerror(errno));
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    fail<ContractError>("{}: is not a regular file", path.string());
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ > 0) {
    void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
      ::close(fd);
      fail<IoError>("{}: cannot be mapped: {}", path.string(), std::strerror(errno));
    }
    data_ = static_cast<const std::uint8_t*>(data);
  }
  ::close(fd);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::uint8_t*>(data_), size_);
}

}  // namespace vi
