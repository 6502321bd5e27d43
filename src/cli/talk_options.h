// Options that the commands which start or continue a conversation share.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/conversation.h"
#include "node/node.h"

namespace driftwood::cli {

struct TalkOptions {
    node::NodeOptions node;
    std::vector<std::string> say;       // messages instead of an interactive conversation
    std::optional<std::string> freeze;  // image to write at the end

    // Adds --threads, --isa, --activations, --share-prefixes, --memory-limit, --deadline, --fuel, --module-cache, --say
    // and --freeze.
    void add_to(CLI::App& command);
};

// Adds --activations: the bits of activations in linear layers.
void add_activations(CLI::App& command, std::optional<compute::ActivationBits>& activations);

// Adds --share-prefixes: memory for the beginnings of conversations.
void add_share_prefixes(CLI::App& command, std::optional<uint64_t>& bytes);

// Holds the conversation that the options ask for: says each message and prints the answers, or talks interactively;
// then freezes if asked. An answer that was under way is finished first.
Result<void> talk(Conversation& conversation, const TalkOptions& options);

}  // namespace driftwood::cli
