// A Slurm of one node, started from Debian's packages (munge, slurmctld, slurmd, slurm-client) in a scratch folder, for
// as long as the object lives.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/support/process.h"

namespace vi::test {

class Slurm {
 public:
  Slurm();  // sets SLURM_CONF of this process
  ~Slurm();
  // "" when the node takes jobs; else why there is no Slurm here.
  const std::string& problem() const { return problem_; }

 private:
  void start();
  void launch(const std::vector<std::string>& words);
  Scratch scratch_;
  std::vector<pid_t> daemons_;
  std::string problem_;
};

}  // namespace vi::test
