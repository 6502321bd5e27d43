#include "cli/talk_options.h"

#include "node/builtin.h"

namespace driftwood::cli {

void add_activations(CLI::App& command, std::optional<compute::ActivationBits>& activations) {
    command
        .add_option_function<uint32_t>(
            "--activations",
            [&activations](uint32_t bits) {
                activations = bits == 16 ? compute::ActivationBits::k16 : compute::ActivationBits::k8;
            },
            "Bits of activations in linear layers: 8, or 16 (more exact, slower); part of the model's identity "
            "(default: what the model file asks for, else 8)")
        ->check(CLI::IsMember({8, 16}));
}

void add_share_prefixes(CLI::App& command, std::optional<uint64_t>& bytes) {
    const auto mib = [](const std::string& text, uint64_t& value) {
        return CLI::detail::lexical_cast(text, value) && value <= 1U << 20;
    };
    command
        .add_option_function<std::string>(
            "--share-prefixes",
            [&bytes, mib](const std::string& text) {
                uint64_t value = 0;
                if (text == "off") bytes = std::nullopt;
                if (mib(text, value)) bytes = value << 20;
            },
            "Conversations of one guest that begin with the same tokens compute them once; MiB for beginnings that no "
            "conversation holds any more, auto (an eighth of the KV memory, at most 1024), or off (default: auto)")
        ->check(CLI::Validator(
            [mib](const std::string& text) -> std::string {
                uint64_t value = 0;
                if (text == "auto" || text == "off" || mib(text, value)) return {};
                return "want auto, off, or MiB from 0 to 1048576, got " + text;
            },
            "auto|off|MIB"));
}

void TalkOptions::add_to(CLI::App& command) {
    command.add_option("--threads", node.threads, "Threads of the engine (0: one per core)")
        ->check(CLI::Range(0, 1024));
    command.add_option("--isa", node.engine, "Engine: auto, reference, avx2, avx512, amx, neon, i8mm, cuda")
        ->capture_default_str();
    add_activations(command, node.activations);
    add_share_prefixes(command, node.prefix_bytes);
    command
        .add_option_function<uint64_t>(
            "--memory-limit", [this](uint64_t mib) { node.limits.memory_bytes = mib << 20; },
            "Most linear memory a guest may have, in MiB (default 256)")
        ->check(CLI::Range(1, 4096));
    command.add_option("--deadline", node.limits.turn_deadline_ms, "Longest turn of a guest, in ms")
        ->capture_default_str()
        ->check(CLI::Range(1, 3600 * 1000));
    command.add_option("--fuel", node.limits.turn_fuel,
                       "Longest turn of a guest, in instructions: it ends at the same one every time (0: no limit)");
    command
        .add_option(
            "--module-cache", node.module_cache,
            "Directory for compiled guests, private to you; auto: ~/.cache/driftwood/modules; off: compile each time")
        ->capture_default_str();
    command.add_option("--say", say, "Say this instead of reading from the terminal (may be repeated)")
        ->allow_extra_args(false);  // what follows is no second message but the next argument
    command.add_option("--freeze", freeze, "Write the actor to this image at the end");
}

Result<void> talk(Conversation& conversation, const TalkOptions& options) {
    std::string hint;
    if (options.node.model != node::kDemoModel) hint = "--model " + options.node.model;
    if (options.node.activations) {
        hint += (hint.empty() ? "" : " ") + ("--activations " + std::to_string(bits_of(*options.node.activations)));
    }
    if (!hint.empty()) conversation.set_thaw_hint(hint);
    if (options.say.empty()) {
        DW_TRY(conversation.interact());
    } else {
        DW_TRY(conversation.advance());
        for (const std::string& message : options.say) {
            DW_TRY(conversation.say(message));
            DW_TRY(conversation.advance());
        }
    }
    if (options.freeze) DW_TRY(conversation.freeze(*options.freeze));
    return {};
}

}  // namespace driftwood::cli
