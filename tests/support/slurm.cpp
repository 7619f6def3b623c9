#include "tests/support/slurm.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <random>
#include <thread>

namespace vi::test {
namespace fs = std::filesystem;
namespace {

bool installed(const std::string& program) {
  for (const char* folder : {"/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"})
    if (::access((folder + program).c_str(), X_OK) == 0) return true;
  return false;
}

int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  int port = 0;
  if (fd >= 0 && ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0)
    port = ntohs(address.sin_port);
  if (fd >= 0) ::close(fd);
  return port;
}

bool wait_for(const std::string& command) {
  for (int i = 0; i < 100; ++i) {
    if (std::system((command + " >/dev/null 2>&1").c_str()) == 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

}  // namespace

Slurm::Slurm() { start(); }

void Slurm::launch(const std::vector<std::string>& words) {
  std::vector<std::string> copy = words;
  std::vector<char*> argv;
  for (std::string& word : copy) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string log = (scratch_.path() / "daemons.log").string();
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  daemons_.push_back(child);
}

void Slurm::start() {
  for (const char* program : {"munged", "slurmctld", "slurmd", "sbatch", "squeue"})
    if (!installed(program)) {
      problem_ = std::string(program) + " is not installed (apt-get install slurmctld slurmd slurm-client munge)";
      return;
    }
  const fs::path folder = scratch_.path();
  fs::permissions(folder, fs::perms::owner_all | fs::perms::group_exec | fs::perms::others_exec);  // munged refuses laxer ones
  for (const char* name : {"state", "spool"}) fs::create_directories(folder / name);
  std::random_device random;
  {
    std::ofstream key(folder / "munge.key", std::ios::binary);
    for (int i = 0; i < 1024; ++i) key.put(static_cast<char>(random()));
  }
  fs::permissions(folder / "munge.key", fs::perms::owner_read);
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  std::string name(host);
  name = name.substr(0, name.find('.'));
  const passwd* user = ::getpwuid(::getuid());
  const std::string me = user ? user->pw_name : "root", at = folder.string();
  std::ofstream(folder / "slurm.conf")
      << "ClusterName=test\nSlurmctldHost=" << name << "(127.0.0.1)\nAuthType=auth/munge\nCredType=cred/munge\nAuthInfo=socket=" << at << "/munge.sock\n"
      << "SlurmUser=" << me << "\nSlurmdUser=" << me << "\nSlurmctldPort=" << free_port() << "\nSlurmdPort=" << free_port() << "\n"
      << "StateSaveLocation=" << at << "/state\nSlurmdSpoolDir=" << at << "/spool\nSlurmctldPidFile=" << at << "/slurmctld.pid\n"
      << "SlurmdPidFile=" << at << "/slurmd.pid\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\n"
      << "SelectTypeParameters=CR_Core\nSwitchType=switch/none\nMpiDefault=none\nReturnToService=2\nMinJobAge=5\n"
      << "SchedulerParameters=batch_sched_delay=0\nAccountingStorageType=accounting_storage/none\nJobAcctGatherType=jobacct_gather/none\n"
      << "NodeName=" << name << " NodeAddr=127.0.0.1 RealMemory=2000 CPUs=" << std::max(1U, std::thread::hardware_concurrency())
      << " State=UNKNOWN\nPartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n";
  ::setenv("SLURM_CONF", (folder / "slurm.conf").c_str(), 1);
  launch({"munged", "--foreground", "--force", "--key-file=" + at + "/munge.key", "--socket=" + at + "/munge.sock", "--pid-file=" + at + "/munged.pid",
          "--log-file=" + at + "/munged.log", "--seed-file=" + at + "/munge.seed"});
  if (!wait_for("test -S " + at + "/munge.sock")) {
    problem_ = "munged does not start here";
    return;
  }
  launch({"slurmctld", "-D", "-f", at + "/slurm.conf"});
  launch({"slurmd", "-D", "-f", at + "/slurm.conf"});
  if (!wait_for("sinfo --noheader --format=%t | grep -qx idle")) problem_ = "slurmctld and slurmd do not come up here";
}

Slurm::~Slurm() {
  for (auto daemon = daemons_.rbegin(); daemon != daemons_.rend(); ++daemon) {
    ::kill(*daemon, SIGTERM);
    int status = 0;
    for (int i = 0; i < 100 && ::waitpid(*daemon, &status, WNOHANG) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (::waitpid(*daemon, &status, WNOHANG) == 0) {
      ::kill(*daemon, SIGKILL);
      ::waitpid(*daemon, &status, 0);
    }
  }
}

}  // namespace vi::test
