// driftwood chain: a small laboratory. One pointer for guest, host and device, shown and measured on every device.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <optional>

#include "cli/chain_lab.h"
#include "cli/chain_text.h"
#include "cli/commands.h"
#include "compute/cpu/thread_pool.h"

namespace driftwood::cli {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint32_t kLargestGemm = 8192;  // three matrices of that size are 768 MiB

// What is asked of a device when nobody says otherwise.
struct DeviceRow {
    const char* name;
    uint32_t largest_gemm;
};
constexpr DeviceRow kDevices[] = {
    {"reference", 512},  // defines the bits one operation at a time: 2048 takes a minute
    {"cpu", 2048},
    {"cuda", 2048},
};

struct ChainOptions {
    std::vector<std::string> devices;
    std::vector<uint32_t> sizes;
    uint32_t threads = 0;
    std::optional<uint32_t> actors;
    bool quick = false;
    Format format = Format::kText;
};

LabOptions lab_options(const ChainOptions& options) {
    LabOptions lab;
    lab.gemm_sizes = options.sizes;
    if (options.quick) {
        lab.copy_bytes = {16 * kMiB};
        lab.gemm_check_steps = uint64_t{1} << 21;
        lab.rounds = 3;
        lab.actors = 20;
    } else {
        lab.copy_bytes = {16 * kMiB, 64 * kMiB, 256 * kMiB, 1024 * kMiB};
        lab.gemm_check_steps = uint64_t{1} << 27;
        lab.rounds = 15;
        lab.actors = 1000;
    }
    lab.actors = options.actors.value_or(lab.actors);
    if (isatty(STDERR_FILENO) != 0) {
        lab.progress = [](const std::string& what) { std::fprintf(stderr, "\r\033[Kmeasuring %s …", what.c_str()); };
    } else {
        lab.progress = [](const std::string&) {};
    }
    return lab;
}

std::vector<uint32_t> sizes_for(const ChainOptions& options, const DeviceRow& device) {
    if (!options.sizes.empty()) return options.sizes;
    if (options.quick) return {128};
    std::vector<uint32_t> sizes = {128, 256, 512, 1024, 2048};
    std::erase_if(sizes, [&](uint32_t n) { return n > device.largest_gemm; });
    return sizes;
}

std::string cpu_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("model name")) return line.substr(std::min(line.find(": "), line.size() - 2) + 2);
    }
    return "unknown";
}

Result<std::unique_ptr<node::Node>> make_node(const ChainOptions& options, const std::string& device, Clock& clock,
                                              Entropy& entropy) {
    node::NodeOptions node;
    node.device = device;
    node.threads = options.threads;
    node.limits.memory_bytes = uint64_t{4} << 30;  // the guest holds the largest tensors
    node.limits.turn_deadline_ms = 120'000;        // and fills them in one turn
    return node::Node::create(node, clock, entropy);
}

bool is_available(std::string_view name) {
    return std::ranges::any_of(compute::devices(),
                               [&](const auto& info) { return info.name == name && info.available; });
}

Result<Json> measure_device(const ChainOptions& options, const DeviceRow& row, LabOptions lab) {
    SystemClock clock;
    SystemEntropy entropy;
    DW_ASSIGN(const auto node, make_node(options, row.name, clock, entropy));
    DW_ASSIGN(LabGuest guest, LabGuest::create(*node));
    lab.gemm_sizes = sizes_for(options, row);
    Json device = {{"device", node->device().name()}, {"stages", node->device().stages()}};
    DW_ASSIGN(device["gemm"], lab_gemm(guest, node->device(), lab));
    DW_ASSIGN(device["resident"], lab_copies(guest, node->device(), lab));
    device.update(lab_pointers(guest, node->device()));  // after its use: a card knows registered memory alone
    device.update(lab_traffic(node->device()));
    return device;
}

