// Options that the commands which start or continue a conversation share.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/conversation.h"
#include "node/node.h"
#include "node/parking.h"

namespace driftwood::cli {

// Where and when actors that wait for a message are parked.
struct ParkOptions {
    std::string directory = "auto";  // or "off"
    double after_s = 300;
    uint32_t above_mib = 0;  // 0: no mark

    // A directory for this process; nothing where parking is off, or where "auto" is no good, which is said.
    Result<std::optional<node::ParkingDirectory>> make_directory() const;
    node::ParkingPolicy policy() const;
    // Adds --park and --park-after, for many actors --park-above too.
    enum class Host : uint8_t { kOneActor, kMany };
    void add_to(CLI::App& command, Host host);
};

struct TalkOptions {
    node::NodeOptions node;
    ParkOptions park;
    std::vector<std::string> say;       // messages instead of an interactive conversation
    std::optional<std::string> freeze;  // image to write at the end

    // Adds --threads, --isa, --activations, --weights, --share-prefixes, --park, --park-after, --memory-limit,
    // --deadline, --fuel, --module-cache, --say and --freeze.
    void add_to(CLI::App& command);
};

// Adds --activations: the bits of activations in linear layers.
void add_activations(CLI::App& command, std::optional<compute::ActivationBits>& activations);

// Adds --share-prefixes: memory for the beginnings of conversations.
void add_share_prefixes(CLI::App& command, std::optional<uint64_t>& bytes);

// Holds the conversation that the options ask for: says each message and prints the answers, or talks interactively;
// then freezes if asked. An answer that was under way is finished first. The actor is of that node.
Result<void> talk(node::Node& node, Conversation& conversation, const TalkOptions& options);

}  // namespace driftwood::cli
