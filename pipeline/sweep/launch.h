// How the points of a sweep are run: as local processes within a memory budget, or as a Slurm job
// array. Both start `vecinfer sweep ... --point ID`; a point is done when <folder>/<id>.json is
// there (written whole, by rename), and whatever stops a sweep, the same command runs what is
// missing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "pipeline/sweep/grid.h"
#include "pipeline/terminal.h"

namespace vi::pipeline {

struct SweepRun {
  RunArguments arguments;
  SweepGrid grid;
  std::filesystem::path folder;  // <results>/runs/<experiment>/points

  std::filesystem::path file(const SweepPoint& point) const {
    return folder / (point.id + ".json");
  }
  std::filesystem::path log(const SweepPoint& point) const { return folder / (point.id + ".log"); }
  bool done(const SweepPoint& point) const;
  std::vector<const SweepPoint*> missing() const;
  std::vector<std::string> command(const std::string& id) const;  // argv of one point
  std::string failure(const SweepPoint& point) const;  // what its log ends with, one line
};

// "16G", "500M", a number of bytes; 0 for "". ConfigError.
std::int64_t parse_memory(const std::string& text);

// At most `jobs` processes. With a budget (bytes, 0: none) the first point runs alone and its
// measured peak says how many fit; the largest peak seen so far counts. Interrupted: children are
// asked to stop, then killed.
void run_local(const SweepRun& run, int jobs, std::int64_t budget, TerminalProgress& progress);

// One array of the missing points, or the array of an earlier call that is still in the queue.
// Follows it until it has left the queue; Interrupted leaves it running. `memory` and `options` go
// to sbatch.
void run_slurm(const SweepRun& run, int jobs, const std::string& memory,
               const std::vector<std::string>& options, TerminalProgress& progress);

}  // namespace vi::pipeline