// What all devices say together, and what the exit code is made of.
Json verdict(const Json& devices) {
    bool identity = true;
    uint64_t elements = 0, errors = 0, different = 0;
    for (const Json& device : devices) {
        identity = identity && device["pointer_identity"].get<bool>();
        for (const Json& row : device["gemm"]) {
            elements += row["elements"].get<uint64_t>();
            errors += row["errors"].get<uint64_t>();
            different += row["elements_differing_from_reference"].get<uint64_t>();
            if (!row["copied_has_the_same_bits"].get<bool>()) different += 1;
        }
    }
    return {{"path", identity ? "in_place" : "copied"},
            {"pointer_identity", identity},
            {"elements", elements},
            {"errors", errors},
            {"elements_differing_from_reference", different}};
}

Result<Json> chain(const ChainOptions& options) {
    const LabOptions lab = lab_options(options);
    const int64_t begin = monotonic_ns();
    const uint32_t cores = compute::available_cores();
    Json devices = Json::array();
    for (const DeviceRow& row : kDevices) {
        const bool wanted =
            options.devices.empty() || std::ranges::find(options.devices, row.name) != options.devices.end();
        if (!wanted || (options.devices.empty() && !is_available(row.name))) continue;
        DW_ASSIGN(Json device, measure_device(options, row, lab));
        devices.push_back(std::move(device));
    }
    SystemClock clock;
    SystemEntropy entropy;
    DW_ASSIGN(const auto node, make_node(options, "cpu", clock, entropy));
    DW_ASSIGN(LabGuest guest, LabGuest::create(*node));
    DW_ASSIGN(const Json calls, lab_calls(guest, lab));
    DW_ASSIGN(const Json actors, lab_actors(*node, lab));
    Json all = verdict(devices);
    all["guest_to_host_ns"] = calls["guest_to_host_ns"];
    all["machine"] = {{"cpu", cpu_name()},
                      {"cores", cores},
                      {"threads", options.threads == 0 ? cores : options.threads},
                      {"page_bytes", memory::page_size()}};
    all["devices"] = std::move(devices);
    all["calls"] = calls;
    all["actors"] = actors;
    all["seconds"] = ms_since(begin) / 1000;
    if (isatty(STDERR_FILENO) != 0) std::fputs("\r\033[K", stderr);
    return all;
}

std::string known_devices() {
    std::string names;
    for (const DeviceRow& row : kDevices) names += std::string(names.empty() ? "" : ", ") + row.name;
    return names;
}

}  // namespace

void add_chain(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<ChainOptions>();
    CLI::App* command =
        app.add_subcommand("chain", "Measure what one memory for guest, host and device costs and saves");
    std::vector<std::string> names;
    for (const DeviceRow& row : kDevices) names.emplace_back(row.name);
    command->add_option("--device", options->devices, "Only this device (may be repeated): " + known_devices())
        ->check(CLI::IsMember(names));
    command->add_option("--sizes", options->sizes, "Sizes of the square matrices (default: 128,256,512,1024,2048)")
        ->delimiter(',')
        ->check(CLI::Range(1U, kLargestGemm));
    command->add_option("--threads", options->threads, "Threads of the device (0: one per core)")
        ->check(CLI::Range(0U, 1024U));
    command->add_option("--actors", options->actors, "Idle actors, alive at once (default: 1000)")
        ->check(CLI::Range(1U, 1'000'000U));
    command->add_flag("--quick", options->quick, "Little of everything: a few seconds, rough figures");
    command->add_flag_callback(
        "--json", [options] { options->format = Format::kJson; }, "Print JSON");
    command->callback([options, &exit_code] {
        const auto shown = chain(*options);
        if (!shown.ok()) {
            exit_code = report(shown.error(), options->format);
            return;
        }
        options->format == Format::kJson ? print_json(*shown) : print_chain(*shown);
        const Json& j = *shown;
        if (!j["pointer_identity"].get<bool>() || j["errors"] != 0 || j["elements_differing_from_reference"] != 0) {
            exit_code = 1;
        }
    });
}

}  // namespace driftwood::cli
