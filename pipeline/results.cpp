#include "pipeline/results.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/common/error.h"
#include "core/common/file.h"

namespace vi::pipeline {

void publish_results(const std::filesystem::path& path, const std::string& experiment,
                     const std::vector<ResultRow>& rows) {
  std::filesystem::create_directories(path.parent_path());
  const std::string lock_path = path.string() + ".lock";
  const int lock = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock < 0) fail<IoError>("{}: cannot be created: {}", lock_path, std::strerror(errno));
  struct Unlock {
    int fd;
    ~Unlock() { ::close(fd); }
  } unlock{lock};
  if (::flock(lock, LOCK_EX) != 0) fail<IoError>("{}: cannot be locked: {}", lock_path, std::strerror(errno));
  std::string text;
  if (std::filesystem::exists(path))
    for_each_json_line(path, [&](std::int64_t, const Json& line) {
      if (line.value("experiment", "") != experiment) text += line.dump() + "\n";
    });
  for (const ResultRow& row : rows) text += row.line.dump() + "\n";
  write_file_atomic(path, text);
}

}  // namespace vi::pipeline
