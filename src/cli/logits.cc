// driftwood logits: the decoder's raw output for given tokens, for comparing engines, chunkings, thread counts,
// machines.
#include <chrono>
#include <cstdio>
#include <optional>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/talk_options.h"
#include "cli/weights_option.h"
#include "compute/engine.h"
#include "file/section.h"
#include "node/node.h"
#include "session/block_table.h"

namespace driftwood::cli {
namespace {

struct LogitsOptions {
    std::string model = "demo";
    std::vector<uint32_t> tokens;
    uint32_t chunk = 0;
    std::optional<compute::ActivationBits> activations;
    compute::EngineOptions engine_options;
    std::string engine = "auto";
    model::WeightsOptions weights;
    std::string out;
    Format format = Format::kText;
};

// All logits of the tokens, [n, vocab], computed in chunks of `chunk` tokens.
Result<std::vector<float>> compute_logits(const LogitsOptions& options, compute::Engine& engine) {
    const compute::DecoderSpec& spec = engine.spec();
    const auto n = static_cast<uint32_t>(options.tokens.size());
    if (n == 0 || n > spec.context) {
        return error(ErrorCode::kInvalidArgument, "[logits] --tokens: want 1 to " + std::to_string(spec.context) +
                                                      " tokens, got " + std::to_string(n));
    }
    for (const uint32_t token : options.tokens) {
        if (token >= spec.vocab) {
            return error(ErrorCode::kInvalidArgument, "[logits] token " + std::to_string(token) +
                                                          ": the vocabulary has " + std::to_string(spec.vocab));
        }
    }
    session::BlockRefs blocks(engine.pool());
    std::vector<compute::BlockId> table;
    for (uint32_t position = 0; position < n; position += compute::kBlockTokens) {
        DW_ASSIGN(const compute::BlockId block, blocks.allocate());
        table.push_back(block);
    }
    std::vector<float> logits(size_t{n} * spec.vocab);
    const uint32_t chunk = options.chunk == 0 ? compute::kMaxStepTokens : options.chunk;
    for (uint32_t position = 0; position < n; position += chunk) {
        const uint32_t count = std::min(chunk, n - position);
        compute::BatchItem item{
            .tokens = std::span(options.tokens).subspan(position, count),
            .first_position = position,
            .blocks = table,
            .logits = std::span(logits).subspan(size_t{position} * spec.vocab, size_t{count} * spec.vocab),
            .error = {}};
        engine.step({&item, 1});
        if (item.error) return *item.error;
    }
    for (const compute::BlockId block : table) blocks.release(block);
    return logits;
}

Result<void> logits(const LogitsOptions& options) {
    DW_ASSIGN(const auto model, node::load_model(options.model, options.activations));
    DW_ASSIGN(const auto engine, node::make_engine(*model, options.engine, options.engine_options, options.weights));
    note_weights(*model);
    const auto start = std::chrono::steady_clock::now();
    DW_ASSIGN(const std::vector<float> values, compute_logits(options, *engine));
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;

    file::SectionWriter out;
    const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
    out.add("logits", file::DType::kF32, {options.tokens.size(), model->spec().vocab},
            {{bytes, values.size() * sizeof(float)}});
    out.set_metadata("model", model->name());
    out.set_metadata("compute_identity", file::to_hex(model->compute_identity()));
    DW_TRY(out.commit(options.out));
    const std::string hash = file::to_hex(file::blake3({bytes, values.size() * sizeof(float)}));
    if (options.format == Format::kJson) {
        print_json({{"out", options.out},
                    {"engine", engine->name()},
                    {"tokens", options.tokens.size()},
                    {"vocab", model->spec().vocab},
                    {"logits_blake3", hash},
                    {"ms", took.count()}});
    } else {
        std::printf("%s: logits F32 [%zu, %u] by engine %s in %s, blake3 %s\n", options.out.c_str(),
                    options.tokens.size(), model->spec().vocab, std::string(engine->name()).c_str(),
                    human_ms(took.count()).c_str(), hash.c_str());
    }
    return {};
}

}  // namespace

void add_logits(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<LogitsOptions>();
    CLI::App* command = app.add_subcommand("logits", "Write the logits of given tokens to a safetensors file");
    command->add_option("model", options->model, "Model file, or 'demo'")->required();
    command->add_option("--tokens", options->tokens, "Token ids: 1,2,3")->required()->delimiter(',');
    command->add_option("--chunk", options->chunk, "Tokens per prefill step (the bits do not depend on it)")
        ->check(CLI::Range(1u, compute::kMaxStepTokens));
    command->add_option("--threads", options->engine_options.threads, "Threads (nor on this; 0: one per core)")
        ->check(CLI::Range(0, 1024));
    add_activations(*command, options->activations);
    add_weights(*command, options->weights);
    command
        ->add_option("--isa", options->engine,
                     "Engine (nor on this): auto, reference, avx2, avx512, amx, neon, i8mm, cuda")
        ->capture_default_str();
    command->add_option("--out", options->out, "File to write: tensor `logits`, F32 [tokens, vocab]")->required();
    command->add_flag_callback(
        "--json", [options] { options->format = Format::kJson; }, "Print JSON");
    command->callback([options, &exit_code] {
        if (const auto done = logits(*options); !done.ok()) exit_code = report(done.error(), options->format);
    });
}

}  // namespace driftwood::cli
