// What a device does with a guest's tensors where they lie, beside the same work on an explicit copy.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "cli/chain_lab.h"
#include "cli/process_memory.h"
#include "memory/available.h"

namespace driftwood::cli {
namespace {

constexpr uint32_t kColumns = 4096;  // of the rows that the copies are measured with
constexpr double kEnoughMs = 300;    // a size is not timed for longer than this, and
constexpr size_t kFewestRounds = 3;  // not less often
constexpr int kMemoryFactor = 3;     // what must be free for a copy: memory, copy and as much again

struct Errors {
    uint64_t elements = 0;
    uint64_t wrong = 0;  // beyond the bound of a chain of n fused multiply-adds
    double largest = 0;  // |c - exact|
    double sum_of_squares = 0;
};

// |fl(a·b) - a·b| <= gamma_n |a||b| for any order of n fused operations (Higham, Accuracy and Stability, 3.1). One row
// of C, evaluated in float64.
void add_errors(const float* a, const float* b, const float* c, uint32_t n, Errors& errors) {
    const double gamma = n * 0x1p-24 / (1 - n * 0x1p-24);
    std::vector<double> exact(n, 0.0), magnitude(n, 0.0);
    for (uint32_t k = 0; k < n; ++k) {
        for (uint32_t j = 0; j < n; ++j) {
            const double product = static_cast<double>(a[k]) * static_cast<double>(b[size_t{k} * n + j]);
            exact[j] += product;
            magnitude[j] += std::abs(product);
        }
    }
    for (uint32_t j = 0; j < n; ++j) {
        const double off = std::abs(static_cast<double>(c[j]) - exact[j]);
        if (!(off <= gamma * magnitude[j])) ++errors.wrong;
        errors.largest = std::max(errors.largest, off);
        errors.sum_of_squares += off * off;
    }
    errors.elements += n;
}

// Rows of C = A · B that lie `step` apart, by the reference device over a Region of its own.
Result<std::vector<float>> by_reference(const float* a, const float* b, uint32_t n, uint32_t rows, uint32_t step) {
    const size_t matrix = size_t{n} * n * sizeof(float), some = size_t{rows} * n * sizeof(float);
    DW_ASSIGN(const auto device, compute::make_device("reference"));
    DW_ASSIGN(auto region, memory::Region::reserve(matrix + 2 * some));
    DW_TRY(region.grow(matrix + 2 * some));
    std::memcpy(region.base(), b, matrix);
    for (uint32_t row = 0; row < rows; ++row) {
        std::memcpy(region.base() + matrix + size_t{row} * n * sizeof(float), a + size_t{row} * step * n,
                    n * sizeof(float));
    }
    compute::Gemm gemm{.a_offset = matrix, .b_offset = 0, .c_offset = matrix + some, .m = rows, .n = n, .k = n};
    gemm.lda = gemm.ldb = gemm.ldc = n;
    DW_TRY(device->gemm(region, gemm));
    std::vector<float> c(size_t{rows} * n);
    std::memcpy(c.data(), region.base() + gemm.c_offset, some);
    return c;
}

// The matrices of one product, in the guest's memory and in a copy.
struct Product {
    LabGuest& guest;
    compute::Device& device;
    LabGuest::Answer at;
    uint32_t n;
    memory::Region copy;  // A, B, C one after the other

