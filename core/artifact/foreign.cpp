#include "core/artifact/foreign.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <new>

#include "core/common/error.h"
#include "core/common/interrupt.h"

#if defined(__SANITIZE_ADDRESS__)
#define VI_NO_MEMORY_LIMIT 1  // the sanitizer maps terabytes
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define VI_NO_MEMORY_LIMIT 1
#endif
#endif

namespace vi::artifact {
namespace fs = std::filesystem;
namespace {

constexpr int kBadFile = 3, kNotWritten = 1;  // exit codes of the child
constexpr std::size_t kMaxMessage = 4096;

struct Limits {
  rlim_t seconds, memory_bytes, file_bytes;
};

void set_limit(int what, rlim_t value) {
  const rlimit limit{value, value};
  ::setrlimit(static_cast<__rlimit_resource_t>(what), &limit);
}

// In the child, before exec: calls that are safe after fork only.
void confine(const Limits& limits, int message_fd) {
  ::signal(SIGXFSZ, SIG_IGN);
  ::signal(SIGINT, SIG_IGN);  // the parent decides
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_CPU, limits.seconds);
  set_limit(RLIMIT_FSIZE, limits.file_bytes);
#ifndef VI_NO_MEMORY_LIMIT
  set_limit(RLIMIT_AS, limits.memory_bytes);
#endif
  const int nothing = ::open("/dev/null", O_RDWR);
  ::dup2(nothing, 0);
  ::dup2(nothing, 2);
  ::dup2(message_fd, 1);
}

void say(std::string_view message) {
  while (!message.empty()) {
    const ssize_t n = ::write(1, message.data(), message.size());
    if (n <= 0) return;
    message.remove_prefix(static_cast<std::size_t>(n));
  }
}

// Everything the child says until it closes the pipe; false: the time is over.
bool listen(int fd, int seconds, std::string& message) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  for (;;) {
    check_interrupt();
    if (std::chrono::steady_clock::now() >= end) return false;
    pollfd poll{fd, POLLIN, 0};
    if (::poll(&poll, 1, 100) <= 0) continue;
    char buffer[512];
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n == 0) return true;
    if (n < 0 && errno != EINTR) return true;
    if (n > 0 && message.size() < kMaxMessage) message.append(buffer, static_cast<std::size_t>(n));
  }
}

template <Element T>
void copy_as(const H5File& from, H5File& to, const std::string& path, const DatasetInfo& info) {
  to.create_dataset(path, info.dtype, info.shape);
  if (info.shape.empty()) return to.write_slab<T>(path, {}, from.read<T>(path));
  std::vector<T> data;
  for (std::int64_t i = 0; i < info.shape[0]; ++i) {
    const Slab piece = slab(info.shape, 0, i, 1);
    data.resize(static_cast<std::size_t>(elements(piece.count)));
    from.read_slab<T>(path, piece, data);
    to.write_slab<T>(path, piece, data);
  }
}

void copy_dataset(const H5File& from, H5File& to, const std::string& path) {
  const DatasetInfo info = from.info(path);
  switch (info.dtype) {
    case DType::f16:
    case DType::bf16:
    case DType::u16:
      return copy_as<std::uint16_t>(from, to, path, info);
    case DType::f32:
      return copy_as<float>(from, to, path, info);
    case DType::f64:
      return copy_as<double>(from, to, path, info);
    case DType::i32:
      return copy_as<std::int32_t>(from, to, path, info);
    case DType::i64:
      return copy_as<std::int64_t>(from, to, path, info);
    case DType::u8:
      return copy_as<std::uint8_t>(from, to, path, info);
  }
}

void copy_group(const H5File& from, FileKind kind, H5File& to, const std::string& group) {
  stamp(to, kind, group);
  const Expected content = expected_content(from, kind, group);
  for (const auto& [object, rule] : content.attrs) {
    const std::string name(rule->name);
    if (!from.has_attr(object, name)) continue;
    to.create_group(object);
    switch (rule->kind) {
      case AttrKind::text:
        to.set_attr(object, name, from.attr_text(object, name));
        break;
      case AttrKind::integer:
        to.set_attr(object, name, from.attr_int(object, name));
        break;
      case AttrKind::real:
        to.set_attr(object, name, from.attr_real(object, name));
        break;
    }
  }
  for (const auto& [path, rule] : content.datasets) copy_dataset(from, to, path);
  if (kind == FileKind::codec) {
    copy_group(from, FileKind::transform, to, group + "/transform");
    copy_group(from, FileKind::codebook, to, group + "/codebook");
  }
}

}  // namespace

