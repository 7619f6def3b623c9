// data/sources.yaml: every public set with URL, licence, checksum and size, and the commands that
// bring them into the data folder: by download, or out of a folder of local files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/config/options.h"
#include "pipeline/data/download.h"

namespace vi::data {

// A file under the data folder.
struct DataFile {
  std::string file;  // relative to the data folder
  std::optional<std::string> sha256;
  std::optional<std::int64_t> bytes;
  template <class V>
  void visit(V& v) {
    v("file", file, "path under the data folder");
    v("sha256", sha256, "null: not known");
    v("bytes", bytes, "null: not known");
  }
  static DataFile from_scalar(std::string_view word) {
    DataFile f;
    f.file = word;
    return f;
  }
  void check(const config::Mark& mark) const;
};

struct Source {
  std::string name, description, url, licence;
  std::string file;  // what the URL gives, under the data folder
  std::optional<std::string> sha256;
  std::optional<std::int64_t> bytes;
  std::string unknown;           // why sha256 or bytes are null
  std::vector<DataFile> unzip;   // `file` is a zip archive that holds files of these names
  std::string made_by;           // no download of its own: what puts it there
  template <class V>
  void visit(V& v) {
    v("name", name, "what `vecinfer data NAME` takes");
    v("description", description, "one line");
    v("url", url, "http or https");
    v("licence", licence, "as the source states it");
    v("file", file, "path under the data folder");
    v("sha256", sha256, "null: not known");
    v("bytes", bytes, "null: not known");
    v("unknown", unknown, "why sha256 or bytes are null");
    v("unzip", unzip, "files that are taken out of the archive");
    v("made_by", made_by, "the command that makes it, where that is not `make data`");
  }
  void check(const config::Mark& mark) const;
  // What must lie in the data folder in the end.
  std::vector<DataFile> files() const;
};

struct SourceList {
  std::vector<Source> sources;
  template <class V>
  void visit(V& v) {
    v("sources", sources, "one entry a set");
  }
  void check(const config::Mark& mark) const;
};

std::vector<Source> read_sources(const std::filesystem::path& yaml);  // ConfigError with file:line

enum class Presence { missing, there, damaged };
// `damaged`: a file whose size or checksum is not the list's; `what` says which.
Presence look(const Source& source, const std::filesystem::path& folder, std::string* what = nullptr);

struct FetchOptions {
  DownloadOptions download;
  std::filesystem::path local;  // "": the network; else a folder that holds the files (or the archives)
};

// Brings a source's files into `folder`. Of a download whose checksum is not known, the first one's
// goes to folder/recorded.jsonl and is said through progress.note; a later, different one is a
// ContractError. Local files are the user's own choice: checked where a checksum is known, else
// taken as they are. Returns one line that says what was done.
std::string fetch(const Source& source, const std::filesystem::path& folder, const FetchOptions& options,
                  Progress& progress);

}  // namespace vi::data
