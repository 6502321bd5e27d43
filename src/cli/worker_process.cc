#include "cli/worker_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

extern char** environ;

namespace driftwood::cli {

Result<WorkerProcess> WorkerProcess::start(const std::vector<std::string>& args, const std::string& directory) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return errno_error("demo", "pipe");
    std::vector<std::string> words = args;
    words.insert(words.begin(), "driftwood");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);

    char self[4096];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0) return errno_error("demo", "/proc/self/exe");
    self[length] = 0;

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
    pid_t pid = -1;
    errno = posix_spawn(&pid, self, &actions, nullptr, argv.data(), environ);
    const bool started = errno == 0;
    const Error failure = started ? Error{} : errno_error("demo", self);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (!started) {
        close(ends[0]);
        return failure;
    }
    return WorkerProcess(pid, ends[0]);
}

WorkerProcess::WorkerProcess(WorkerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), out_(std::exchange(other.out_, -1)), buffer_(std::move(other.buffer_)) {}

WorkerProcess::~WorkerProcess() {
    if (out_ >= 0) close(out_);
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
}

Result<Json> WorkerProcess::read() {
    for (;;) {
        if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
            Json json = Json::parse(buffer_.substr(0, end), nullptr, false);
            buffer_.erase(0, end + 1);
            if (json.is_discarded()) return error(ErrorCode::kInternal, "[demo] a worker reported no JSON");
            return json;
        }
        char chunk[4096];
        const ssize_t got = ::read(out_, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return error(ErrorCode::kInternal, "[demo] a worker ended early: its message is above");
        buffer_.append(chunk, static_cast<size_t>(got));
    }
}

Result<void> WorkerProcess::kill() {
    int status = 0;
    if (::kill(pid_, SIGKILL) != 0) return errno_error("demo", "kill");
    if (waitpid(std::exchange(pid_, -1), &status, 0) < 0) return errno_error("demo", "waitpid");
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return {};
    return error(ErrorCode::kInternal, "[demo] the worker ended before it was killed");
}

Result<void> WorkerProcess::wait() {
    int status = 0;
    if (waitpid(std::exchange(pid_, -1), &status, 0) < 0) return errno_error("demo", "waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    return error(ErrorCode::kInternal, "[demo] a worker failed: its message is above");
}

}  // namespace driftwood::cli
