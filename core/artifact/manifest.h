// What identifies an artifact (its key) and what it holds (its manifest). Neither ever names a
// path, a date, a host or a duration: the same run gives the same bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "core/common/json.h"

namespace vi::artifact {

inline constexpr std::string_view kManifestName = "manifest.json";

// key() = sha256 of the canonical JSON {"fields","inputs","stage","version"}.
struct StageKey {
  std::string stage;                          // "dump"
  int version = 1;                            // the stage's, raised when its bytes change
  Json fields = Json::object();               // the configuration keys the stage declares
  std::map<std::string, std::string> inputs;  // name -> content hash (sha256)
  std::string key() const;                    // 64 hex digits
  std::string folder() const { return key().substr(0, 16); }
};

struct OutputFile {
  std::string sha256;
  std::int64_t bytes = 0;
};

struct Manifest {
  StageKey stage;
  std::map<std::string, OutputFile> outputs;  // file name -> hash

  // sha256 of the canonical JSON {file: sha256}: what later stages name as their input.
  std::string content_hash() const;
  std::string text() const;  // the bytes of manifest.json
  // ContractError at anything missing, of the wrong type, a file name that leaves the folder, or a
  // key that is not that of its own fields.
  static Manifest parse(std::string_view text, std::string_view place);
  static Manifest read(const std::filesystem::path& folder);
};

}  // namespace vi::artifact
