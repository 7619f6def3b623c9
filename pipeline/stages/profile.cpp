// profile: decode attention on packed codes against libtorch's on a dense cache -> timings.jsonl. The one
// stage whose bytes differ from run to run; its key names the machine.
#include "core/common/file.h"
#include "eval/efficiency/cpu_kernels.h"
#include "eval/gpu_backend.h"
#include "pipeline/session.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {

std::vector<std::string> run_profile(StageContext& context) {
  if (context.session.device() == Device::cuda) {
    std::string rows;
    for (Json row : eval::gpu_backend().profile(context.session.plan().experiment.profile.kv_lens, context.progress)) {
      if (row.contains("contender")) row["name"] = row["contender"];
      rows += row.dump() + "\n";
    }
    write_file_atomic(context.pending.path("timings.jsonl"), rows);
    return {"timings.jsonl"};
  }
  eval::CpuKernelBench settings;
  settings.kv_lens = context.session.plan().experiment.profile.kv_lens;
  settings.repeats = 9;
  std::string lines;
  for (Json row : eval::cpu_kernel_bench(settings, context.progress)) {
    if (row.contains("contender")) row["name"] = row["contender"];
    lines += row.dump() + "\n";
  }
  write_file_atomic(context.pending.path("timings.jsonl"), lines);
  return {"timings.jsonl"};
}

}  // namespace vi::pipeline
