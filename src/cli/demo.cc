// driftwood demo: the parent. It starts the processes, kills one, carries the image over, and compares.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/ports.h"
#include "cli/commands.h"
#include "cli/demo.h"
#include "cli/worker_process.h"
#include "node/builtin.h"

namespace driftwood::cli {
namespace {

namespace fs = std::filesystem;

struct DemoOptions {
    std::string tell = "Hello! My name is Ada and my cat is called Biscuit.";
    std::string ask = "Tell me a story, please.";
    std::string recall = "What is my cat called, and what is my name?";
    uint32_t freeze_after_tokens = 12;
    uint64_t seed = 1;
    std::string temperature = "0.6";
    std::string engine = "auto";
    uint32_t threads = 0;
    std::string keep_image;
    Format format = Format::kText;
};

// A directory of its own that goes with everything in it.
class ScratchDirectory {
  public:
    static Result<ScratchDirectory> make() {
        std::error_code failed;
        std::string path = (fs::temp_directory_path(failed) / "driftwood-demo-XXXXXX").string();
        if (failed)
            return error(ErrorCode::kIo, "[demo] the directory for temporary files (TMPDIR): " + failed.message());
        if (mkdtemp(path.data()) == nullptr) return errno_error("demo", path);
        return ScratchDirectory(path);
    }
    ScratchDirectory(ScratchDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
    ~ScratchDirectory() {
        std::error_code ignored;
        if (!path_.empty()) fs::remove_all(path_, ignored);
    }
    const std::string& path() const { return path_; }

  private:
    explicit ScratchDirectory(std::string path) : path_(std::move(path)) {}
    std::string path_;
};

class Demo {
  public:
    Demo(const DemoOptions& options, const std::string& directory)
        : options_(options), here_(directory + "/here"), elsewhere_(directory + "/elsewhere") {}

    Result<Json> run() {
        fs::create_directory(here_);
        fs::create_directory(elsewhere_);
        guest_ = here_ + "/chat.wasm";
        clock_start_ns_ = SystemClock().now_ns();
        DW_TRY(write_guest());
        DW_ASSIGN(const Json first, first_part());
        // The actor's process is dead; its guest's file goes, and the image goes to another directory.
        fs::remove(guest_);
        fs::rename(here_ + "/ada.actor", elsewhere_ + "/ada.actor");
        if (!options_.keep_image.empty()) DW_TRY(keep());
        DW_ASSIGN(const Json second,
                  part("second", elsewhere_,
                       {"--image", elsewhere_ + "/ada.actor", "--final-image", elsewhere_ + "/final.actor"}));
        DW_TRY(write_guest());
        DW_ASSIGN(const Json whole, part("whole", here_, {"--guest", guest_, "--final-image", here_ + "/final.actor"}));
        DW_ASSIGN(Comparison comparison, compare_images(elsewhere_ + "/final.actor", here_ + "/final.actor"));
        return describe(first, second, whole, comparison);
    }

  private:
    Result<void> write_guest() {
        const auto bytes = node::chat_guest();
        std::ofstream out(guest_, std::ios::binary);
        out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        out.close();
        if (!out) return errno_error("demo", guest_);
        return {};
    }

    std::vector<std::string> arguments(const std::string& part, std::vector<std::string> more) const {
        std::vector<std::string> args = {"demo-worker",    part,
                                         "--message",      options_.tell,
                                         options_.ask,     options_.recall,
                                         "--freeze-after", std::to_string(options_.freeze_after_tokens),
                                         "--seed",         std::to_string(options_.seed),
                                         "--clock-start",  std::to_string(clock_start_ns_),
                                         "--temperature",  options_.temperature,
                                         "--isa",          options_.engine,
                                         "--threads",      std::to_string(options_.threads)};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }

    Result<Json> first_part() {
        DW_ASSIGN(auto worker, WorkerProcess::start(
                                   arguments("first", {"--guest", guest_, "--image", here_ + "/ada.actor"}), here_));
        DW_ASSIGN(Json json, worker.read());
        DW_TRY(worker.kill());
        return json;
    }

