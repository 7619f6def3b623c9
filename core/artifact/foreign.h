// HDF5 files that are not ours (no manifest vouches for them). libhdf5 1.10 can crash on a hostile
// file, so a child process with limits on memory, time and file size opens it, checks its contract
// and writes a clean copy through our own writer; this process opens only the copy.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/artifact/contracts.h"

namespace vi::artifact {

struct ForeignOptions {
  // The command of the child: it must call foreign_child() with its last three arguments. Empty:
  // plain fork, for programs that have started no thread yet.
  std::vector<std::string> command;  // {"/proc/self/exe", "__import"}
  int seconds = 60;
  std::int64_t memory_bytes = std::int64_t{8} << 30;
};

// ContractError "file: ..." if the file breaks its contract, is too large or slow, or kills its
// reader.
void import_foreign(const std::filesystem::path& file, FileKind kind,
                    const std::filesystem::path& clean_copy, const ForeignOptions& options = {});

// The same, opened; the clean copy lies in the system's temporary folder and has no name any more.
H5File open_foreign(const std::filesystem::path& file, FileKind kind, const ForeignOptions& options = {});

// The child's half; arguments: file, kind, copy. Returns the exit status, message on stdout.
int foreign_child(const std::string& file, const std::string& kind, const std::string& copy);

// Copies what the contract names (and nothing else) from one file to a new one.
void copy_contract(const H5File& from, FileKind kind, H5File& to);

}  // namespace vi::artifact
