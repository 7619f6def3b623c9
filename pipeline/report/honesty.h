// The honesty table: every measured method at its total bits, with what was measured of it and whether a fused kernel
// exists. Made from result files only; what is not measured is "-".
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/common/json.h"

namespace vi::report {

// What a preset's kernel column says.
struct KernelFact {
  bool fused = false;       // keys and values are plain vector codes: attention runs on the packed codes
  std::string shape;        // "K-d4b8/V-d4b8 shared", as the kernel measurements name it
};

struct HonestyInput {
  struct Line {
    std::string file;  // as it is cited
    Json row;          // a line of results.jsonl; others are passed over
  };
  std::vector<Line> results;
  std::vector<Json> kernels;                   // lines of decode_attention.jsonl
  std::map<std::string, KernelFact> presets;   // other methods (renamed, cut down) are not shown
};

// Markdown, one table a model. A column shows one experiment (the one with most presets, then most windows or answers, then
// the last file), so that its cells compare; each is cited below its table. A cell of several seeds is their mean.
std::string honesty_markdown(const HonestyInput& input);

// Reads results/reference (all *.jsonl but paper/) under `root`, its kernel measurements and the presets.
HonestyInput read_honesty(const std::filesystem::path& root);

}  // namespace vi::report