    Result<Json> part(const std::string& name, const std::string& directory, std::vector<std::string> more) {
        DW_ASSIGN(auto worker, WorkerProcess::start(arguments(name, std::move(more)), directory));
        DW_ASSIGN(Json json, worker.read());
        DW_TRY(worker.wait());
        return json;
    }

    Result<void> keep() {
        std::error_code failed;
        fs::copy_file(elsewhere_ + "/ada.actor", options_.keep_image, fs::copy_options::overwrite_existing, failed);
        if (!failed) fs::permissions(options_.keep_image, fs::perms::owner_read | fs::perms::owner_write, failed);
        if (failed)
            return error(ErrorCode::kIo, "[demo] --keep-image " + options_.keep_image + ": " + failed.message());
        return {};
    }

    // What was said before the freeze and after the thaw, joined, against what was said without a break.
    Json describe(const Json& first, const Json& second, const Json& whole, Comparison& comparison) const {
        const auto before = first["answers"].get<std::vector<std::string>>();
        const auto after = second["answers"].get<std::vector<std::string>>();
        const auto unbroken = whole["answers"].get<std::vector<std::string>>();
        const auto join = [](const std::vector<std::string>& answers) {
            std::string text;
            for (const std::string& answer : answers) text += answer + "\n";
            return text;
        };
        std::vector<std::string> answers = before;
        answers.back() += after.front();
        answers.insert(answers.end(), after.begin() + 1, after.end());
        comparison.add("text", join(answers), join(unbroken));

        Json rows = Json::array();
        for (const auto& row : comparison.rows) {
            rows.push_back(
                {{"what", row.what}, {"bits_compared", row.bits_compared}, {"bits_differing", row.bits_differing}});
        }
        Json json = {{"conversation",
                      {{"tell", options_.tell},
                       {"told", before[0]},
                       {"ask", options_.ask},
                       {"before_freeze", before.back()},
                       {"after_thaw", after.front()},
                       {"recall", options_.recall},
                       {"recalled", after.size() > 1 ? after[1] : ""}}}};
        for (const char* key :
             {"image_bytes", "image_disk_bytes", "linear_memory_bytes", "kv_bytes", "tokens", "freeze_ms"}) {
            json[key] = first[key];
        }
        for (const char* key : {"imported", "mapped_ms", "guest_verified_ms", "module_compiled_ms", "module_from_cache",
                                "thaw_ms", "everything_verified_ms", "first_token_ms", "prefill_again_ms",
                                "prefill_again_tokens", "tokens_reused", "tokens_at_end"}) {
            json[key] = second[key];
        }
        json["compared"] = rows;
        json["bits_compared"] = comparison.bits_compared;
        json["bits_differing"] = comparison.bits_differing;
        return json;
    }

