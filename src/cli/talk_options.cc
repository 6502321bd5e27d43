#include "cli/talk_options.h"

#include <cstdio>

#include "cli/weights_option.h"
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

Result<std::optional<node::ParkingDirectory>> ParkOptions::make_directory() const {
    if (directory == "off") return std::optional<node::ParkingDirectory>();
    auto made = node::ParkingDirectory::create(directory);
    if (!made.ok() && directory == "auto") {
        std::fprintf(stderr, "actors are not parked: %s\n", made.error().message.c_str());
        return std::optional<node::ParkingDirectory>();
    }
    DW_ASSIGN(node::ParkingDirectory here, std::move(made));
    return std::optional<node::ParkingDirectory>(std::move(here));
}

node::ParkingPolicy ParkOptions::policy() const {
    node::ParkingPolicy policy{.idle_ns = static_cast<int64_t>(after_s * 1e9), .memory_bytes = std::nullopt};
    if (above_mib > 0) policy.memory_bytes = uint64_t{above_mib} << 20;
    return policy;
}

void ParkOptions::add_to(CLI::App& command, Host host) {
    command
        .add_option("--park", directory,
                    "Actors that wait for a message go into image files in this directory and give their memory back; "
                    "the next message thaws them, with the same bits. auto: ~/.cache/driftwood/parked; off: never")
        ->capture_default_str();
    command.add_option("--park-after", after_s, "Park an actor that has waited so many seconds (0: at once)")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1e9));
    if (host == Host::kOneActor) return;
    command
        .add_option("--park-above", above_mib,
                    "Park those that have waited longest while guests and KV take more than this many MiB (0: only "
                    "when KV blocks run out)")
        ->capture_default_str();
}

void TalkOptions::add_to(CLI::App& command) {
    command.add_option("--threads", node.threads, "Threads of the engine (0: one per core)")
        ->check(CLI::Range(0, 1024));
    command.add_option("--isa", node.engine, "Engine: auto, reference, avx2, avx512, amx, neon, i8mm, cuda")
        ->capture_default_str();
    add_activations(command, node.activations);
    add_weights(command, node.weights);
    add_share_prefixes(command, node.prefix_bytes);
    park.add_to(command, ParkOptions::Host::kOneActor);
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

namespace {

Result<void> interact(node::Node& node, Conversation& conversation, const TalkOptions& options) {
    DW_ASSIGN(const auto directory, options.park.make_directory());
    if (!directory) return conversation.interact();
    SystemClock clock;
    const auto thaw = [&node](const std::string& image) -> Result<node::LiveActor> {
        DW_ASSIGN(auto thawed, node.thaw(image, true));
        return std::move(thawed.live);
    };
    node::Parking parking(directory->path(), thaw, clock, options.park.policy());
    conversation.set_parking(parking);
    return conversation.interact();
}

}  // namespace

Result<void> talk(node::Node& node, Conversation& conversation, const TalkOptions& options) {
    std::string hint;
    if (options.node.model != node::kDemoModel) hint = "--model " + options.node.model;
    if (options.node.activations) {
        hint += (hint.empty() ? "" : " ") + ("--activations " + std::to_string(bits_of(*options.node.activations)));
    }
    if (!hint.empty()) conversation.set_thaw_hint(hint);
    if (options.say.empty()) {
        DW_TRY(interact(node, conversation, options));
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
