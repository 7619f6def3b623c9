// Errors: exceptions only. Libraries never print and never exit; pipeline/main.cpp alone maps the kinds
// to exit codes (0 ok, 1 failure, 2 config, 3 bad input or artifact, 4 GPU, 130 interrupted).
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace vi {

// A failure of this program or a wrong call inside it. Exit code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A wrong YAML file or command line; the message starts with file:line:column. Exit code 2.
class ConfigError : public Error {
 public:
  using Error::Error;
};

// An input file or artifact that is missing, damaged or not what was expected; the message names file,
// place and expectation. Exit code 3.
class ContractError : public Error {
 public:
  using Error::Error;
};

// The operating system refused to write, map or lock (a full disk, no permission). Exit code 1.
class IoError : public Error {
 public:
  using Error::Error;
};

// No GPU, too little GPU memory, or a failed CUDA call. Exit code 4.
class CudaError : public Error {
 public:
  using Error::Error;
};

// SIGINT or SIGTERM arrived; work so far is on disk. Exit code 130.
class Interrupted : public Error {
 public:
  Interrupted() : Error("interrupted; run the same command again to resume") {}
};

template <class E = Error, class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw E(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace vi

// Caller errors, always on: VI_CHECK(n >= 0, "n is {}", n).
#define VI_CHECK(condition, ...)                                                               \
  do {                                                                                         \
    if (!(condition))                                                                          \
      throw ::vi::Error(::fmt::format("{} ({}:{}: {})", ::fmt::format(__VA_ARGS__), __FILE_NAME__, \
                                      __LINE__, #condition));                                  \
  } while (0)
