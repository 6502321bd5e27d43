// A child process of this same program that reports JSON lines on its stdout. Killed and reaped when it goes.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/output.h"

namespace driftwood::cli {

class WorkerProcess {
  public:
    // Runs /proc/self/exe with `args` in `directory`; its stderr is ours.
    static Result<WorkerProcess> start(const std::vector<std::string>& args, const std::string& directory);
    WorkerProcess(WorkerProcess&& other) noexcept;
    WorkerProcess& operator=(WorkerProcess&&) = delete;
    ~WorkerProcess();

    // The next line it reports; kInternal when it ended without one (its stderr says why).
    Result<Json> read();
    // SIGKILL; an error unless that is what ended it.
    Result<void> kill();
    // Waits for its end; an error unless it exited with 0.
    Result<void> wait();

  private:
    WorkerProcess(pid_t pid, int out) : pid_(pid), out_(out) {}
    pid_t pid_ = -1;
    int out_ = -1;
    std::string buffer_;
};

}  // namespace driftwood::cli
