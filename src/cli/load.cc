#include "cli/load.h"

#include <charconv>

#include "cli/commands.h"
#include "cli/synth_file.h"
#include "cli/talk_options.h"
#include "cli/weights_option.h"
#include "session/sampler.h"

namespace driftwood::cli {
namespace {

struct LoadCommand {
    LoadOptions load;
    std::string like;  // a synthetic model in place of a file
    std::string quant = "q4_0";
    std::string messages = "1-2", prompt = "16-128", answer = "16-64";
    uint32_t decode_tokens = 0, prompt_tokens = 0;  // 0: what the engine wants
    uint32_t wake = 0;
    uint32_t repetitions = 5;
    Format format = Format::kText;
};

Result<Span> parse_span(const char* flag, const std::string& text) {
    constexpr uint32_t kMost = 1U << 20;
    Span span;
    const char* const end = text.data() + text.size();
    auto parsed = std::from_chars(text.data(), end, span.first);
    span.last = span.first;
    if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '-') {
        parsed = std::from_chars(parsed.ptr + 1, end, span.last);
    }
    if (parsed.ec != std::errc() || parsed.ptr != end || span.first < 1 || span.last < span.first ||
        span.last > kMost) {
        return error(ErrorCode::kInvalidArgument, std::string("[load] ") + flag + " '" + text +
                                                      "': want a number or first-last, from 1 to " +
                                                      std::to_string(kMost));
    }
    return span;
}

Result<void> load(LoadCommand command) {
    LoadOptions& options = command.load;
    DW_ASSIGN(options.messages, parse_span("--messages", command.messages));
    DW_ASSIGN(options.prompt, parse_span("--prompt", command.prompt));
    DW_ASSIGN(options.answer, parse_span("--answer", command.answer));
    if (command.decode_tokens > 0) options.decode_tokens = command.decode_tokens;
    if (command.prompt_tokens > 0) options.prompt_tokens = command.prompt_tokens;
    if (const auto valid = session::validate({.temperature = options.temperature}); !valid.ok()) {
        return error(ErrorCode::kInvalidArgument, "[load] --temperature: " + valid.error().message);
    }
    if (!command.like.empty()) {
        DW_ASSIGN(options.node.model, cached_synth_file(command.like, command.quant, command.format == Format::kText));
    }
    if (command.wake > 0) {
        DW_ASSIGN(const WakeReport report,
                  run_wake({.node = options.node, .tokens = command.wake, .repetitions = command.repetitions}));
        print_wake(report, command.format);
        return {};
    }
    DW_ASSIGN(const LoadReport report, run_load(options));
    print_load(options, report, command.format);
    return {};
}

constexpr const char* kFooter =
    "Conversations arrive by a seed and leave when their messages are answered. Arrivals are counted in steps of the\n"
    "engine, so that a seed makes the same crowd on every machine. Answers end at their length, or where the model\n"
    "ends them. A step of the engine takes a token of every answer in progress and a share of the prompts.\n"
    "  per token       from one token of an answer to the next, everything included\n"
    "  fairness        tokens that a conversation got per step of the engine while it answered (1: one in each)\n"
    "  reused          tokens of prompts that another conversation had computed; --share-prefixes off: none\n"
    "  parked          actors that waited for a message and went into images meanwhile (--park, --park-after,\n"
    "                  --park-above); guests and KV: the most memory that actors took, parked ones take none\n"
    "  --wake N        instead: from the image of a conversation of N tokens to the first token of its next answer\n"
    "Examples:\n"
    "  driftwood load --present 8 --total 24\n"
    "  driftwood load --present 8 --total 24 --system 1024\n"
    "  driftwood load --present 64 --total 64 --messages 3 --pause 100 --park-above 64\n"
    "  driftwood load --like llama-3.2-1b --isa cuda --present 200 --total 600\n"
    "  driftwood load --like llama-3.2-1b --isa cuda --wake 4096\n";

}  // namespace

void add_load(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<LoadCommand>();
    LoadOptions& load_options = options->load;
    CLI::App* command = app.add_subcommand("load", "Many conversations at once: speed, latency, fairness");
    CLI::Option* const model =
        command->add_option("-m,--model", load_options.node.model, "Model file, or 'demo'")->capture_default_str();
    command->add_option("--like", options->like, "A model of random weights in these shapes: " + synth_preset_names())
        ->excludes(model);
    command->add_option("--quant", options->quant, "Type of its weights: " + synth_quant_names())
        ->capture_default_str();
    command
        ->add_option("--isa", load_options.node.engine,
                     "Engine: auto, or one of those that `driftwood logits --help` lists")
        ->capture_default_str();
    command->add_option("-t,--threads", load_options.node.threads, "Threads; 0: the cores this process may use")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    add_weights(*command, load_options.node.weights);
    command->add_flag("--sessions", load_options.sessions, "Sessions by themselves, without guests and actors");
    const auto count = [&](const char* flag, uint32_t& value, uint32_t least, const char* text) {
        command->add_option(flag, value, text)->capture_default_str()->check(CLI::Range(least, 1U << 20));
    };
    count("--present", load_options.present, 1, "Conversations at once, at most");
    count("--total", load_options.total, 1, "Conversations in all");
    add_share_prefixes(*command, load_options.node.prefix_bytes);
    count("--system", load_options.system, 0, "Tokens, about, of a system message that all of them begin with");
    load_options.park.add_to(*command, ParkOptions::Host::kMany);
    count("--pause", load_options.pause, 0, "Rounds between an answer and the next message, on average");
    count("--gap", load_options.gap, 0, "Steps between two arrivals, on average");
    command->add_option("--messages", options->messages, "Messages of a conversation")->capture_default_str();
    command->add_option("--prompt", options->prompt, "Tokens of a message, about")->capture_default_str();
    command->add_option("--answer", options->answer, "Tokens of an answer, at most")->capture_default_str();
    command->add_option("--temperature", load_options.temperature, "Of the sampler; 0: greedy")->capture_default_str();
    command->add_option("--seed", load_options.seed, "Of the crowd")->capture_default_str();
    count("--decode-tokens", options->decode_tokens, 0, "Decodes in a step, at most; 0: what suits the engine");
    count("--prompt-tokens", options->prompt_tokens, 0, "Tokens of prompts beside them; 0: what suits the engine");
    count("--wake", options->wake, 0, "Measure a thaw of so many tokens instead");
    count("--repetitions", options->repetitions, 1, "Of --wake");
    command->add_flag_callback(
        "--json", [options] { options->format = Format::kJson; }, "Print JSON");
    command->footer(kFooter);
    command->callback([options, &exit_code] {
        if (const auto done = load(*options); !done.ok()) exit_code = report(done.error(), options->format);
    });
}

}  // namespace driftwood::cli
