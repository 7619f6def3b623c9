// Slurm: sbatch, squeue and sacct or the points' own logs; nothing is linked.
#include <sys/wait.h>

#include <chrono>
#include <cstdio>
#include <optional>
#include <sstream>
#include <thread>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/interrupt.h"
#include "pipeline/sweep/launch.h"

namespace vi::pipeline {
namespace fs = std::filesystem;
namespace {

struct Said {
  int code = 0;
  std::string out;  // stdout and stderr
};

Said say(const std::string& command) {
  Said said;
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (!pipe) fail<IoError>("sweep: '{}' could not be started", command);
  char buffer[4096];
  while (std::size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) said.out.append(buffer, n);
  const int status = ::pclose(pipe);
  said.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  while (!said.out.empty() && said.out.back() == '\n') said.out.pop_back();
  return said;
}

std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n') c = ' ';
  return text;
}

std::string quoted(const std::string& word) {
  std::string out = "'";
  for (char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// Tasks of the array that have not ended: waiting and running. nullopt: the queue does not know the
// job any more.
struct Queue {
  int waiting = 0, running = 0;
};

std::optional<Queue> ask_queue(const std::string& job) {
  const Said said = say("squeue --noheader --array --jobs=" + job + " --format=%T");
  if (said.code != 0) {
    if (said.out.find("Invalid job id") != std::string::npos) return std::nullopt;
    fail<IoError>("sweep: squeue: {}", one_line(said.out));
  }
  Queue queue;
  std::istringstream lines(said.out);
  for (std::string state; std::getline(lines, state);)
    ++(state == "RUNNING" || state == "COMPLETING" ? queue.running : queue.waiting);
  if (queue.waiting + queue.running == 0) return std::nullopt;
  return queue;
}

// The script that the array runs: point i of the list is task i.
std::string script(const SweepRun& run, const std::vector<const SweepPoint*>& todo, int jobs,
                   const std::string& memory, const std::vector<std::string>& options) {
  std::string text = fmt::format(
      "#!/bin/bash\n#SBATCH --job-name={}\n#SBATCH --array=0-{}{}\n#SBATCH --output=/dev/null\n",
      quoted("vecinfer-" + run.grid.experiment), todo.size() - 1,
      jobs > 0 ? fmt::format("%{}", jobs) : "");
  if (!memory.empty()) text += "#SBATCH --mem=" + memory + "\n";
  for (const std::string& option : options) text += "#SBATCH " + option + "\n";
  text += "points=(";
  for (const SweepPoint* point : todo) text += (point == todo.front() ? "" : " ") + point->id;
  text +=
      ")\nid=${points[$SLURM_ARRAY_TASK_ID]}\nexport "
      "OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}\nexec";
  for (const std::string& word : run.command("")) text += word.empty() ? "" : " " + quoted(word);
  return text + " \"$id\" > " + quoted((run.folder / "").string()) +
         "\"$id.log\" 2>&1 < /dev/null\n";
}

}  // namespace

void run_slurm(const SweepRun& run, int jobs, const std::string& memory,
               const std::vector<std::string>& options, TerminalProgress& progress) {
  if (say("command -v sbatch").code != 0 || say("command -v squeue").code != 0)
    fail<ConfigError>(
        "--launcher slurm: sbatch and squeue are not on this machine's PATH (Debian package: "
        "slurm-client)");
  const fs::path record = run.folder / "slurm.json";
  std::string job;
  if (fs::exists(record)) {
    job = parse_json(read_file(record), record.string()).value("job", "");
    if (!job.empty() && !ask_queue(job)) job.clear();
    if (!job.empty())
      progress.note(fmt::format("job {} of an earlier call is in the queue: following it", job));
  }
  if (job.empty()) {
    const std::vector<const SweepPoint*> todo = run.missing();
    if (todo.empty()) return;
    for (const SweepPoint* point : todo) {  // an old complaint is not this job's
      std::error_code code;
      fs::remove(run.log(*point), code);
    }
    const fs::path file = run.folder / "job.sh";
    write_file_atomic(file, script(run, todo, jobs, memory, options));
    const Said said = say("sbatch --parsable " + quoted(file.string()));
    if (said.code != 0) fail("sweep: sbatch {}: {}", file.string(), one_line(said.out));
    std::istringstream lines(said.out);
    for (std::string line; std::getline(lines, line);)
      if (!line.empty() && line.find_first_not_of("0123456789") == line.find(';'))
        job = line.substr(0, line.find(';'));
    if (job.empty()) fail("sweep: sbatch gave no job number: {}", one_line(said.out));
    write_file_atomic(record, Json{{"job", job}, {"points", todo.size()}}.dump() + "\n");
    progress.note(
        fmt::format("job {}: an array of {} points ({})", job, todo.size(), file.string()));
  }
  std::string shown;
  for (auto wait = std::chrono::milliseconds(250);;
       wait = std::min(wait * 2, std::chrono::milliseconds(5000))) {
    if (interrupt_requested()) {
      progress.note(fmt::format(
          "job {} goes on; the same command follows it again, `scancel {}` ends it", job, job));
      check_interrupt();
    }
    const auto queue = ask_queue(job);
    if (!queue) return;
    const std::string now = fmt::format(
        "job {}: {} waiting, {} running, {} of {} points done", job, queue->waiting, queue->running,
        run.grid.points.size() - run.missing().size(), run.grid.points.size());
    if (now != shown) {
      progress.note(shown = now);
      wait = std::chrono::milliseconds(250);
    }
    for (auto slept = std::chrono::milliseconds(0); slept < wait && !interrupt_requested();
         slept += std::chrono::milliseconds(50))
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace vi::pipeline
