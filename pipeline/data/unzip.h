// Files out of a zip archive, by Info-ZIP's `unzip` (a package of `make setup`).
#pragma once

#include <filesystem>
#include <vector>

namespace vi::data {

struct DataFile;

// Takes each of `files` (found in the archive by its last name, in whatever folder) to
// folder/<file.file>, checks size and checksum and publishes all of them at the end. ContractError
// if the archive is damaged or lacks one; nothing is left then.
void unzip(const std::filesystem::path& archive, const std::vector<DataFile>& files, const std::filesystem::path& folder);

}  // namespace vi::data