void copy_contract(const H5File& from, FileKind kind, H5File& to) {
  copy_group(from, kind, to, "");
}

int foreign_child(const std::string& file, const std::string& kind, const std::string& copy) {
  try {
    for (const FileRule& rule : file_rules()) {
      if (rule.name != kind) continue;
      const H5File from = H5File::open(file);
      check_contract(from, rule.kind);
      H5File to = H5File::create(copy);
      copy_contract(from, rule.kind, to);
      to.close();
      return 0;
    }
    say(fmt::format("{}: '{}' is no kind of file", file, kind));
    return kBadFile;
  } catch (const std::bad_alloc&) {
    say(fmt::format("{}: expected a file that fits into memory", file));
    return kBadFile;
  } catch (const ContractError& error) {
    say(error.what());
    return kBadFile;
  } catch (const std::exception& error) {
    say(error.what());
    return kNotWritten;
  }
}

void import_foreign(const fs::path& file, FileKind kind, const fs::path& clean_copy,
                    const ForeignOptions& options) {
  std::error_code code;
  const auto bytes = fs::file_size(file, code);
  if (code) fail<ContractError>("{}: cannot be read: {}", file.string(), code.message());
  const Limits limits{static_cast<rlim_t>(options.seconds),
                      static_cast<rlim_t>(options.memory_bytes),
                      static_cast<rlim_t>(bytes + (std::uintmax_t{64} << 20))};
  const std::string kind_name(rule_of(kind).name);
  std::vector<std::string> words = options.command;
  words.insert(words.end(), {file.string(), kind_name, clean_copy.string()});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0)
    fail<IoError>("{}: no pipe: {}", file.string(), std::strerror(errno));
  const pid_t child = ::fork();
  if (child == 0) {
    confine(limits, pipe[1]);
    if (options.command.empty()) ::_exit(foreign_child(file, kind_name, clean_copy));
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  const int fork_error = errno;
  ::close(pipe[1]);
  std::string message;
  int status = 0;
  bool in_time = true;
  const auto end_child = [&] {
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
    ::close(pipe[0]);
  };
  if (child < 0) {
    ::close(pipe[0]);
    fail<IoError>("{}: no child process: {}", file.string(), std::strerror(fork_error));
  }
  try {
    in_time = listen(pipe[0], options.seconds, message);
  } catch (...) {
    end_child();
    fs::remove(clean_copy, code);
    throw;
  }
  if (in_time) {
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    ::close(pipe[0]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  } else {
    end_child();
  }
  fs::remove(clean_copy, code);
  if (!in_time || (WIFSIGNALED(status) && (WTERMSIG(status) == SIGXCPU)))
    fail<ContractError>("{}: expected a file that is read within {} s", file.string(),
                        options.seconds);
  if (WIFSIGNALED(status))
    fail<ContractError>("{}: expected a sound HDF5 file; the HDF5 library died of it ({})",
                        file.string(), ::strsignal(WTERMSIG(status)));
  if (WEXITSTATUS(status) == kBadFile) throw ContractError(message);
  fail<IoError>("{}: cannot be imported: {}", file.string(),
                message.empty() ? fmt::format("exit code {}", WEXITSTATUS(status)) : message);
}

H5File open_foreign(const fs::path& file, FileKind kind, const ForeignOptions& options) {
  const fs::path copy = fs::temp_directory_path() / fmt::format("vecinfer-foreign-{}.h5", ::getpid());
  struct Remove {
    const fs::path& path;
    ~Remove() {
      std::error_code code;
      fs::remove(path, code);
    }
  } remove{copy};
  import_foreign(file, kind, copy, options);
  return H5File::open(copy);
}

}  // namespace vi::artifact