    const DemoOptions& options_;
    std::string here_, elsewhere_, guest_;
    int64_t clock_start_ns_ = 0;
};

void print_conversation(const Json& talk) {
    const auto text = [&](const char* key) { return printable(talk[key].get<std::string>()); };
    std::printf("  process 1   you    %s\n", text("tell").c_str());
    std::printf("              actor  %s\n", text("told").c_str());
    std::printf("              you    %s\n", text("ask").c_str());
    std::printf("              actor  %s\n", text("before_freeze").c_str());
    std::printf(
        "\n  -- frozen in mid-sentence; process 1 killed (SIGKILL); the guest's file deleted; the image moved --\n\n");
    std::printf("  process 2   actor  …%s\n", text("after_thaw").c_str());
    std::printf("              you    %s\n", text("recall").c_str());
    std::printf("              actor  %s\n\n", text("recalled").c_str());
}

void print_table(const Json& j) {
    const auto bytes = [&](const char* key) { return human_bytes(j[key].get<uint64_t>()); };
    const auto ms = [&](const char* key) { return human_ms(j[key].get<double>()); };
    const auto row = [](const char* what, const std::string& value) {
        std::printf("  %-46s %s\n", what, value.c_str());
    };
    const auto count = [&](const char* key) { return std::to_string(j[key].get<uint64_t>()); };
    row("image", bytes("image_bytes") + " (" + bytes("image_disk_bytes") + " on disk)");
    row("  of it linear memory", bytes("linear_memory_bytes"));
    row("  of it KV cache", bytes("kv_bytes") + " for " + count("tokens") + " tokens");
    row("time to freeze (durable: fsync included)", ms("freeze_ms"));
    row("time to mapped", ms("mapped_ms"));
    row("time to verified: guest and state", ms("guest_verified_ms"));
    row("time to verified: everything, KV too", ms("everything_verified_ms"));
    row(j["module_from_cache"].get<bool>() ? "time to load the guest's code (cached)" : "time to compile the guest",
        ms("module_compiled_ms"));
    row("time from thaw to first token (all of that)", ms("first_token_ms"));
    row(("time to prefill the same " + count("prefill_again_tokens") + " tokens again").c_str(),
        ms("prefill_again_ms"));
    std::printf("\n  Compared with a run that was never interrupted (same clock, same seed):\n");
    for (const Json& compared : j["compared"]) {
        std::printf("  %-32s %12llu bits %12llu differ\n", compared["what"].get<std::string>().c_str(),
                    compared["bits_compared"].get<unsigned long long>(),
                    compared["bits_differing"].get<unsigned long long>());
    }
    std::printf("\n  bits compared: %s   bits differing: %s\n", count("bits_compared").c_str(),
                count("bits_differing").c_str());
}

Result<Json> run_demo(const DemoOptions& options) {
    DW_ASSIGN(const ScratchDirectory scratch, ScratchDirectory::make());
    return Demo(options, scratch.path()).run();
}

}  // namespace

void add_demo(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<DemoOptions>();
    CLI::App* command = app.add_subcommand(
        "demo", "The main job: talk, freeze in mid-sentence, kill, thaw elsewhere, finish, compare bit by bit");
    command->add_option("--tell", options->tell, "What the actor is told first")->capture_default_str();
    command->add_option("--ask", options->ask, "What it is asked; its answer is interrupted")->capture_default_str();
    command->add_option("--recall", options->recall, "What it is asked after the thaw")->capture_default_str();
    command->add_option("--freeze-after", options->freeze_after_tokens, "Tokens of the answer before the freeze")
        ->capture_default_str()
        ->check(CLI::Range(1, 4096));
    command->add_option("--seed", options->seed, "Seed of sampler and actor")->capture_default_str();
    command->add_option("--temperature", options->temperature, "Temperature of the sampler")->capture_default_str();
    command->add_option("--isa", options->engine, "Engine: auto, reference, avx2, avx512, amx, neon, i8mm, cuda")
        ->capture_default_str();
    command->add_option("--threads", options->threads, "Threads of the engine (0: one per core)")
        ->check(CLI::Range(0, 1024));
    command->add_option("--keep-image", options->keep_image, "Keep the frozen actor in this file");
    command->add_flag_callback(
        "--json", [options] { options->format = Format::kJson; }, "Print JSON");
    command->footer("Exit code 0 only if not a single bit differs.");
    command->callback([options, &exit_code] {
        const auto shown = run_demo(*options);
        if (!shown.ok()) {
            exit_code = report(shown.error(), options->format);
            return;
        }
        if (options->format == Format::kJson) {
            print_json(*shown);
        } else {
            print_conversation((*shown)["conversation"]);
            print_table(*shown);
            if (!options->keep_image.empty())
                std::printf("  kept: %s (go on with: driftwood thaw %s)\n", options->keep_image.c_str(),
                            options->keep_image.c_str());
        }
        if ((*shown)["bits_differing"] != 0) exit_code = 1;
    });
}

}  // namespace driftwood::cli
