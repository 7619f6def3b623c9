#include "pipeline/data/sources.h"

#include <algorithm>
#include <set>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/hash.h"
#include "core/common/interrupt.h"
#include "core/common/json.h"
#include "pipeline/data/unzip.h"

namespace vi::data {
namespace fs = std::filesystem;
using config::config_fail;

namespace {

void check_file(const config::Mark& mark, const std::string& file, const std::optional<std::string>& sha256,
                const std::optional<std::int64_t>& bytes) {
  const fs::path path(file);
  if (file.empty()) config_fail(mark, "file: expected a path under the data folder");
  if (path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end())
    config_fail(mark, "file: '{}' leaves the data folder", file);
  if (sha256 && (sha256->size() != 64 || sha256->find_first_not_of("0123456789abcdef") != std::string::npos))
    config_fail(mark, "sha256: expected 64 hexadecimal digits or null, found '{}'", *sha256);
  if (bytes && *bytes < 0) config_fail(mark, "bytes: expected 0 or more, found {}", *bytes);
}

// "" if the file is what the list says.
std::string complaint(const DataFile& wanted, const fs::path& path) {
  if (wanted.bytes && static_cast<std::int64_t>(fs::file_size(path)) != *wanted.bytes)
    return fmt::format("{}: has {} bytes, expected {}", path.string(), fs::file_size(path), *wanted.bytes);
  if (wanted.sha256)
    if (const std::string sum = sha256_file(path); sum != *wanted.sha256)
      return fmt::format("{}: has sha256 {}, expected {}", path.string(), sum, *wanted.sha256);
  return "";
}

// The checksum of a file whose own is not in the list: the first one seen is the one that holds.
void record(const DataFile& file, const std::string& from, const fs::path& folder, Progress& progress) {
  if (file.sha256) return;
  const fs::path path = folder / file.file, list = folder / "recorded.jsonl";
  const std::string sum = sha256_file(path);
  bool known = false;
  if (fs::exists(list))
    for_each_json_line(list, [&](std::int64_t line, const Json& json) {
      if (json.value("file", "") != file.file) return;
      known = true;
      if (json.value("sha256", "") == sum) return;
      std::error_code code;
      fs::remove(path, code);  // else the next look would take it for good
      fail<ContractError>("{}: has sha256 {}, but {}:{} recorded {} for it; the new file is not kept, delete that line if it is right",
                          path.string(), sum, list.string(), line, json.value("sha256", ""));
    });
  if (known) return;
  LineAppender(list).append(Json{{"file", file.file}, {"sha256", sum}, {"bytes", fs::file_size(path)}, {"from", from}}.dump());
  progress.note(fmt::format("{}: no checksum is known for it; recorded that of this first copy, sha256 {}", file.file, sum));
}

// The first of the places where a person may have put it.
std::optional<fs::path> find_local(const fs::path& local, const std::string& file) {
  const fs::path path(file), name = path.filename();
  std::vector<fs::path> places{local / path, local / name};
  if (path.has_parent_path()) places.push_back(local / path.parent_path() / "e" / name);
  places.push_back(local / "e" / name);
  places.push_back(local / "data" / name);
  for (const fs::path& place : places) {
    std::error_code code;
    if (fs::is_regular_file(place, code)) return place;
  }
  return std::nullopt;
}

// Whole or not at all; the copy is checked, not the original.
void copy_checked(const fs::path& from, const DataFile& wanted, const fs::path& folder) {
  const fs::path to = folder / wanted.file, partial = to.string() + ".partial";
  fs::create_directories(to.parent_path());
  std::error_code code;
  fs::copy_file(from, partial, fs::copy_options::overwrite_existing, code);
  if (code) fail<IoError>("{}: cannot be copied from {}: {}", partial.string(), from.string(), code.message());
  std::string wrong = complaint(wanted, partial);
  if (!wrong.empty()) {
    fs::remove(partial, code);
    fail<ContractError>("{}{}", from.string(), wrong.substr(partial.string().size()));
  }
  fs::rename(partial, to);
  fsync_directory(to.parent_path());
}

std::string fetch_local(const Source& source, const fs::path& folder, const fs::path& local) {
  const std::vector<DataFile> files = source.files();
  std::vector<std::string> missing;
  std::size_t copied = 0, unknown = 0;
  for (const DataFile& file : files) {
    check_interrupt();
    if (const auto found = find_local(local, file.file)) {
      copy_checked(*found, file, folder);
      unknown += !file.sha256;
      ++copied;
    } else {
      missing.push_back(fs::path(file.file).filename().string());
    }
  }
  if (copied == 0 && !source.unzip.empty())
    if (const auto archive = find_local(local, source.file)) {
      if (const std::string wrong = complaint({source.file, source.sha256, source.bytes}, *archive); !wrong.empty())
        fail<ContractError>("{}", wrong);
      unzip(*archive, files, folder);
      return fmt::format("{}: {} files out of {}", source.name, files.size(), archive->string());
    }
  if (copied == 0)
    fail<ContractError>("{}: {} holds none of its files; looked for {}{}", source.name, local.string(), files.front().file,
                        files.size() > 1 ? fmt::format(" and {} others", files.size() - 1) : "");
  std::string text = fmt::format("{}: {} of {} files copied from {}", source.name, copied, files.size(), local.string());
  if (!missing.empty()) {
    text += "; not there:";
    for (const std::string& name : missing) text += " " + name;
  }
  if (unknown > 0) text += fmt::format("; {} taken as they are, no checksum is known", unknown);
  return text;
}

}  // namespace

void DataFile::check(const config::Mark& mark) const { check_file(mark, file, sha256, bytes); }

void Source::check(const config::Mark& mark) const {
  if (name.empty()) config_fail(mark, "name: expected a text");
  check_file(mark, file, sha256, bytes);
  if (licence.empty()) config_fail(mark, "licence: of '{}' is missing", name);
  if (url.empty() == made_by.empty()) config_fail(mark, "'{}' needs either 'url' or 'made_by'", name);
  if (!url.empty() && !url.starts_with("http://") && !url.starts_with("https://"))
    config_fail(mark, "url: expected http or https, found '{}'", url);
  const bool known = sha256 && bytes && std::all_of(unzip.begin(), unzip.end(), [](const DataFile& f) { return f.sha256 && f.bytes; });
  if (!known && unknown.empty()) config_fail(mark, "'{}' has a sha256 or size that is null: 'unknown' must say why", name);
}

void SourceList::check(const config::Mark& mark) const {
  std::set<std::string> names;
  for (const Source& source : sources)
    if (!names.insert(source.name).second) config_fail(mark, "sources: '{}' is listed twice", source.name);
}

std::vector<DataFile> Source::files() const {
  return unzip.empty() ? std::vector<DataFile>{{file, sha256, bytes}} : unzip;
}

std::vector<Source> read_sources(const fs::path& yaml) {
  SourceList list;
  config::read(config::parse_yaml_file(yaml), list);
  return list.sources;
}

Presence look(const Source& source, const fs::path& folder, std::string* what) {
  for (const DataFile& file : source.files()) {
    const fs::path path = folder / file.file;
    std::error_code code;
    if (!fs::is_regular_file(path, code)) {
      if (what) *what = path.string() + " is not there";
      return Presence::missing;
    }
    if (const std::string wrong = complaint(file, path); !wrong.empty()) {
      if (what) *what = wrong;
      return Presence::damaged;
    }
  }
  return Presence::there;
}

std::string fetch(const Source& source, const fs::path& folder, const FetchOptions& options, Progress& progress) {
  if (!options.local.empty()) return fetch_local(source, folder, options.local);
  if (source.url.empty()) fail("{}: is not downloaded; {} puts it there", source.name, source.made_by);
  const Download wanted{source.url, folder / source.file, source.sha256.value_or(""), source.bytes};
  const Downloaded got = download(wanted, options.download, progress);
  std::string text = fmt::format("{}: {} bytes, sha256 {}", source.name, got.bytes, got.sha256);
  if (got.resumed_from > 0) text += fmt::format(", continued at byte {}", got.resumed_from);
  record({source.file, source.sha256, source.bytes}, source.url, folder, progress);
  if (!source.unzip.empty()) {
    unzip(folder / source.file, source.unzip, folder);
    for (const DataFile& file : source.unzip) record(file, source.url, folder, progress);
    text += fmt::format(", {} files unpacked", source.unzip.size());
    std::error_code code;
    fs::remove(folder / source.file, code);  // its files are there and checked
  }
  return text;
}

}  // namespace vi::data
