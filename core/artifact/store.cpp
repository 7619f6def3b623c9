#include "core/artifact/store.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "core/artifact/store_impl.h"
#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/hash.h"
#include "core/common/interrupt.h"

namespace vi::artifact {
namespace fs = std::filesystem;
namespace {

// The hash of a file, remembered in this process as long as the file looks the same.
std::string remembered_hash(const fs::path& path) {
  using Look = std::tuple<dev_t, ino_t, off_t, std::int64_t, std::int64_t>;
  static std::mutex mutex;
  static std::map<std::string, std::pair<Look, std::string>> known;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0)
    fail<ContractError>("{}: cannot be read: {}", path.string(), std::strerror(errno));
  const auto nanoseconds = [](const timespec& t) {
    return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
  };
  const Look look{status.st_dev, status.st_ino, status.st_size, nanoseconds(status.st_mtim),
                  nanoseconds(status.st_ctim)};
  {
    const std::lock_guard lock(mutex);
    const auto found = known.find(path.string());
    if (found != known.end() && found->second.first == look) return found->second.second;
  }
  std::string hash = sha256_file(path);
  const std::lock_guard lock(mutex);
  known[path.string()] = {look, hash};
  return hash;
}

std::string hash_or_nothing(const fs::path& path) {
  try {
    return sha256_file(path);
  } catch (const ContractError&) {
    return "";
  }
}

bool is_key_folder(const std::string& name) {
  return name.size() == 16 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::vector<std::string> folders_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code code;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code))
    if (it->is_directory(code)) names.push_back(it->path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// The whole artifact in `folder`, or why there is none. Sizes only.
std::optional<Artifact> whole(const fs::path& folder, std::string* problem = nullptr) {
  try {
    Manifest manifest = Manifest::read(folder);
    for (const auto& [file, output] : manifest.outputs) {
      std::error_code code;
      const auto bytes = fs::file_size(folder / file, code);
      if (code || static_cast<std::int64_t>(bytes) != output.bytes)
        fail<ContractError>("{}: expected {} bytes", (folder / file).string(), output.bytes);
    }
    if (!folder.filename().string().starts_with(manifest.stage.folder()) ||
        folder.parent_path().filename() != manifest.stage.stage)
      fail<ContractError>("{}: expected the artifact {}/{} here", folder.string(),
                          manifest.stage.stage, manifest.stage.folder());
    return Artifact(folder, std::move(manifest));
  } catch (const ContractError& error) {
    if (problem) *problem = error.what();
    return std::nullopt;
  }
}

using Flat = std::vector<std::pair<std::string, std::string>>;

void flatten(const Json& json, const std::string& name, Flat& flat) {
  if (!json.is_structured() || json.empty()) {
    flat.emplace_back(name, json.dump());
    return;
  }
  for (const auto& [key, value] : json.items())
    flatten(value, json.is_array() ? fmt::format("{}[{}]", name, key) : name + "." + key, flat);
}

Flat flatten(const StageKey& key) {
  Flat flat{{"version", std::to_string(key.version)}};
  if (!key.fields.empty()) flatten(key.fields, "fields", flat);
  for (const auto& [name, hash] : key.inputs) flat.emplace_back("inputs." + name, hash);
  return flat;
}

const std::string* value_of(const Flat& flat, const std::string& name) {
  for (const auto& [key, value] : flat)
    if (key == name) return &value;
  return nullptr;
}

Miss compare(const Flat& wanted, const Flat& found) {
  Miss miss;
  const auto note = [&](const std::string& name, const std::string* ours,
                        const std::string* theirs) {
    if (ours && theirs && *ours == *theirs) return;
    if (miss.differences++ > 0) return;
    miss.field = name;
    miss.wanted = ours ? *ours : "";
    miss.found = theirs ? *theirs : "";
  };
  for (const auto& [name, value] : wanted) note(name, &value, value_of(found, name));
  for (const auto& [name, value] : found)
    if (!value_of(wanted, name)) note(name, nullptr, &value);
  return miss;
}

}  // namespace

Artifact::Artifact(fs::path folder, Manifest manifest)
    : folder_(std::move(folder)), manifest_(std::move(manifest)) {}

fs::path Artifact::checked(const std::string& file) const {
  const auto found = manifest_.outputs.find(file);
  if (found == manifest_.outputs.end())
    fail<ContractError>("{}: the artifact has no file '{}'", folder_.string(), file);
  const fs::path path = folder_ / file;
  const std::string hash = remembered_hash(path);
  if (hash != found->second.sha256)
    fail<ContractError>("{}: expected SHA-256 {} of the manifest, found {}", path.string(),
                        found->second.sha256, hash);
  return path;
}

Store::Store(fs::path folder) : folder_(std::move(folder)) {}

