// One file over HTTP(S): resumed with Range, retried with back-off, checked, published by a rename.
// Invariant: `target` is never a part of a file or a file with the wrong checksum; what has arrived
// so far lies in `target`.partial, which the next call continues.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "core/common/progress.h"

namespace vi::data {

struct Download {
  std::string url;                    // http or https
  std::filesystem::path target;       // its folder is made
  std::string sha256 = {};            // "": not known
  std::optional<std::int64_t> bytes = {};  // not known: what the server says
};

struct DownloadOptions {
  int tries = 5;                              // connections that bring nothing new, at most
  std::chrono::milliseconds back_off{1000};   // before the second try; doubles, at most 30 s
  std::chrono::seconds connect_timeout{20};   // of one try
  std::chrono::seconds stall_timeout{60};     // without a byte: the try is given up
};

struct Downloaded {
  std::string sha256;
  std::int64_t bytes = 0;
  std::int64_t resumed_from = 0;  // bytes that an earlier call had brought
  int tries = 1;
};

// ContractError: the server has no such file, or its bytes are not the expected ones. IoError: the
// disk. Error: no connection, or too many failures. Interrupted: on SIGINT, the part is kept.
Downloaded download(const Download& wanted, const DownloadOptions& options, Progress& progress);

}  // namespace vi::data
