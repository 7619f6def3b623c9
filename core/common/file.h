// Files: whole reads, atomic writes (temporary, fsync, rename), appends that survive a kill, read-only maps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace vi {

// ContractError if missing or unreadable.
std::string read_file(const std::filesystem::path& path);

// Readers never see half a file: writes <path>.tmp.<pid>, fsyncs, renames. IoError (disk full, ...).
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);

// Makes a rename or a new name in `folder` durable.
void fsync_directory(const std::filesystem::path& folder);

// Append-only text with one fsync a call, for records that must survive a kill. On opening, a last
// line without '\n' (torn by a kill) is cut off.
class LineAppender {
 public:
  explicit LineAppender(const std::filesystem::path& path);
  ~LineAppender();
  LineAppender(const LineAppender&) = delete;
  LineAppender& operator=(const LineAppender&) = delete;
  void append(std::string_view line_without_newline);

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

// A read-only memory map of a whole file; an empty file maps to an empty span.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);  // ContractError
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::uint8_t> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace vi