std::optional<Artifact> Store::find(const StageKey& key) const {
  const fs::path folder = folder_ / key.stage / key.folder();
  std::error_code code;
  if (!fs::exists(folder, code)) return std::nullopt;
  std::optional<Artifact> artifact = whole(folder);
  if (!artifact || artifact->manifest().stage.key() != key.key()) return std::nullopt;
  const fs::path partial = folder.string() + ".partial";  // a kill just after the rename leaves it
  if (fs::exists(partial, code)) PartialFolder::sweep(partial);
  return artifact;
}

std::optional<Pending> Store::begin(const StageKey& key, const BeginOptions& options) {
  VI_CHECK(!key.stage.empty() && key.stage.find('/') == std::string::npos,
           "'{}' is not the name of a stage", key.stage);
  const fs::path final_folder = folder_ / key.stage / key.folder();
  const fs::path folder = final_folder.string() + ".partial";
  std::optional<PartialFolder> partial;
  for (bool told = false; !(partial = PartialFolder::try_lock(folder));) {
    if (!options.wait)
      fail<Error>("{}: another process is making this artifact", final_folder.string());
    if (!told && options.on_wait) options.on_wait();
    told = true;
    check_interrupt();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (!options.force && find(key)) {
    partial->remove();
    return std::nullopt;
  }
  clear_folder(partial->folder(), options.force
                                      ? std::vector<std::string>{"lock"}
                                      : std::vector<std::string>{"lock", "out", "checkpoints"});
  clear_folder(partial->out(), options.keep);
  for (const fs::path& part : {partial->out(), partial->checkpoints()}) {
    std::error_code code;
    fs::create_directories(part, code);
    if (code) fail<IoError>("{}: cannot be made: {}", part.string(), code.message());
  }
  return Pending(std::unique_ptr<Pending::Impl>(
      new Pending::Impl{key, final_folder, std::move(*partial), false}));
}

Artifact Store::make(const StageKey& key, const BeginOptions& options,
                     const std::function<std::vector<std::string>(Pending&)>& make) {
  for (;;) {
    if (!options.force)
      if (std::optional<Artifact> artifact = find(key)) return *artifact;
    std::optional<Pending> pending = begin(key, options);
    if (!pending) continue;
    return pending->publish(make(*pending));
  }
}

std::vector<std::string> Store::stages() const { return folders_in(folder_); }

std::vector<Artifact> Store::list(const std::string& stage) const {
  std::vector<Artifact> artifacts;
  for (const std::string& name : folders_in(folder_ / stage))
    if (is_key_folder(name))
      if (std::optional<Artifact> artifact = whole(folder_ / stage / name))
        artifacts.push_back(std::move(*artifact));
  return artifacts;
}

Miss Store::explain_miss(const StageKey& key) const {
  const Flat wanted = flatten(key);
  Miss nearest;
  for (const Artifact& artifact : list(key.stage)) {
    Miss miss = compare(wanted, flatten(artifact.manifest().stage));
    if (!nearest.nearest.empty() && miss.differences >= nearest.differences) continue;
    miss.nearest = artifact.manifest().stage.key();
    nearest = std::move(miss);
  }
  return nearest;
}

std::string Miss::text() const {
  if (nearest.empty()) return "no artifact of this stage yet";
  if (differences == 0) return fmt::format("{} has the same key", nearest.substr(0, 16));
  std::string line =
      fmt::format("nearest {}: {} is {}, wanted {}", nearest.substr(0, 16), field,
                  found.empty() ? "absent" : found, wanted.empty() ? "absent" : wanted);
  if (differences > 1) line += fmt::format(" (and {} more)", differences - 1);
  return line;
}

std::vector<VerifyLine> Store::verify(
    const std::function<void(const std::string&)>& progress) const {
  std::vector<VerifyLine> lines;
  for (const std::string& stage : stages())
    for (const std::string& name : folders_in(folder_ / stage)) {
      if (!is_key_folder(name)) continue;
      VerifyLine line{stage + "/" + name, ""};
      if (progress) progress(line.artifact);
      const fs::path folder = folder_ / stage / name;
      if (const std::optional<Artifact> artifact = whole(folder, &line.problem)) {
        const auto& outputs = artifact->manifest().outputs;
        for (const auto& [file, output] : outputs) {
          if (line.problem.empty() && hash_or_nothing(folder / file) != output.sha256)
            line.problem = fmt::format("{}: its bytes are not those of the manifest",
                                       (folder / file).string());
        }
        for (const auto& entry : fs::directory_iterator(folder)) {
          const std::string file = entry.path().filename().string();
          if (line.problem.empty() && file != kManifestName && !outputs.contains(file))
            line.problem = fmt::format("{}: is not in the manifest", entry.path().string());
        }
      }
      lines.push_back(std::move(line));
    }
  return lines;
}

}  // namespace vi::artifact
