// driftwood tokenize: what a model makes of a text.
#include <cstdio>

#include "cli/commands.h"
#include "cli/output.h"
#include "node/node.h"

namespace driftwood::cli {
namespace {

struct TokenizeOptions {
    std::string model = "demo";
    std::string text;
    bool special = false;
    Format format = Format::kText;
};

Result<void> tokenize(const TokenizeOptions& options) {
    DW_ASSIGN(const auto model, node::load_model(options.model));
    const model::Tokenizer& tokenizer = model->tokenizer();
    using Special = model::Tokenizer::Special;
    DW_ASSIGN(const std::vector<uint32_t> ids,
              tokenizer.encode(options.text, options.special ? Special::kParse : Special::kText));
    if (options.format == Format::kJson) {
        Json tokens = Json::array();
        for (const uint32_t id : ids) tokens.push_back({{"id", id}, {"text", std::string(tokenizer.bytes(id))}});
        print_json({{"model", model->name()}, {"count", ids.size()}, {"tokens", tokens}});
        return {};
    }
    for (const uint32_t id : ids) std::printf("%6u  '%s'\n", id, printable(std::string(tokenizer.bytes(id))).c_str());
    std::printf("%zu tokens\n", ids.size());
    return {};
}

}  // namespace

void add_tokenize(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<TokenizeOptions>();
    CLI::App* command = app.add_subcommand("tokenize", "Show the tokens of a text");
    command->add_option("model", options->model, "Model file, or 'demo'")->required();
    command->add_option("text", options->text, "Text")->required();
    command->add_flag("--special", options->special, "Recognise special tokens spelled in the text");
    command->add_flag_callback(
        "--json", [options] { options->format = Format::kJson; }, "Print JSON");
    command->callback([options, &exit_code] {
        if (const auto done = tokenize(*options); !done.ok()) exit_code = report(done.error(), options->format);
    });
}

}  // namespace driftwood::cli
