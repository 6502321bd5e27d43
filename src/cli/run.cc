// driftwood run, driftwood actor run: a newborn actor.
#include <optional>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/talk_options.h"
#include "cli/weights_option.h"
#include "file/mapped_file.h"
#include "node/builtin.h"

namespace driftwood::cli {
namespace {

constexpr size_t kMaxGuestBytes = 256u << 20;

Result<std::vector<uint8_t>> read_guest(const std::string& path) {
    DW_ASSIGN(const auto file, file::MappedFile::open(path));
    const auto bytes = file.bytes();
    if (bytes.size() > kMaxGuestBytes) return error(ErrorCode::kLimit, "[actor run] " + path + ": larger than 256 MiB");
    return std::vector<uint8_t>(bytes.begin(), bytes.end());
}

struct RunOptions {
    TalkOptions talk;
    std::string guest;  // empty: the built-in chat actor
    std::optional<std::string> prompt;
    std::string system;
    std::string temperature, top_p, top_k, max_tokens, seed;
    std::vector<std::string> args;
    std::vector<std::string> environment;
};

wasm::WasiOptions wasi_of(const RunOptions& options) {
    wasm::WasiOptions wasi;
    wasi.args = {options.guest.empty() ? "chat" : options.guest};
    wasi.args.insert(wasi.args.end(), options.args.begin(), options.args.end());
    wasi.environment = options.environment;
    const auto set = [&](const char* name, const std::string& value) {
        if (!value.empty()) wasi.environment.push_back(std::string(name) + "=" + value);
    };
    set("SYSTEM", options.system);
    set("TEMPERATURE", options.temperature);
    set("TOP_P", options.top_p);
    set("TOP_K", options.top_k);
    set("MAX_TOKENS", options.max_tokens);
    set("SEED", options.seed);
    return wasi;
}

Result<void> run(const RunOptions& options) {
    SystemClock clock;
    SystemEntropy entropy;
    std::vector<uint8_t> guest(node::chat_guest().begin(), node::chat_guest().end());
    if (!options.guest.empty()) {
        DW_ASSIGN(guest, read_guest(options.guest));
    }
    DW_ASSIGN(auto node, node::Node::create(options.talk.node, clock, entropy));
    note_weights(node->model());
    DW_ASSIGN(auto live, node->spawn(std::move(guest), wasi_of(options)));
    note_cache(*live.module);
    Conversation conversation(std::move(live));
    TalkOptions talk_options = options.talk;
    if (options.prompt) talk_options.say.insert(talk_options.say.begin(), *options.prompt);
    return talk(*node, conversation, talk_options);
}

// Not a number passes every comparison that is not asked for.
std::string check_temperature(const std::string& text) {
    double value = 0;
    const bool number = CLI::detail::lexical_cast(text, value);
    if (number && (value == 0 || (value >= 1.0 / 1024 && value <= 1000))) return {};
    return "want 0 (the likeliest token, always) or 1/1024 to 1000, got " + text;
}

void add_sampling(CLI::App& command, RunOptions& options) {
    command.add_option("--system", options.system, "System message at the beginning");
    command
        .add_option("--temperature", options.temperature,
                    "0 (default): the likeliest token, always; else 1/1024 to 1000")
        ->check(CLI::Validator(check_temperature, "NUMBER"));
    command.add_option("--top-p", options.top_p, "Sample from the likeliest tokens of this total probability")
        ->check(CLI::Range(0.0, 1.0));
    command.add_option("--top-k", options.top_k, "Sample from this many likeliest tokens")
        ->check(CLI::TypeValidator<uint32_t>("COUNT"));
    command.add_option("--max-tokens", options.max_tokens, "Longest answer (default 1024; 0: no limit)")
        ->check(CLI::TypeValidator<uint32_t>("COUNT"));
    command.add_option("--seed", options.seed, "Seed of the sampler: the same seed gives the same answers")
        ->check(CLI::TypeValidator<uint64_t>("SEED"));
}

}  // namespace

void add_run(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<RunOptions>();
    CLI::App* command = app.add_subcommand("run", "Talk with a model, through the built-in chat actor");
    command->add_option("model", options->talk.node.model, "Model file, or 'demo' for the built-in model")
        ->capture_default_str();
    command->add_option("prompt", options->prompt, "Say this and leave; without it, talk");
    options->talk.add_to(*command);
    add_sampling(*command, *options);
    command->footer(
        "Examples:\n  driftwood run\n  driftwood run demo \"Hello! I am Ada.\" --freeze ada.actor\n"
        "  driftwood run model.gguf --temperature 0.7 --seed 1");
    command->callback([options, &exit_code] {
        if (const auto done = run(*options); !done.ok()) exit_code = report(done.error(), Format::kText);
    });
}

void add_actor(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<RunOptions>();
    CLI::App* actor = app.add_subcommand("actor", "Run guests of your own");
    actor->require_subcommand(1);
    CLI::App* command = actor->add_subcommand("run", "Start an actor from a WebAssembly guest and talk with it");
    command->add_option("guest", options->guest, "Guest module (.wasm), made with an SDK")->required();
    command->add_option("--model", options->talk.node.model, "Model file, or 'demo' for the built-in model")
        ->capture_default_str();
    command->add_option("--env", options->environment, "NAME=value for the guest (may be repeated)")
        ->allow_extra_args(false);
    command->add_option("--arg", options->args, "Argument for the guest (may be repeated)")->allow_extra_args(false);
    options->talk.add_to(*command);
    add_sampling(*command, *options);
    command->footer(
        "Inside: /freeze FILE writes the actor to one file, also while it answers; /help lists the rest.\n"
        "Example:\n  driftwood actor run chat.wasm --model demo");
    command->callback([options, &exit_code] {
        if (const auto done = run(*options); !done.ok()) exit_code = report(done.error(), Format::kText);
    });
}

}  // namespace driftwood::cli
