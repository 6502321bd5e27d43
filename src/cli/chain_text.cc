#include "cli/chain_text.h"

#include <cstdio>
#include <cstdlib>

namespace driftwood::cli {
namespace {

std::string text(const Json& json, const char* key) { return json[key].get<std::string>(); }
double number(const Json& json, const char* key) { return json[key].get<double>(); }
unsigned long long count(const Json& json, const char* key) { return json[key].get<unsigned long long>(); }

std::string short_ms(double ms) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, ms < 10 ? "%.3f ms" : "%.1f ms", ms);
    return buffer;
}

std::string signed_bytes(double bytes) {
    return (bytes < 0 ? "-" : "") + human_bytes(static_cast<uint64_t>(std::abs(bytes)));
}

void print_gemm(const Json& rows) {
    std::printf("\n  GEMM, f32, square; medians; 'copied' = A and B out of guest memory, product there, C back\n");
    std::printf("  %6s %12s %12s %12s %9s %10s %10s %s\n", "size", "by the guest", "in place", "copied", "GFLOP/s",
                "max error", "rms error", "checked: beyond the bound, unlike the reference");
    for (const Json& row : rows) {
        std::printf("  %6llu %12s %12s %12s %9.1f %10.2g %10.2g %llu elements: %llu, %llu%s\n", count(row, "n"),
                    short_ms(number(row, "by_the_guest_ms")).c_str(), short_ms(number(row, "in_place_ms")).c_str(),
                    short_ms(number(row, "copied_ms")).c_str(), number(row, "in_place_gflops"),
                    number(row, "largest_error"), number(row, "rms_error"), count(row, "elements"),
                    count(row, "errors"), count(row, "elements_differing_from_reference"),
                    row["copied_has_the_same_bits"].get<bool>() ? "" : " (AND THE COPY HAS OTHER BITS)");
    }
}

// Of a device with memory of its own: which way it goes, and what crosses the bus.
void print_paths(const Json& rows, const Json& bus) {
    std::printf(
        "\n  Which way, and bytes over the bus for one product ('copied' = into the device's memory and back)\n");
    for (const Json& row : rows) {
        const bool in_place = text(row, "chosen") == "in_place";
        const bool faster = in_place == (number(row, "in_place_ms") <= number(row, "copied_ms"));
        std::printf("  %6llu in place %10s %12s   copied %10s %12s   takes: %s%s: %s\n", count(row, "n"),
                    human_bytes(count(row, "in_place_bus_bytes")).c_str(), short_ms(number(row, "in_place_ms")).c_str(),
                    human_bytes(count(row, "copied_bus_bytes")).c_str(), short_ms(number(row, "copied_ms")).c_str(),
                    in_place ? "in place" : "copied", faster ? "" : " (here the slower one)", text(row, "why").c_str());
    }
    std::printf(
        "  registered %s of guest memory in %s; in all %s to the device, %s back, of these %s through a buffer\n",
        human_bytes(count(bus, "registered_bytes")).c_str(), short_ms(number(bus, "register_ms")).c_str(),
        human_bytes(count(bus, "to_device_bytes")).c_str(), human_bytes(count(bus, "from_device_bytes")).c_str(),
        human_bytes(count(bus, "through_a_buffer_bytes")).c_str());
}

void print_resident(const Json& rows) {
    std::printf("\n  x · x over guest memory; resident memory that it added to the process (smaps_rollup, Rss)\n");
    std::printf("  %10s %14s %14s %12s %12s\n", "size", "in place", "copied", "in place", "copied");
    for (const Json& row : rows) {
        const std::string size = human_bytes(count(row, "bytes"));
        if (row.contains("left_out")) {
            std::printf("  %10s left out: %s\n", size.c_str(), text(row, "left_out").c_str());
            continue;
        }
        std::printf("  %10s %14s %14s %12s %12s\n", size.c_str(),
                    signed_bytes(number(row, "in_place_resident_delta_bytes")).c_str(),
                    signed_bytes(number(row, "copied_resident_delta_bytes")).c_str(),
                    short_ms(number(row, "in_place_ms")).c_str(), short_ms(number(row, "copied_ms")).c_str());
    }
}

