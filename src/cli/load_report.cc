// What a load or a wake measured, for people and as JSON.
#include <algorithm>
#include <cstdio>

#include "cli/load.h"

namespace driftwood::cli {
namespace {

double quantile(std::vector<double> values, double q) {
    if (values.empty()) return 0;
    const auto at = static_cast<ptrdiff_t>(q * static_cast<double>(values.size() - 1) + 0.5);
    std::nth_element(values.begin(), values.begin() + at, values.end());
    return values[static_cast<size_t>(at)];
}

struct Quantiles {
    double p50, p90, p99, most;
    explicit Quantiles(const std::vector<double>& values)
        : p50(quantile(values, 0.5)),
          p90(quantile(values, 0.9)),
          p99(quantile(values, 0.99)),
          most(quantile(values, 1)) {}
    Json json() const { return {{"p50", p50}, {"p90", p90}, {"p99", p99}, {"max", most}}; }
};

double least(const std::vector<double>& values) {
    return values.empty() ? 0 : *std::min_element(values.begin(), values.end());
}
double most(const std::vector<double>& values) {
    return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

void print_quantiles(const char* what, const std::vector<double>& values) {
    const Quantiles q(values);
    std::printf("  %-18s p50 %9.2f   p90 %9.2f   p99 %9.2f   max %9.2f ms   (%zu)\n", what, q.p50, q.p90, q.p99, q.most,
                values.size());
}

std::string spoken(const Span& span) {
    return std::to_string(span.first) + (span.last > span.first ? "-" + std::to_string(span.last) : "");
}

void print_load_json(const LoadOptions& options, const LoadReport& r) {
    print_json({{"model", r.model},
                {"engine", r.engine},
                {"kind", options.sessions ? "sessions" : "chat actors"},
                {"present", options.present},
                {"conversations", options.total},
                {"seed", options.seed},
                {"messages", spoken(options.messages)},
                {"prompt_tokens", spoken(options.prompt)},
                {"answer_tokens", spoken(options.answer)},
                {"step_limits",
                 {{"decode_tokens", r.limits.decode_tokens},
                  {"prompt_tokens", r.limits.prompt_tokens},
                  {"prompt_alone", r.limits.prompt_alone},
                  {"patience", r.limits.patience}}},
                {"seconds", r.seconds},
                {"seconds_in_steps", r.forward_s},
                {"seconds_in_samples", r.samples_s},
                {"seconds_in_turns", r.turns_s},
                {"steps", r.steps},
                {"most_present", r.most_present},
                {"decodes_per_step", r.mean_decodes},
                {"sampled_tokens", r.sampled},
                {"system_tokens", options.system},
                {"computed_prompt_tokens", r.prompt_tokens},
                {"reused_prompt_tokens", r.reused_tokens},
                {"most_kv_blocks", r.most_blocks},
                {"kv_block_bytes", r.block_bytes},
                {"most_bytes", r.most_bytes},
                {"parked", r.parked},
                {"fetched", r.fetched},
                {"sampled_per_second", static_cast<double>(r.sampled) / r.seconds},
                {"computed_per_second", static_cast<double>(r.prompt_tokens + r.decode_tokens) / r.seconds},
                {"first_token_ms", Quantiles(r.first_token_ms).json()},
                {"first_reply_ms", Quantiles(r.first_reply_ms).json()},
                {"token_ms", Quantiles(r.token_ms).json()},
                {"share_min", least(r.share)},
                {"share_max", most(r.share)},
                {"conversation_token_ms_min", least(r.mean_token_ms)},
                {"conversation_token_ms_max", most(r.mean_token_ms)},
                {"waits_for_blocks", r.waits_for_blocks},
                {"failed_answers", r.failed},
                {"first_failure", r.first_failure},
                {"digest", r.digest}});
}

struct Column {
    const char* name;
    double WakeReport::Times::*value;
};
constexpr Column kColumns[] = {{"open", &WakeReport::Times::open_ms},
                               {"verify guest", &WakeReport::Times::verify_ms},
                               {"module", &WakeReport::Times::module_ms},
                               {"map", &WakeReport::Times::map_ms},
                               {"turns", &WakeReport::Times::turns_ms},
                               {"verify KV, upload, step", &WakeReport::Times::step_ms},
                               {"sample", &WakeReport::Times::sample_ms},
                               {"image to first token", &WakeReport::Times::total_ms},
                               {"the same step again", &WakeReport::Times::again_ms}};

std::vector<double> values_of(const WakeReport& report, const Column& column) {
    std::vector<double> values;
    for (const WakeReport::Times& run : report.runs) values.push_back(run.*column.value);
    return values;
}

}  // namespace

void print_load(const LoadOptions& options, const LoadReport& r, Format format) {
    if (format == Format::kJson) return print_load_json(options, r);
    std::printf("%u %s at once, %u in all, %s on %s; %s messages each, of %s tokens, answers of %s; seed %llu\n",
                options.present, options.sessions ? "sessions" : "chat actors", options.total, r.model.c_str(),
                r.engine.c_str(), spoken(options.messages).c_str(), spoken(options.prompt).c_str(),
                spoken(options.answer).c_str(), static_cast<unsigned long long>(options.seed));
    const double rest = r.seconds - r.forward_s - r.samples_s - r.turns_s;
    std::printf(
        "  time               %.2f s: %.0f %% in %llu steps of the engine, %.0f %% sampling, %.0f %% in turns, "
        "%.0f %% elsewhere\n",
        r.seconds, 100 * r.forward_s / r.seconds, static_cast<unsigned long long>(r.steps),
        100 * r.samples_s / r.seconds, 100 * r.turns_s / r.seconds, 100 * rest / r.seconds);
    std::printf("  answers            %llu tokens, %.0f tok/s; prompts %llu tokens, %.0f tok/s\n",
                static_cast<unsigned long long>(r.sampled), static_cast<double>(r.sampled) / r.seconds,
                static_cast<unsigned long long>(r.prompt_tokens), static_cast<double>(r.prompt_tokens) / r.seconds);
    const double prompts = static_cast<double>(r.prompt_tokens + r.reused_tokens);
    std::printf("  reused             %llu tokens of prompts (%.0f %%); conversations held at most %s of KV\n",
                static_cast<unsigned long long>(r.reused_tokens),
                prompts > 0 ? 100 * static_cast<double>(r.reused_tokens) / prompts : 0,
                human_bytes(r.most_blocks * r.block_bytes).c_str());
    if (!options.sessions) {
        std::printf("  parked             %llu times, thawed %llu times; guests and KV took at most %s\n",
                    static_cast<unsigned long long>(r.parked), static_cast<unsigned long long>(r.fetched),
                    human_bytes(r.most_bytes).c_str());
    }
    std::printf(
        "  a step             at most %u decodes and %u tokens of prompts (%u alone); decodes %.1f on average; "
        "present at most %u\n",
        r.limits.decode_tokens, r.limits.prompt_tokens, r.limits.prompt_alone, r.mean_decodes, r.most_present);
    print_quantiles("to first token", r.first_token_ms);
    if (!options.sessions) print_quantiles("to first reply", r.first_reply_ms);
    print_quantiles("per token", r.token_ms);
    std::printf(
        "  fairness           tokens per step while answering: least %.3f, most %.3f; a conversation's mean per "
        "token %.2f to %.2f ms\n",
        least(r.share), most(r.share), least(r.mean_token_ms), most(r.mean_token_ms));
    std::printf("  digest             %.16s of tokens and logits\n", r.digest.c_str());
    std::printf("  failed answers     %llu; waits for KV blocks (prompts x steps) %llu\n",
                static_cast<unsigned long long>(r.failed), static_cast<unsigned long long>(r.waits_for_blocks));
    if (r.failed > 0) std::printf("  the first of them  %s\n", printable(r.first_failure).c_str());
}

void print_wake(const WakeReport& report, Format format) {
    if (format == Format::kJson) {
        Json parts;
        for (const Column& column : kColumns) parts[column.name] = Quantiles(values_of(report, column)).json();
        print_json({{"model", report.model},
                    {"engine", report.engine},
                    {"image_bytes", report.image_bytes},
                    {"tokens", report.tokens},
                    {"message_tokens", report.message_tokens},
                    {"repetitions", report.runs.size()},
                    {"ms", parts}});
        return;
    }
    std::printf("an image of %u tokens (%s), %s on %s, on a running node; then a message of %u tokens; %zu times\n",
                report.tokens, human_bytes(report.image_bytes).c_str(), report.model.c_str(), report.engine.c_str(),
                report.message_tokens, report.runs.size());
    for (const Column& column : kColumns) {
        const std::vector<double> values = values_of(report, column);
        std::printf("  %-24s median %8.3f   most %8.3f ms\n", column.name, quantile(values, 0.5), most(values));
    }
}

}  // namespace driftwood::cli
