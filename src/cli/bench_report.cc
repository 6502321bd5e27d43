// The table of llama-bench with four columns more, and the same numbers as CSV and JSON under llama-bench's names.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>

#include "cli/bench.h"
#include "cli/output.h"
#include "cli/weights_option.h"

namespace driftwood::cli {
namespace {

std::string cpu_name() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        if (line.starts_with("model name")) return printable(line.substr(std::min(line.find(':') + 2, line.size())));
    }
    return "unknown";
}

std::string now_utc() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

std::string number(const char* format, double value) {
    char text[64];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

struct Shares {
    double bytes_per_s;
    double bandwidth;   // 0…1, 0 when not known
    double arithmetic;  // 0…1, 0 when not known
    const char* bound;
};

Shares shares_of(const BenchReport& report, const BenchResult& result) {
    const BenchWork work = work_of(*report.spec, result.one);
    const BenchPeak& peak = report.peaks.at(result.one.threads);
    const double seconds = mean(result.seconds);
    Shares shares{.bytes_per_s = work.bytes / seconds, .bandwidth = 0, .arithmetic = 0, .bound = "neither"};
    if (peak.bytes_per_s > 0) shares.bandwidth = shares.bytes_per_s / peak.bytes_per_s;
    if (peak.multiply_adds_per_s > 0) shares.arithmetic = work.multiply_adds / seconds / peak.multiply_adds_per_s;
    if (std::max(shares.bandwidth, shares.arithmetic) >= 0.4) {
        shares.bound = shares.bandwidth > shares.arithmetic ? "memory" : "arithmetic";
    }
    return shares;
}

std::vector<double> speeds(const BenchResult& result) {
    std::vector<double> out;
    for (const double seconds : result.seconds) out.push_back(tokens_of(result.one) / seconds);
    return out;
}

// In llama-bench's order and under its names, then what it has not.
Json fields(const BenchReport& report, const BenchResult& result) {
    const Shares shares = shares_of(report, result);
    std::vector<double> ns;
    for (const double seconds : result.seconds) ns.push_back(seconds * 1e9);
    const std::vector<double> rates = speeds(result);
    const BenchPeak& peak = report.peaks.at(result.one.threads);
    return {{"cpu_info", cpu_name()},
            {"backends", report.engine == "cuda" ? "CUDA" : "CPU"},
            {"isa", report.engine},
            {"model_filename", report.model_file},
            {"model_type", report.model_type},
            {"model_size", report.model_bytes},
            {"model_n_params", report.parameters},
            {"n_batch", result.one.n_batch},
            {"n_threads", result.one.threads},
            {"n_sessions", result.one.sessions},
            {"use_mmap", !report.weights.copied},
            {"weights_huge_bytes", report.weights.huge_bytes},
            {"n_prompt", result.one.n_prompt},
            {"n_gen", result.one.n_gen},
            {"n_depth", result.one.depth},
            {"test_time", now_utc()},
            {"avg_ns", static_cast<uint64_t>(mean(ns))},
            {"stddev_ns", static_cast<uint64_t>(deviation(ns))},
            {"avg_ts", mean(rates)},
            {"stddev_ts", deviation(rates)},
            {"bytes_per_s", shares.bytes_per_s},
            {"peak_bytes_per_s", peak.bytes_per_s},
            {"bandwidth_share", shares.bandwidth},
            {"peak_multiply_adds_per_s", peak.multiply_adds_per_s},
            {"multiply_adds_share", shares.arithmetic},
            {"bound_by", shares.bound},
            {"samples_ns", ns},
            {"samples_ts", rates}};
}

void print_csv(const Json& fields, bool names) {
    std::string line;
    for (const auto& [name, value] : fields.items()) {
        if (value.is_array()) continue;
        if (!line.empty()) line += ",";
        if (names) {
            line += name;
        } else {
            std::string text = value.is_string() ? value.get<std::string>() : value.dump();
            for (size_t at = 0; (at = text.find('"', at)) != std::string::npos; at += 2) text.insert(at, 1, '"');
            line += "\"" + text + "\"";
        }
    }
    std::printf("%s\n", line.c_str());
}

}  // namespace

void print_header(const BenchReport& report, BenchFormat format) {
    if (format == BenchFormat::kJson) std::printf("[\n");
    if (format != BenchFormat::kMarkdown) return;
    std::printf("| %-24s | %10s | %10s | %-7s | %7s |%s%s %18s | %16s | %7s | %11s | %11s | %-10s |\n", "model", "size",
                "params", "isa", "threads", report.many_batches ? " n_batch |" : "",
                report.many_sessions ? " sessions |" : "", "test", "t/s", "GB/s", "% bandwidth", "% int8 peak",
                "bound by");
    std::printf(
        "| ------------------------ | ---------: | ---------: | ------- | ------: |%s%s -----------------: | "
        "---------------: | ------: | ----------: | ----------: | ---------- |\n",
        report.many_batches ? " ------: |" : "", report.many_sessions ? " -------: |" : "");
    std::fflush(stdout);
}

void print_result(const BenchReport& report, BenchFormat format, const BenchResult& result, bool first) {
    if (format == BenchFormat::kJson) {
        std::printf("%s%s", first ? "" : ",\n",
                    fields(report, result).dump(2, ' ', false, Json::error_handler_t::replace).c_str());
    } else if (format == BenchFormat::kCsv) {
        const Json row = fields(report, result);
        if (first) print_csv(row, true);
        print_csv(row, false);
    } else {
        const Shares shares = shares_of(report, result);
        const std::vector<double> rates = speeds(result);
        const std::string batch = report.many_batches ? number(" %7.0f |", result.one.n_batch) : "";
        const std::string sessions = report.many_sessions ? number(" %8.0f |", result.one.sessions) : "";
        const auto percent = [](double share) { return share > 0 ? number("%.0f", 100 * share) : std::string("?"); };
        const bool known = shares.bandwidth > 0 || shares.arithmetic > 0;
        std::printf("| %-24s | %10s | %10s | %-7s | %7u |%s%s %18s | %16s | %7.1f | %11s | %11s | %-10s |\n",
                    printable(report.model_type).c_str(), human_bytes(report.model_bytes).c_str(),
                    number("%.2f B", static_cast<double>(report.parameters) / 1e9).c_str(), report.engine.c_str(),
                    result.one.threads, batch.c_str(), sessions.c_str(), case_name(result.one).c_str(),
                    (number("%.2f", mean(rates)) + number(" ± %.2f", deviation(rates))).c_str(),
                    shares.bytes_per_s / 1e9, percent(shares.bandwidth).c_str(), percent(shares.arithmetic).c_str(),
                    known ? shares.bound : "?");
    }
    std::fflush(stdout);
}

void print_footer(const BenchReport& report, BenchFormat format) {
    if (format == BenchFormat::kJson) std::printf("\n]\n");
    if (format != BenchFormat::kMarkdown) return;
    std::printf("\n%s\n", cpu_name().c_str());
    if (report.engine != "cuda") std::printf("weights: %s\n", printable(weights_text(report.weights)).c_str());
    for (const auto& [threads, peak] : report.peaks) {
        if (peak.bytes_per_s == 0) continue;
        std::printf("%u thread(s): memory is read at %.1f GB/s", threads, peak.bytes_per_s / 1e9);
        if (peak.multiply_adds_per_s > 0) {
            std::printf(", 8-bit multiply-adds run at %.0f G/s", peak.multiply_adds_per_s / 1e9);
        }
        std::printf("\n");
    }
}

}  // namespace driftwood::cli
