#include "cli/bench.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <set>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/synth_file.h"
#include "cli/weights_option.h"
#include "compute/cpu/peak.h"
#include "compute/cpu/thread_pool.h"
#include "node/node.h"

namespace driftwood::cli {
namespace {

constexpr uint32_t kMostValue = 1U << 20;

struct BenchOptions {
    std::string model;  // empty: a synthetic one
    std::string like = "llama-3.2-1b";
    std::string quant = "q8_0";
    std::vector<std::string> n_prompt = {"512"}, n_gen = {"128"}, depth = {"0"}, threads = {"0"}, batch = {"512"},
                             sessions = {"1"};
    uint32_t repetitions = 5;
    std::string isa = "auto";
    model::WeightsOptions weights;
    BenchFormat format = BenchFormat::kMarkdown;
};

// A number, "first-last", "first-last+step" or "first-last*factor", as llama-bench takes them.
Result<std::vector<uint32_t>> parse_range(const char* flag, const std::string& text, uint32_t least, uint32_t most) {
    const auto bad = [&] {
        return error(ErrorCode::kInvalidArgument,
                     std::string("[bench] ") + flag + " '" + text + "': want a number from " + std::to_string(least) +
                         " to " + std::to_string(most) + ", or first-last, first-last+step, first-last*factor");
    };
    const char* at = text.data();
    const char* const end = at + text.size();
    const auto take = [&](uint32_t& value) {
        const auto [next, problem] = std::from_chars(at, end, value);
        at = next;
        return problem == std::errc() && value <= kMostValue;
    };
    uint32_t first = 0;
    uint32_t step = 1;
    if (!take(first)) return bad();
    uint32_t last = first;
    char how = '+';
    if (at != end && *at == '-') {
        ++at;
        if (!take(last)) return bad();
        if (at != end && (*at == '+' || *at == '*')) {
            how = *at++;
            if (!take(step)) return bad();
        }
    }
    const bool grows = how == '+' ? step >= 1 : step >= 2 && first >= 1;
    if (at != end || !grows || first < least || last > most || first > last) return bad();
    std::vector<uint32_t> values;
    for (uint64_t value = first; value <= last; value = how == '+' ? value + step : value * step) {
        values.push_back(static_cast<uint32_t>(value));
    }
    return values;
}

Result<std::vector<uint32_t>> parse_values(const char* flag, const std::vector<std::string>& texts, uint32_t least,
                                           uint32_t most) {
    std::vector<uint32_t> all;
    for (const std::string& text : texts) {
        DW_ASSIGN(const std::vector<uint32_t> some, parse_range(flag, text, least, most));
        all.insert(all.end(), some.begin(), some.end());
    }
    return all;
}

// Prompts before generations, as llama-bench orders them.
Result<std::vector<BenchCase>> cases_of(const BenchOptions& options) {
    DW_ASSIGN(const auto prompts, parse_values("-p", options.n_prompt, 0, kMostValue));
    DW_ASSIGN(const auto generations, parse_values("-n", options.n_gen, 0, kMostValue));
    DW_ASSIGN(const auto depths, parse_values("-d", options.depth, 0, kMostValue));
    DW_ASSIGN(const auto batches, parse_values("-b", options.batch, 1, compute::kMaxStepTokens));
    DW_ASSIGN(const auto sessions, parse_values("--sessions", options.sessions, 1, 1024));
    DW_ASSIGN(auto threads, parse_values("-t", options.threads, 0, 1024));
    std::replace(threads.begin(), threads.end(), 0U, compute::available_cores());
    std::vector<BenchCase> cases;
    for (const uint32_t t : threads) {
        for (const uint32_t d : depths) {
            for (const uint32_t s : sessions) {
                for (const uint32_t b : batches) {
                    for (const uint32_t p : prompts) {
                        if (p > 0)
                            cases.push_back({.n_prompt = p, .depth = d, .n_batch = b, .sessions = s, .threads = t});
                    }
                }
                for (const uint32_t n : generations) {
                    if (n > 0) {
                        cases.push_back({.n_gen = n, .depth = d, .n_batch = batches[0], .sessions = s, .threads = t});
                    }
                }
            }
        }
    }
    if (cases.empty()) {
        return error(ErrorCode::kInvalidArgument, "[bench] nothing to measure: -p or -n wants a number above 0");
    }
    return cases;
}

// Weights in numbers and in bytes; a tied output counts once.
void count_weights(const compute::DecoderSpec& spec, BenchReport& report) {
    std::vector<const compute::MatrixView*> matrices = {&spec.embedding};
    if (spec.output.bytes.data() != spec.embedding.bytes.data()) matrices.push_back(&spec.output);
    for (const compute::DecoderLayer& layer : spec.layer) {
        for (const auto* matrix :
             {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w_gate, &layer.w_up, &layer.w_down})
            matrices.push_back(matrix);
    }
    const uint64_t norms = uint64_t{2 * spec.layers + 1} * spec.d_model;
    report.parameters = norms;
    report.model_bytes = norms * sizeof(float);
    for (const compute::MatrixView* matrix : matrices) {
        report.parameters += uint64_t{matrix->rows} * matrix->cols;
        report.model_bytes += matrix->bytes.size();
    }
}

Result<BenchReport> describe(const BenchOptions& options, const std::string& file, model::Model& model) {
    BenchReport report;
    const compute::DecoderSpec& spec = model.spec();
    report.model_file = file;
    report.model_type = "llama " + std::to_string(spec.layers) + "x" + std::to_string(spec.d_model) + " " +
                        std::string(compute::weight_type_name(spec.layer[0].w_up.type));
    count_weights(spec, report);
    report.spec = &spec;
    DW_ASSIGN(const auto probe, node::make_engine(model, options.isa, {.threads = 1}, options.weights));
    report.engine = probe->name();
    return report;
}

Result<void> bench(const BenchOptions& options) {
    DW_ASSIGN(const std::vector<BenchCase> cases, cases_of(options));
    std::string file = options.model;
    if (file.empty()) {
        DW_ASSIGN(file, cached_synth_file(options.like, options.quant, isatty(STDERR_FILENO) != 0));
    }
    DW_ASSIGN(const auto model, node::load_model(file));
    DW_ASSIGN(BenchReport report, describe(options, file, *model));
    std::set<uint32_t> batches;
    for (const BenchCase& one : cases) {
        report.many_sessions = report.many_sessions || one.sessions > 1;
        batches.insert(one.n_batch);
        if (report.peaks.contains(one.threads)) continue;
        // What a card reads is not what the processor reads.
        const double bytes_per_s = report.engine == "cuda" ? 0 : compute::measure_read_bandwidth(one.threads);
        report.peaks[one.threads] = {bytes_per_s, compute::measure_multiply_adds(report.engine, one.threads)};
    }
    report.many_batches = batches.size() > 1 || *batches.begin() != compute::kMaxStepTokens;
    print_header(report, options.format);
    std::optional<BenchRun> run;
    uint32_t threads = 0;
    bool first = true;
    for (const BenchCase& one : cases) {
        if (one.threads != threads) {
            run.reset();
            DW_ASSIGN(run, BenchRun::create(*model, options.isa, one.threads));
            threads = one.threads;
        }
        DW_ASSIGN(const BenchResult result, run->run(one, options.repetitions));
        report.weights = model->weights_place();
        print_result(report, options.format, result, first);
        first = false;
    }
    print_footer(report, options.format);
    return {};
}

constexpr const char* kFooter =
    "Reading the table:\n"
    "  pp512           a prompt of 512 tokens, in tokens per second (prefill)\n"
    "  tg128           128 tokens one after the other (decode)\n"
    "  @ d1024         after 1024 tokens that are there already\n"
    "  x8              8 conversations in each step; t/s counts the tokens of all\n"
    "  GB/s            weights and KV that a step reads, each once; % of what this machine reads in the same run\n"
    "  % int8 peak     multiply-adds of the linear layers; % of what the processor does with nothing to load\n"
    "  bound by        the larger of the two, where it is at least 40 %\n"
    "Several values: -p 128,512  -d 0-4096+1024  -t 1-8*2. A 0 leaves a test out: -p 0.\n"
    "The flags and the columns that have llama-bench's names mean what they mean there.\n"
    "Examples:\n"
    "  driftwood bench                                      a random model of Llama-3.2-1B's shapes, made once\n"
    "  driftwood bench -m model.gguf -p 512,4096 -n 128 -d 0,8192\n"
    "  driftwood bench -p 0 -n 32 -d 1024 --sessions 1,8    what a conversation more costs\n"
    "  driftwood bench --like llama-3.1-8b -t 1,2,4 -o json";

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<BenchOptions>();
    CLI::App* command = app.add_subcommand("bench", "Measure how fast a model is computed, in llama-bench's terms");
    command->add_option("-m,--model", options->model,
                        "Model file, or 'demo'; without it: a random model (--like, --quant)");
    command->add_option("--like", options->like, "Shapes of the random model: " + synth_preset_names())
        ->capture_default_str();
    command->add_option("--quant", options->quant, "Type of its weights: " + synth_quant_names())
        ->capture_default_str();
    const auto list = [&](const char* flags, std::vector<std::string>& values, const std::string& help) {
        command->add_option(flags, values, help)->delimiter(',')->capture_default_str();
    };
    list("-p,--n-prompt", options->n_prompt, "Tokens of a prompt");
    list("-n,--n-gen", options->n_gen, "Tokens to generate");
    list("-d,--n-depth", options->depth, "Tokens that are there before");
    list("-t,--threads", options->threads, "Threads; 0: the cores this process may use");
    list("-b,--batch-size", options->batch,
         "Tokens of a prompt that go through one step, 1 to " + std::to_string(compute::kMaxStepTokens));
    list("--sessions", options->sessions, "Conversations that share each step");
    command->add_option("-r,--repetitions", options->repetitions, "Times that each test is measured")
        ->capture_default_str()
        ->check(CLI::Range(1, 10000));
    command->add_option("--isa", options->isa, "Engine: auto, or one of those that `driftwood logits --help` lists")
        ->capture_default_str();
    add_weights(*command, options->weights);
    const std::map<std::string, BenchFormat> formats = {
        {"md", BenchFormat::kMarkdown}, {"csv", BenchFormat::kCsv}, {"json", BenchFormat::kJson}};
    command->add_option("-o,--output", options->format, "md (default), csv or json")
        ->transform(CLI::CheckedTransformer(formats));
    command->footer(kFooter);
    command->callback([options, &exit_code] {
        if (const auto done = bench(*options); !done.ok()) exit_code = report(done.error(), Format::kText);
    });
}

}  // namespace driftwood::cli