void print_device(const Json& device) {
    std::printf("\nDevice '%s'\n", text(device, "device").c_str());
    std::printf("  first byte of linear memory, for the guest  %s   (what Wasmtime's compiled code adds offsets to)\n",
                text(device, "guest_pointer").c_str());
    std::printf("  … in the Region of the runtime              %s\n", text(device, "region_pointer").c_str());
    std::printf("  … for the device's kernels                  %s   %s\n", text(device, "device_pointer").c_str(),
                device["pointer_identity"].get<bool>() ? "the same" : "NOT THE SAME");
    print_gemm(device["gemm"]);
    if (device.contains("bus")) print_paths(device["gemm"], device["bus"]);
    print_resident(device["resident"]);
}

void print_calls(const Json& calls) {
    std::printf(
        "\nCrossing the guest boundary (medians of %llu rounds of CPU time; the loop's own %.2g ns taken off)\n",
        count(calls, "rounds"), number(calls, "loop_ns"));
    std::printf("  guest -> host, a checked range   %8.1f ns   (a million calls of driftwood_log, refused for level)\n",
                number(calls, "guest_to_host_ns"));
    std::printf("  guest -> host, a number          %8.1f ns   (a million calls of driftwood_session_tokens)\n",
                number(calls, "guest_to_host_number_ns"));
    std::printf("  host -> guest, an empty turn     %8.1f ns   (20,000 completions that nobody waits for)\n",
                number(calls, "host_to_guest_ns"));
}

void print_actors(const Json& actors) {
    std::printf("\n%llu actors of guest '%s', compiled once in %s, each until it waits for its first message\n",
                count(actors, "actors"), text(actors, "guest").c_str(), short_ms(number(actors, "compile_ms")).c_str());
    std::printf("  birth                            %8.3f ms   (median; slowest %.2f ms; without the compilation)\n",
                number(actors, "birth_ms"), number(actors, "birth_ms_slowest"));
    std::printf("  first turn                       %8.3f ms   (median)\n", number(actors, "first_turn_ms"));
    std::printf("  memory of an idle one            %11s   (Rss; %s as Pss, smaps_rollup, over all of them)\n",
                human_bytes(count(actors, "idle_resident_bytes")).c_str(),
                human_bytes(count(actors, "idle_proportional_bytes")).c_str());
    std::printf("    of its %s of linear memory  %11s   (own pages; the rest is the module's birth image, or zeros)\n",
                human_bytes(count(actors, "idle_linear_memory_bytes")).c_str(),
                human_bytes(count(actors, "idle_linear_memory_own_bytes")).c_str());
    std::printf("  mappings of an idle one          %8.2f      (/proc/self/maps)\n", number(actors, "idle_mappings"));
}

}  // namespace

void print_chain(const Json& measured) {
    const Json& machine = measured["machine"];
    std::printf("One pointer: guests' tensors where they lie. %s, %llu cores, %llu threads, pages of %s\n",
                text(machine, "cpu").c_str(), count(machine, "cores"), count(machine, "threads"),
                human_bytes(count(machine, "page_bytes")).c_str());
    for (const Json& device : measured["devices"]) print_device(device);
    print_calls(measured["calls"]);
    print_actors(measured["actors"]);
    std::printf("\npath: %s   pointers: %s   errors: %llu of %llu elements   unlike the reference: %llu   (%.1f s)\n",
                text(measured, "path").c_str(), measured["pointer_identity"].get<bool>() ? "identical" : "DIFFERENT",
                count(measured, "errors"), count(measured, "elements"),
                count(measured, "elements_differing_from_reference"), number(measured, "seconds"));
}

}  // namespace driftwood::cli
