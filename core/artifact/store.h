// Content-addressed store: <store>/<stage>/<first 16 of the key>/ holds a stage's outputs and
// manifest.json. A folder appears by rename once all its bytes are on disk, so what exists is
// whole; work under way lives in <key16>.partial/{lock,checkpoints,out} and survives a kill.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/artifact/h5.h"
#include "core/artifact/manifest.h"

namespace vi::artifact {

// A published artifact.
class Artifact {
 public:
  Artifact(std::filesystem::path folder, Manifest manifest);
  const std::filesystem::path& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }
  std::string content_hash() const { return manifest_.content_hash(); }
  // The path of an output whose bytes were just compared with the manifest (once a process, as long
  // as size and times stay); ContractError if they differ or the artifact has no such file.
  std::filesystem::path checked(const std::string& file) const;
  H5File open_h5(const std::string& file) const { return H5File::open(checked(file)); }

 private:
  std::filesystem::path folder_;
  Manifest manifest_;
};

// The right to make one artifact; other processes wait. Without publish() the work so far stays for
// the next begin() of the same key.
class Pending {
 public:
  Pending(Pending&&) noexcept;
  Pending& operator=(Pending&&) noexcept;
  ~Pending();
  const StageKey& key() const;
  std::filesystem::path path(const std::string& file) const;  // where an output is written

  // Pieces of finished work that a resumed run need not repeat. Atomic and checked: a damaged one
  // is as good as none. Names of letters, digits, '_', '-' and '.'.
  bool has_checkpoint(const std::string& name) const { return load_checkpoint(name).has_value(); }
  void save_checkpoint(const std::string& name, std::string_view bytes);
  std::optional<std::string> load_checkpoint(const std::string& name) const;

  // Hashes and syncs `files` (each must exist, others are removed), writes the manifest, renames
  // the folder into place and drops the checkpoints. IoError leaves nothing published.
  Artifact publish(const std::vector<std::string>& files);

 private:
  friend class Store;
  struct Impl;
  explicit Pending(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct BeginOptions {
  bool force = false;  // make it again though it exists; earlier checkpoints are dropped
  bool wait = true;    // false: ContractError-free refusal, an Error that says who holds it
  std::vector<std::string>
      keep;  // outputs of a killed run that the stage continues (appended records)
  std::function<void()> on_wait;  // called once, before waiting for another process
};

// Why there is no artifact under a key: the nearest one of the stage, and what differs.
struct Miss {
  std::string nearest;  // its key; "" if the stage has none
  std::string field;    // the first that differs: "fields.seed", "inputs.kv_samples", "version"
  std::string wanted, found;  // as JSON; "" where one has no such field
  int differences = 0;
  std::string text() const;  // one line for people
};

struct VerifyLine {
  std::string artifact;  // "dump/0123456789abcdef"
  std::string problem;   // "" if whole
};

class Store {
 public:
  explicit Store(std::filesystem::path folder);  // made by the first begin()
  const std::filesystem::path& folder() const { return folder_; }

  // Whole artifact of that key: manifest right and file sizes as it says (not their hashes).
  std::optional<Artifact> find(const StageKey& key) const;
  // nullopt: another process has published it meanwhile, find() has it.
  std::optional<Pending> begin(const StageKey& key, const BeginOptions& options = {});
  // find, or begin + make + publish; `make` returns the files to publish.
  Artifact make(const StageKey& key, const BeginOptions& options,
                const std::function<std::vector<std::string>(Pending&)>& make);
  Miss explain_miss(const StageKey& key) const;
  std::vector<Artifact> list(const std::string& stage) const;  // whole ones, by key
  std::vector<std::string> stages() const;                     // that have a folder here
  // Hashes every file of every artifact.
  std::vector<VerifyLine> verify(
      const std::function<void(const std::string&)>& progress = {}) const;

 private:
  std::filesystem::path folder_;
};

}  // namespace vi::artifact
