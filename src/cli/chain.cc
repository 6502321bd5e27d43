// driftwood chain: one pointer, shown. A guest fills matrices in its linear memory, the device multiplies them there.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/output.h"
#include "node/builtin.h"
#include "node/node.h"

namespace driftwood::cli {
namespace {

// Where the guest says its matrices lie, as it replied.
struct GuestAnswer {
    uint32_t error, a, b, c, size;
};

struct Errors {
    uint64_t wrong = 0;  // elements beyond the bound of a chain of n fused multiply-adds
    double largest = 0;  // largest |c - exact| over all elements
    uint64_t elements = 0;
    uint64_t bits_differing_from_reference = 0;
};

// |fl(a·b) - a·b| <= gamma_n |a||b| for any order of n fused operations (Higham, Accuracy and Stability, 3.1).
Errors compare(const float* a, const float* b, const float* c, const float* reference, uint32_t n) {
    Errors errors;
    const double gamma = n * 0x1p-24 / (1 - n * 0x1p-24);
    for (uint32_t i = 0; i < n; ++i) {
        for (uint32_t j = 0; j < n; ++j) {
            double exact = 0;
            double magnitude = 0;
            for (uint32_t k = 0; k < n; ++k) {
                const double product = static_cast<double>(a[i * n + k]) * static_cast<double>(b[k * n + j]);
                exact += product;
                magnitude += std::abs(product);
            }
            const double off = std::abs(static_cast<double>(c[i * n + j]) - exact);
            errors.largest = std::max(errors.largest, off);
            if (!(off <= gamma * magnitude)) ++errors.wrong;
            if (std::memcmp(&c[i * n + j], &reference[i * n + j], sizeof(float)) != 0)
                ++errors.bits_differing_from_reference;
            ++errors.elements;
        }
    }
    return errors;
}

// The same product by the reference device, over a Region of its own.
Result<std::vector<float>> by_reference(const float* a, const float* b, uint32_t n) {
    const size_t bytes = size_t{n} * n * sizeof(float);
    DW_ASSIGN(const auto device, compute::make_device("reference"));
    DW_ASSIGN(auto region, memory::Region::reserve(3 * bytes));
    DW_TRY(region.grow(3 * bytes));
    std::memcpy(region.base(), a, bytes);
    std::memcpy(region.base() + bytes, b, bytes);
    DW_TRY(device->gemm(region, {.a_offset = 0,
                                 .b_offset = bytes,
                                 .c_offset = 2 * bytes,
                                 .m = n,
                                 .n = n,
                                 .k = n,
                                 .lda = n,
                                 .ldb = n,
                                 .ldc = n}));
    std::vector<float> c(size_t{n} * n);
    std::memcpy(c.data(), region.base() + 2 * bytes, bytes);
    return c;
}

std::string address(const void* pointer) {
    char text[24];
    std::snprintf(text, sizeof text, "%p", pointer);
    return text;
}

Result<Json> chain() {
    SystemClock clock;
    SystemEntropy entropy;
    DW_ASSIGN(auto node, node::Node::create({}, clock, entropy));
    const auto guest = node::gemm_guest();
    DW_ASSIGN(auto live, node->spawn({guest.begin(), guest.end()}, {}));
    wasm::Instance& instance = live.actor->instance();
    memory::Region& region = instance.memory();
    const uint64_t resident_before = region.resident_bytes().value();

    Conversation conversation(std::move(live));
    GuestAnswer answer{};
    bool answered = false;
    conversation.set_sink({.reply =
                               [&](std::string_view bytes, bool) {
                                   answered = bytes.size() == sizeof answer;
                                   if (answered) std::memcpy(&answer, bytes.data(), sizeof answer);
                               },
                           .log = [](int32_t, std::string_view) {}});
    int64_t gemm_ns = 0;
    auto last = std::chrono::steady_clock::now();
    DW_TRY(conversation.advance([&](const actor::Step& step) {
        const auto now = std::chrono::steady_clock::now();
        if (step.kind == actor::Step::Kind::kTensor) gemm_ns = std::chrono::nanoseconds(now - last).count();
        last = now;
        return false;
    }));
    if (!answered || answer.error != 0) return error(ErrorCode::kInternal, "[chain] the guest could not multiply");

    const auto at = [&](uint32_t offset) { return reinterpret_cast<const float*>(region.base() + offset); };
    DW_ASSIGN(const auto reference, by_reference(at(answer.a), at(answer.b), answer.size));
    const Errors errors = compare(at(answer.a), at(answer.b), at(answer.c), reference.data(), answer.size);

    const uint8_t* const guest_pointer = instance.guest_base() + answer.c;
    const uint8_t* const region_pointer = region.base() + answer.c;
    const uint8_t* const device_pointer = node->device().address(region) + answer.c;
    return Json{{"device", node->device().name()},
                {"path", "in_place"},
                {"guest_pointer", address(guest_pointer)},
                {"region_pointer", address(region_pointer)},
                {"device_pointer", address(device_pointer)},
                {"pointer_identity", guest_pointer == region_pointer && region_pointer == device_pointer},
                {"linear_memory_bytes", region.size()},
                {"resident_delta_bytes",
                 static_cast<int64_t>(region.resident_bytes().value()) - static_cast<int64_t>(resident_before)},
                {"gemm", std::to_string(answer.size) + "x" + std::to_string(answer.size)},
                {"gemm_ms", to_ms(gemm_ns)},
                {"elements", errors.elements},
                {"errors", errors.wrong},
                {"largest_error", errors.largest},
                {"elements_differing_from_reference", errors.bits_differing_from_reference}};
}

void print_text(const Json& j) {
    const auto text = [&](const char* key) { return j[key].get<std::string>(); };
    std::printf("One pointer: a guest's %s f32 matrices, multiplied in its own linear memory by device '%s'\n\n",
                text("gemm").c_str(), text("device").c_str());
    std::printf("  C as Wasmtime has it for the guest %s\n", text("guest_pointer").c_str());
    std::printf("  C in the Region                    %s\n", text("region_pointer").c_str());
    std::printf("  C as the kernel gets it            %s   %s\n", text("device_pointer").c_str(),
                j["pointer_identity"].get<bool>() ? "the same" : "NOT THE SAME");
    std::printf("  GEMM in place                      %s\n", human_ms(j["gemm_ms"].get<double>()).c_str());
    std::printf("  errors against float64             %llu of %llu elements (largest difference %.3g)\n",
                j["errors"].get<unsigned long long>(), j["elements"].get<unsigned long long>(),
                j["largest_error"].get<double>());
    std::printf("  elements unlike the reference's    %llu\n",
                j["elements_differing_from_reference"].get<unsigned long long>());
}

}  // namespace

void add_chain(CLI::App& app, int& exit_code) {
    auto format = std::make_shared<Format>(Format::kText);
    CLI::App* command = app.add_subcommand("chain", "Show that guest, host and device share one pointer");
    command->add_flag_callback(
        "--json", [format] { *format = Format::kJson; }, "Print JSON");
    command->callback([format, &exit_code] {
        const auto shown = chain();
        if (!shown.ok()) {
            exit_code = report(shown.error(), *format);
            return;
        }
        *format == Format::kJson ? print_json(*shown) : print_text(*shown);
        const Json& j = *shown;
        if (!j["pointer_identity"].get<bool>() || j["errors"] != 0) exit_code = 1;
    });
}

}  // namespace driftwood::cli
