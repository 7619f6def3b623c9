// Pending: work under way, its checkpoints, and publishing.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/artifact/store_impl.h"
#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/hash.h"

namespace vi::artifact {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kCheckpointMagic = "vecinfer checkpoint ";

fs::path checkpoint_path(const PartialFolder& partial, const std::string& name) {
  constexpr std::string_view allowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  VI_CHECK(!name.empty() && name[0] != '.' && name.find_first_not_of(allowed) == std::string::npos,
           "'{}' is not the name of a checkpoint", name);
  return partial.checkpoints() / name;
}

void sync_file(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail<IoError>("{}: cannot be opened: {}", path.string(), std::strerror(errno));
  const int status = ::fsync(fd), error = errno;
  ::close(fd);
  if (status != 0) fail<IoError>("{}: cannot be synced: {}", path.string(), std::strerror(error));
}

void rename_or_fail(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    fail<IoError>("{}: cannot be renamed to {}: {}", from.string(), to.string(),
                  std::strerror(errno));
}

}  // namespace

void clear_folder(const fs::path& folder, const std::vector<std::string>& keep) {
  std::error_code code;
  std::vector<fs::path> entries;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code))
    entries.push_back(it->path());
  for (const fs::path& entry : entries) {
    if (std::find(keep.begin(), keep.end(), entry.filename().string()) != keep.end()) continue;
    fs::remove_all(entry, code);
    if (code) fail<IoError>("{}: cannot be removed: {}", entry.string(), code.message());
  }
}

Pending::Pending(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pending::Pending(Pending&&) noexcept = default;
Pending& Pending::operator=(Pending&&) noexcept = default;
Pending::~Pending() = default;

const StageKey& Pending::key() const { return impl_->key; }

fs::path Pending::path(const std::string& file) const {
  VI_CHECK(!impl_->published, "{}: already published", impl_->final_folder.string());
  return impl_->partial.out() / file;
}

void Pending::save_checkpoint(const std::string& name, std::string_view bytes) {
  VI_CHECK(!impl_->published, "{}: already published", impl_->final_folder.string());
  std::string text(kCheckpointMagic);
  text += sha256_hex(bytes);
  text += '\n';
  text += bytes;
  write_file_atomic(checkpoint_path(impl_->partial, name), text);
}

std::optional<std::string> Pending::load_checkpoint(const std::string& name) const {
  const fs::path path = checkpoint_path(impl_->partial, name);
  std::error_code code;
  if (!fs::is_regular_file(path, code)) return std::nullopt;
  std::string text = read_file(path);
  const std::size_t header = kCheckpointMagic.size() + 64 + 1;
  if (text.size() < header || !text.starts_with(kCheckpointMagic) || text[header - 1] != '\n')
    return std::nullopt;
  const std::string bytes = text.substr(header);
  if (text.compare(kCheckpointMagic.size(), 64, sha256_hex(bytes)) != 0) return std::nullopt;
  return bytes;
}

Artifact Pending::publish(const std::vector<std::string>& files) {
  VI_CHECK(!impl_->published, "{}: already published", impl_->final_folder.string());
  const fs::path out = impl_->partial.out();
  Manifest manifest{impl_->key, {}};
  clear_folder(out, files);
  for (const std::string& file : files) {
    const fs::path path = out / file;
    std::error_code code;
    VI_CHECK(fs::is_regular_file(path, code), "{}: the stage has not written this output",
             path.string());
    sync_file(path);
    manifest.outputs[file] = {sha256_file(path), static_cast<std::int64_t>(fs::file_size(path))};
  }
  const std::string text = manifest.text();
  Manifest::parse(text, (out / kManifestName).string());  // what is written can be read
  write_file_atomic(out / kManifestName, text);
  fsync_directory(out);
  std::error_code code;
  if (fs::exists(impl_->final_folder, code))  // made again, or damaged
    rename_or_fail(impl_->final_folder, impl_->partial.folder() / "replaced");
  rename_or_fail(out, impl_->final_folder);
  fsync_directory(impl_->final_folder.parent_path());
  impl_->published = true;
  impl_->partial.remove();
  return Artifact(impl_->final_folder, std::move(manifest));
}

}  // namespace vi::artifact
