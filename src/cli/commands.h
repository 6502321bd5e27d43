// The commands of the program. Each function adds its subcommand to `app`; when the user chose it, it runs during
// parsing and leaves its exit status in `exit_code`. Exit codes: 0 done, 1 failed (the message says why; doctor: the
// guest would not run), 2 wrong usage (CLI11).
#pragma once

#include <CLI/CLI.hpp>

namespace driftwood::cli {

void add_run(CLI::App& app, int& exit_code);
void add_actor(CLI::App& app, int& exit_code);
void add_thaw(CLI::App& app, int& exit_code);
void add_doctor(CLI::App& app, int& exit_code);
void add_inspect(CLI::App& app, int& exit_code);
void add_demo(CLI::App& app, int& exit_code);
void add_demo_worker(CLI::App& app, int& exit_code);  // hidden: one process of the demo
void add_chain(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_load(CLI::App& app, int& exit_code);
void add_synth(CLI::App& app, int& exit_code);
void add_logits(CLI::App& app, int& exit_code);
void add_tokenize(CLI::App& app, int& exit_code);

}  // namespace driftwood::cli
