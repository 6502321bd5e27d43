// driftwood synth: a model of random weights, for measuring and for trying things without a download.
#include "model/synth.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/synth_file.h"

namespace driftwood::cli {
namespace {

struct SynthOptions {
    std::string out;
    std::string like = "llama-3.2-1b";
    std::string quant = "q8_0";
    std::optional<uint32_t> layers, d_model, heads, kv_heads, head_dim, d_ff, vocab, context;
    std::optional<bool> tied;
    uint64_t seed = 1;
    bool force = false;
    Format format = Format::kText;
};

Result<model::SynthShape> shape_of(const SynthOptions& options) {
    DW_ASSIGN(model::SynthShape shape, synth_shape(options.like, options.quant));
    const auto set = [](uint32_t& field, const std::optional<uint32_t>& value) {
        if (value) field = *value;
    };
    set(shape.layers, options.layers);
    set(shape.d_model, options.d_model);
    set(shape.heads, options.heads);
    set(shape.kv_heads, options.kv_heads);
    set(shape.head_dim, options.head_dim);
    set(shape.d_ff, options.d_ff);
    set(shape.vocab, options.vocab);
    set(shape.context, options.context);
    if (options.tied) shape.tied = *options.tied;
    return shape;
}

Result<void> synth(const SynthOptions& options) {
    DW_ASSIGN(const model::SynthShape shape, shape_of(options));
    const auto start = std::chrono::steady_clock::now();
    const bool watched = options.format == Format::kText && isatty(STDERR_FILENO) != 0;
    DW_ASSIGN(const uint64_t bytes,
              write_synth_file(options.out, shape, options.seed, {.replace = options.force, .progress = watched}));
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    if (options.format == Format::kJson) {
        print_json({{"out", options.out},
                    {"like", options.like},
                    {"quant", options.quant},
                    {"seed", options.seed},
                    {"parameters", model::parameter_count(shape)},
                    {"bytes", bytes},
                    {"ms", took.count()}});
    } else {
        std::printf("%s: %s, %.2f billion parameters in %s, %u layers of %u, vocabulary of %u, seed %llu; %s\n",
                    options.out.c_str(), human_bytes(bytes).c_str(),
                    static_cast<double>(model::parameter_count(shape)) / 1e9, options.quant.c_str(), shape.layers,
                    shape.d_model, shape.vocab, static_cast<unsigned long long>(options.seed),
                    human_ms(took.count()).c_str());
    }
    return {};
}

}  // namespace

void add_synth(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<SynthOptions>();
    CLI::App* command =
        app.add_subcommand("synth", "Write a model of random weights, for measuring without a download");
    command->add_option("out", options->out, "File to write: GGUF, or safetensors by its name or for q4s")->required();
    command->add_option("--like", options->like, "Shapes of: " + synth_preset_names())->capture_default_str();
    command->add_option("--quant", options->quant, "Type of the weights: " + synth_quant_names())
        ->capture_default_str();
    command->add_option("--seed", options->seed, "The same shapes and seed give the same bytes")->capture_default_str();
    command->add_option("--layers", options->layers, "In place of what --like says, as the following");
    command->add_option("--d-model", options->d_model, "Width of the residual stream");
    command->add_option("--heads", options->heads, "Query heads");
    command->add_option("--kv-heads", options->kv_heads, "Key and value heads, a divisor of the heads");
    command->add_option("--head-dim", options->head_dim, "Numbers in a head");
    command->add_option("--d-ff", options->d_ff, "Width of the feed-forward net");
    command->add_option("--vocab", options->vocab, "Tokens in the vocabulary");
    command->add_option("--context", options->context, "Positions");
    command->add_option("--tied", options->tied, "1: the output matrix is the embedding; 0: it has its own");
    command->add_flag("--force", options->force, "Replace the file if it is there");
    command->add_flag_callback(
        "--json", [options] { options->format = Format::kJson; }, "Print JSON");
    command->footer(
        "The file is a real GGUF file with a tokenizer and a chat template; other programs load it too. Where its "
        "name\n"
        "ends in .safetensors, and with q4s, which GGUF has not, it is a safetensors file of our own instead\n"
        "(docs/model-format.md), for q4s, f32, f16 and bf16. Nothing was learned, so its answers are noise; its speed "
        "is\n"
        "that of a real model of these shapes.\n"
        "Examples:\n  driftwood synth /tmp/1b.gguf\n  driftwood synth /tmp/small.gguf --like demo --layers 2 --seed 7");
    command->callback([options, &exit_code] {
        if (const auto done = synth(*options); !done.ok()) exit_code = report(done.error(), options->format);
    });
}

}  // namespace driftwood::cli
