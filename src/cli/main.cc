// driftwood: stateful WebAssembly actors that think with an LLM.
#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <exception>

#include "cli/commands.h"

namespace {

// As many files as the system lets us have: an actor that was thawed keeps its image open, and there may be thousands.
void raise_open_file_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    static_cast<void>(setrlimit(RLIMIT_NOFILE, &limit));  // refused: what there was has to do
}

}  // namespace

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);  // a reader that went away is an error of that write, not the end of the process
    std::signal(SIGXFSZ, SIG_IGN);  // and so is a file that may not grow further
    raise_open_file_limit();
    CLI::App app{
        "Driftwood: stateful WebAssembly actors that think with an LLM. The guest's memory is shared with the compute\n"
        "device, the decoder gives the same bits everywhere, and a frozen actor is one file that is thawed by mapping.",
        "driftwood"};
    app.set_version_flag("--version", DRIFTWOOD_VERSION);
    app.require_subcommand(1);
    app.footer(
        "Begin with:\n  driftwood demo          the main job: talk, freeze in mid-sentence, kill, thaw, compare\n"
        "  driftwood run           talk with the built-in model\n"
        "  driftwood COMMAND --help");
    int exit_code = 0;
    using namespace driftwood::cli;
    add_demo(app, exit_code);
    add_run(app, exit_code);
    add_actor(app, exit_code);
    add_thaw(app, exit_code);
    add_doctor(app, exit_code);
    add_inspect(app, exit_code);
    add_chain(app, exit_code);
    add_bench(app, exit_code);
    add_load(app, exit_code);
    add_synth(app, exit_code);
    add_logits(app, exit_code);
    add_tokenize(app, exit_code);
    add_demo_worker(app, exit_code);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        const int code = app.exit(e);
        return code == 0 ? 0 : 2;
    } catch (const std::exception& e) {  // out of memory, or a library's surprise: an error, not an abort
        std::fprintf(stderr, "driftwood: [internal] %s\n", e.what());
        return 1;
    }
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        std::fprintf(stderr, "driftwood: [stdout] not all of the output could be written\n");
        return 1;
    }
    return exit_code;
}
