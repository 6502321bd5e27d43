// driftwood thaw: an actor goes on where its image was frozen.
#include <cstdio>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/talk_options.h"
#include "cli/weights_option.h"

namespace driftwood::cli {
namespace {

struct ThawOptions {
    TalkOptions talk;
    std::string image;
    bool model_named = false;
};

void print_report(const node::ThawReport& report) {
    if (report.imported) {
        std::fprintf(stderr, "imported (%s) in %s: the file could have been changed by others while mapped\n",
                     report.imported->c_str(), human_ms(to_ms(report.import_ns)).c_str());
    }
    std::fprintf(stderr, "thawed in %s (verified %s, %s %s, mapped %s): %u tokens reused, %u to prefill again\n",
                 human_ms(to_ms(report.open_ns + report.verify_ns + report.compile_ns + report.map_ns)).c_str(),
                 human_ms(to_ms(report.verify_ns)).c_str(), report.module_from_cache ? "code from cache" : "compiled",
                 human_ms(to_ms(report.compile_ns)).c_str(), human_ms(to_ms(report.map_ns)).c_str(),
                 report.tokens_reused, report.tokens_again);
}

Result<void> thaw(const ThawOptions& options) {
    SystemClock clock;
    SystemEntropy entropy;
    DW_ASSIGN(auto node, node::Node::create(options.talk.node, clock, entropy));
    note_weights(node->model());
    DW_ASSIGN(auto thawed, node->thaw(options.image, !options.model_named));
    print_report(thawed.report);
    note_cache(*thawed.live.module);
    Conversation conversation(std::move(thawed.live));
    return talk(*node, conversation, options.talk);
}

}  // namespace

void add_thaw(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<ThawOptions>();
    CLI::App* command = app.add_subcommand("thaw", "Continue an actor from its image");
    command->add_option("image", options->image, "Image that a freeze wrote")->required();
    CLI::Option* model = command->add_option(
        "--model", options->talk.node.model,
        "Model file; another model than the recorded one reads the conversation again from its beginning");
    options->talk.add_to(*command);
    command->footer(
        "Without --model the built-in demo model is used, if the image was made with it. The guest comes from the\n"
        "image; no other file is needed.\nExample:\n  driftwood thaw ada.actor --say \"What is my name?\"");
    command->callback([options, model, &exit_code] {
        options->model_named = model->count() > 0;
        if (const auto done = thaw(*options); !done.ok()) exit_code = report(done.error(), Format::kText);
    });
}

}  // namespace driftwood::cli