    size_t bytes() const { return size_t{n} * n * sizeof(float); }
    const float* floats(uint32_t offset) const {
        return reinterpret_cast<const float*>(guest.memory().base() + offset);
    }
    compute::Gemm gemm(uint64_t a, uint64_t b, uint64_t c) const {
        return {.a_offset = a, .b_offset = b, .c_offset = c, .m = n, .n = n, .k = n, .lda = n, .ldb = n, .ldc = n};
    }
    compute::Gemm in_guest() const { return gemm(at.a, at.b, at.c); }
    Result<void> in_place() { return device.gemm(guest.memory(), in_guest(), compute::Path::kInPlace); }
    // By the device itself where it has memory to copy to.
    Result<void> copied(uint8_t* c) {
        if (device.stages()) {
            DW_TRY(device.gemm(guest.memory(), in_guest(), compute::Path::kStaged));
            std::memcpy(c, floats(at.c), bytes());
            return {};
        }
        std::memcpy(copy.base(), floats(at.a), bytes());
        std::memcpy(copy.base() + bytes(), floats(at.b), bytes());
        DW_TRY(device.gemm(copy, gemm(0, bytes(), 2 * bytes())));
        std::memcpy(c, copy.base() + 2 * bytes(), bytes());
        return {};
    }
};

// Both ways in turns, so that both see the same machine.
Result<Json> time_product(Product& product) {
    std::vector<double> in_place, copied;
    std::vector<uint8_t> c(product.bytes());
    DW_TRY(product.copied(c.data()));  // the copy's pages are there before it is timed
    uint64_t in_place_bytes = 0, copied_bytes = 0;
    const auto crossed = [&] {
        const compute::BusTraffic traffic = product.device.traffic();
        return traffic.to_device + traffic.from_device;
    };
    const int64_t begin = monotonic_ns();
    while (in_place.size() < kFewestRounds || (ms_since(begin) < kEnoughMs && in_place.size() < 100)) {
        const uint64_t before = crossed();
        int64_t start = monotonic_ns();
        DW_TRY(product.in_place());
        in_place.push_back(ms_since(start));
        in_place_bytes = crossed() - before;
        start = monotonic_ns();
        DW_TRY(product.copied(c.data()));
        copied.push_back(ms_since(start));
        copied_bytes = crossed() - before - in_place_bytes;
    }
    DW_TRY(product.in_place());  // what is compared is not what the copy left there
    const compute::Choice choice = product.device.choose(product.in_guest());
    const bool same = std::memcmp(c.data(), product.floats(product.at.c), product.bytes()) == 0;
    const double n = product.n;
    const double ms = median(in_place);
    return Json{{"in_place_ms", ms},
                {"copied_ms", median(copied)},
                {"in_place_gflops", 2 * n * n * n / ms / 1e6},
                {"copied_has_the_same_bits", same},
                {"in_place_bus_bytes", in_place_bytes},
                {"copied_bus_bytes", copied_bytes},
                {"chosen", choice.path == compute::Path::kInPlace ? "in_place" : "copied"},
                {"why", choice.why},
                {"rounds", in_place.size()}};
}

Result<Json> check_product(const Product& product, uint64_t check_steps) {
    const uint32_t n = product.n;
    const auto rows = static_cast<uint32_t>(std::clamp<uint64_t>(check_steps / (uint64_t{n} * n), 1, n));
    const uint32_t step = n / rows;
    DW_ASSIGN(const auto reference,
              by_reference(product.floats(product.at.a), product.floats(product.at.b), n, rows, step));
    Errors errors;
    uint64_t different = 0;
    for (uint32_t row = 0; row < rows; ++row) {
        const size_t at = size_t{row} * step * n;
        const float* c = product.floats(product.at.c) + at;
        add_errors(product.floats(product.at.a) + at, product.floats(product.at.b), c, n, errors);
        for (uint32_t j = 0; j < n; ++j) {
            different += std::memcmp(&c[j], &reference[size_t{row} * n + j], sizeof(float)) != 0 ? 1 : 0;
        }
    }
    return Json{{"elements", errors.elements},
                {"errors", errors.wrong},
                {"largest_error", errors.largest},
                {"rms_error", std::sqrt(errors.sum_of_squares / static_cast<double>(errors.elements))},
                {"elements_differing_from_reference", different}};
}

// x · x over `bytes` of the Region, in place: every byte is read and written.
Result<void> square(compute::Device& device, memory::Region& region, uint64_t offset, uint64_t bytes) {
    compute::Rows rows{.kind = compute::RowKind::kMultiply};
    rows.x_offset = rows.y_offset = rows.out_offset = offset;
    rows.rows = static_cast<uint32_t>(bytes / sizeof(float) / kColumns);
    rows.cols = rows.ldx = rows.ldy = rows.ldout = kColumns;
    return device.rows(region, rows);
}

Result<Json> measure_copy(LabGuest& guest, compute::Device& device, uint64_t bytes) {
    DW_ASSIGN(const LabGuest::Answer at, guest.ask("fill " + std::to_string(bytes)));
    memory::Region& memory = guest.memory();
    DW_TRY(square(device, memory, at.a, bytes));  // so that threads and code are there
    DW_ASSIGN(const ProcessMemory before, process_memory());
    int64_t start = monotonic_ns();
    DW_TRY(square(device, memory, at.a, bytes));
    const double in_place_ms = ms_since(start);
    DW_ASSIGN(const ProcessMemory between, process_memory());
    start = monotonic_ns();
    DW_ASSIGN(auto copy, memory::Region::reserve(bytes));
    DW_TRY(copy.grow(bytes));
    std::memcpy(copy.base(), memory.base() + at.a, bytes);
    DW_TRY(square(device, copy, 0, bytes));
    std::memcpy(memory.base() + at.a, copy.base(), bytes);
    const double copied_ms = ms_since(start);
    DW_ASSIGN(const ProcessMemory after, process_memory());
    const auto delta = [](const ProcessMemory& from, const ProcessMemory& to) {
        return static_cast<int64_t>(to.resident_bytes) - static_cast<int64_t>(from.resident_bytes);
    };
    return Json{{"bytes", bytes},
                {"in_place_resident_delta_bytes", delta(before, between)},
                {"copied_resident_delta_bytes", delta(between, after)},
                {"in_place_ms", in_place_ms},
                {"copied_ms", copied_ms}};
}

}  // namespace

Result<Json> lab_gemm(LabGuest& guest, compute::Device& device, const LabOptions& options) {
    Json rows = Json::array();
    for (const uint32_t n : options.gemm_sizes) {
        options.progress(std::string(device.name()) + ": GEMM of " + std::to_string(n));
        DW_ASSIGN(const LabGuest::Answer at, guest.ask("gemm " + std::to_string(n)));
        Product product{.guest = guest, .device = device, .at = at, .n = n, .copy = {}};
        DW_ASSIGN(product.copy, memory::Region::reserve(3 * product.bytes()));
        DW_TRY(product.copy.grow(3 * product.bytes()));
        Json row = {{"n", n}, {"by_the_guest_ms", to_ms(guest.tensor_ns())}};
        DW_ASSIGN(const Json checked, check_product(product, options.gemm_check_steps));
        DW_ASSIGN(const Json timed, time_product(product));
        row.update(timed);
        row.update(checked);
        rows.push_back(std::move(row));
    }
    return rows;
}

Json lab_traffic(const compute::Device& device) {
    if (!device.stages()) return Json::object();
    const compute::BusTraffic traffic = device.traffic();
    return {{"bus",
             {{"to_device_bytes", traffic.to_device},
              {"from_device_bytes", traffic.from_device},
              {"registered_bytes", traffic.registered},
              {"register_ms", to_ms(static_cast<int64_t>(traffic.register_ns))},
              {"through_a_buffer_bytes", traffic.bounced}}}};
}

Result<Json> lab_copies(LabGuest& guest, compute::Device& device, const LabOptions& options) {
    Json rows = Json::array();
    for (const uint64_t bytes : options.copy_bytes) {
        options.progress(std::string(device.name()) + ": " + human_bytes(bytes) + " in place and copied");
        const uint64_t available = memory::available_bytes();
        if (available / kMemoryFactor < bytes) {
            rows.push_back({{"bytes", bytes}, {"left_out", "only " + human_bytes(available) + " of memory are free"}});
            continue;
        }
        DW_ASSIGN(Json row, measure_copy(guest, device, bytes));
        rows.push_back(std::move(row));
    }
    return rows;
}

}  // namespace driftwood::cli
