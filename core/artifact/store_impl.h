// What store.cpp and pending.cpp share. Internal to core/artifact.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/artifact/store.h"
#include "core/artifact/store_lock.h"

namespace vi::artifact {

struct Pending::Impl {
  StageKey key;
  std::filesystem::path final_folder;
  PartialFolder partial;
  bool published = false;
};

// Removes everything in `folder` but the names in `keep`. IoError.
void clear_folder(const std::filesystem::path& folder, const std::vector<std::string>& keep);

}  // namespace vi::artifact
