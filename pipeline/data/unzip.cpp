#include "pipeline/data/unzip.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/hash.h"
#include "pipeline/data/sources.h"

extern char** environ;  // POSIX: handed on to the child

namespace vi::data {
namespace fs = std::filesystem;
namespace {

int run(std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  for (const int fd : {0, 1, 2}) ::posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
  pid_t child = 0;
  const int code = ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (code != 0) fail("unzip cannot be started: {} (Debian package: unzip)", std::strerror(code));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

struct Removed {
  fs::path folder;
  ~Removed() {
    std::error_code code;
    fs::remove_all(folder, code);
  }
};

}  // namespace

void unzip(const fs::path& archive, const std::vector<DataFile>& files, const fs::path& folder) {
  const Removed scratch{folder / (archive.filename().string() + ".unzip.partial")};
  fs::remove_all(scratch.folder);
  fs::create_directories(scratch.folder);
  // -j: folders of the archive are dropped, so no name in it can lead elsewhere.
  std::vector<std::string> words{"unzip", "-q", "-o", "-j", archive.string()};
  for (const DataFile& file : files) {
    const std::string name = fs::path(file.file).filename().string();
    words.push_back(name);
    words.push_back("*/" + name);
  }
  words.insert(words.end(), {"-d", scratch.folder.string()});
  const int code = run(words);
  // 11: a pattern matched nothing (each name is asked for in two forms).
  if (code != 0 && code != 1 && code != 11)
    fail<ContractError>("{}: is not a whole zip archive (unzip: {})", archive.string(), code);
  for (const DataFile& file : files) {
    const fs::path path = scratch.folder / fs::path(file.file).filename();
    if (!fs::is_regular_file(path))
      fail<ContractError>("{}: holds no file {}", archive.string(), path.filename().string());
    if (file.bytes && static_cast<std::int64_t>(fs::file_size(path)) != *file.bytes)
      fail<ContractError>("{}: {} in it has {} bytes, expected {}", archive.string(), path.filename().string(),
                          fs::file_size(path), *file.bytes);
    if (file.sha256)
      if (const std::string sum = sha256_file(path); sum != *file.sha256)
        fail<ContractError>("{}: {} in it has sha256 {}, expected {}", archive.string(), path.filename().string(), sum,
                            *file.sha256);
  }
  for (const DataFile& file : files) {
    const fs::path to = folder / file.file;
    fs::create_directories(to.parent_path());
    fs::rename(scratch.folder / to.filename(), to);
    fsync_directory(to.parent_path());
  }
}

}  // namespace vi::data
