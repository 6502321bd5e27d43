// What a card does with memory that is not its own, shown on the card: guests' Regions where they lie (which mappings
// register without a copy, bits against the reference, a fork of a Region that the card is writing, in place beside
// staged), the pool of KV blocks, and what a failing card leaves behind.
//
//   cuda_device_check [regions] [bits] [fork] [paths] [kv] [sessions] [shared] [full] [parts] [fault]    (default: all)
//
// Exit code: 0 all is right, 1 something is not, 2 there is no card.
#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "bench/cuda_device_check.h"
#include "compute/cuda/cuda.h"
#include "compute/cuda/device.h"
#include "compute/half.h"
#include "compute/test_spec.h"

namespace driftwood::compute {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

memory::Region region_of(size_t size, memory::Backing backing = memory::Backing::kAnonymous) {
    auto region = memory::Region::reserve(size, 0, backing).value();
    region.grow(size).value();
    return region;
}

// ---- which mappings register, and what that copies

size_t own_bytes(const memory::Region& region) {
    const auto footprint = region.footprint().value();
    return footprint.resident_bytes - footprint.shared_bytes;
}

// Registers all of `region` by a product on it; its pages have been read.
void show_registration(const char* kind, memory::Region& region) {
    auto device = cuda::CudaDevice::create().value();
    for (size_t i = 0; i < region.size(); i += 64)
        static_cast<void>(*static_cast<volatile uint8_t*>(region.base() + i));
    const size_t before = own_bytes(region);
    // x + x over all of it, in place.
    constexpr uint32_t kCols = 4096;
    Rows rows{.kind = RowKind::kAdd, .rows = static_cast<uint32_t>(region.size() / kCols / 4), .cols = kCols};
    rows.ldx = rows.ldy = rows.ldout = kCols;
    device->rows(region, rows, Path::kInPlace).value();
    const BusTraffic traffic = device->traffic();
    const size_t copied = own_bytes(region) - before;
    std::printf(
        "  %-34s %-10s %6.1f of %.1f MB registered in %6.2f ms, %6.1f MB of pages copied, device pointer %s%s\n", kind,
        traffic.registered > 0 ? "registers" : "refused", static_cast<double>(traffic.registered) * 1e-6,
        static_cast<double>(region.size()) * 1e-6, static_cast<double>(traffic.register_ns) * 1e-6,
        static_cast<double>(copied) * 1e-6, device->address(region) == region.base() ? "the same" : "ANOTHER",
        traffic.bounced > 0 ? ", staged through a pinned buffer" : "");
}

bool check_regions() {
    constexpr size_t kSize = 64 * kMiB;
    std::printf("registering 64 MB of guest memory, by kind of mapping\n");
    const auto fill = [](memory::Region& region) { std::memset(region.base(), 1, region.size()); };
    {
        memory::Region warm = region_of(kMiB);
        fill(warm);
        auto device = cuda::CudaDevice::create().value();
        Rows rows{.kind = RowKind::kSilu, .rows = 1, .cols = 64, .ldx = 64, .ldout = 64};
        device->rows(warm, rows).value();
        std::printf("  64 floats of a 1 MB Region: %llu bytes registered\n",
                    static_cast<unsigned long long>(device->traffic().registered));
    }
    memory::Region anonymous = region_of(kSize);
    fill(anonymous);
    show_registration("anonymous", anonymous);
    memory::Region live = region_of(kSize, memory::Backing::kShareable);
    fill(live);
    show_registration("memfd, shared, before a fork", live);
    memory::Region parent = region_of(kSize, memory::Backing::kShareable);
    fill(parent);
    memory::Region child = parent.fork().value();
    show_registration("memfd, private, parent of a fork", parent);
    show_registration("memfd, private, child of a fork", child);
    char path[] = "/tmp/cuda_device_check_XXXXXX";
    const int fd = mkstemp(path);
    unlink(path);
    const std::vector<uint8_t> bytes(kSize, 1);
    if (write(fd, bytes.data(), kSize) != static_cast<ssize_t>(kSize)) check_failed("no room for a file");
    memory::Region mapped = region_of(kSize);
    mapped.map_file(0, fd, 0, kSize).value();
    show_registration("file, private", mapped);
    close(fd);
    return true;
}

// ---- bits

float any_float(TestRandom& random, bool any) {
    return any ? std::bit_cast<float>(static_cast<uint32_t>(random.bits())) : random.uniform();
}

void fill(memory::Region& region, TestRandom& random, bool any) {
    auto* words = reinterpret_cast<float*>(region.base());
    for (size_t i = 0; i < region.size() / 4; ++i) words[i] = any_float(random, any);
}

void fill_as(uint8_t* at, size_t count, ElementType type, TestRandom& random, bool any) {
    for (size_t i = 0; i < count; ++i) {
        const float x = any_float(random, any);
        if (type == ElementType::kF32) std::memcpy(at + 4 * i, &x, 4);
        const auto half = any                         ? static_cast<uint16_t>(random.bits())
                          : type == ElementType::kF16 ? float_to_half(x)
                                                      : float_to_bf16(x);
        if (type != ElementType::kF32) std::memcpy(at + 2 * i, &half, 2);
    }
}

struct Tally {
    uint64_t operations = 0, elements = 0, wrong = 0;
};

// One operation on a copy of `before`, by the reference and by the card on both paths; everything is compared, also
// what lies between and behind.
template <class Operation>
void compare(Device& card, Device& reference, const memory::Region& before, const Operation& operation,
             uint64_t elements, const char* what, Tally& tally) {
    memory::Region want = region_of(before.size());
    std::memcpy(want.base(), before.base(), before.size());
    if constexpr (std::is_same_v<Operation, Gemm>) {
        reference.gemm(want, operation).value();
    } else {
        reference.rows(want, operation).value();
    }
    for (const Path path : {Path::kInPlace, Path::kStaged}) {
        memory::Region got = region_of(before.size());
        std::memcpy(got.base(), before.base(), before.size());
        if constexpr (std::is_same_v<Operation, Gemm>) {
            card.gemm(got, operation, path).value();
        } else {
            card.rows(got, operation, path).value();
        }
        ++tally.operations;
        tally.elements += elements;
        if (std::memcmp(got.base(), want.base(), want.size()) == 0) continue;
        ++tally.wrong;
        size_t at = 0;
        while (got.base()[at] == want.base()[at]) ++at;
        if (tally.wrong < 10) {
            std::printf("  DIFFERS: %s, path %d, first at byte %zu: %08x, want %08x\n", what, static_cast<int>(path),
                        at, reinterpret_cast<uint32_t*>(got.base())[at / 4],
                        reinterpret_cast<uint32_t*>(want.base())[at / 4]);
        }
    }
}

void check_gemms(Device& card, Device& reference, Tally& tally) {
    TestRandom random(11);
    for (int round = 0; round < 120; ++round) {
        const bool any = round % 3 == 2, large = round % 20 == 0;
        const uint32_t limit = large ? 300 : 70;
        Gemm g{.m = 1 + random.below(limit), .n = 1 + random.below(limit), .k = random.below(limit)};
        g.a_type = static_cast<ElementType>(random.below(3));
        g.b_type = static_cast<ElementType>(random.below(3));
        g.c_type = static_cast<ElementType>(random.below(3));
        g.a_transpose = static_cast<Transpose>(random.below(2));
        g.b_transpose = static_cast<Transpose>(random.below(2));
        g.accumulate = random.below(2) == 1;
        if (round == 0) g.m = 700, g.n = 900, g.k = 333;  // the widest tiles
        if (round == 1) g.m = g.n = g.k = 129, g.a_transpose = g.b_transpose = Transpose::kYes;
        const uint32_t a_cols = g.a_transpose == Transpose::kYes ? g.m : g.k;
        const uint32_t b_cols = g.b_transpose == Transpose::kYes ? g.k : g.n;
        const uint32_t gap = random.below(2) * (1 + random.below(5));
        g.lda = a_cols + gap, g.ldb = b_cols + gap, g.ldc = g.n + gap;
        const size_t a_size = size_t{std::max(g.m, g.k)} * g.lda * 4 + 64,
                     b_size = size_t{std::max(g.n, g.k)} * g.ldb * 4 + 64;
        g.a_offset = 4 * random.below(9);
        g.b_offset = (g.a_offset + a_size) / 4 * 4;
        g.c_offset = (g.b_offset + b_size) / 4 * 4 + 4 * random.below(3);
        memory::Region before = region_of(g.c_offset + size_t{g.m} * g.ldc * 4 + 256);
        fill(before, random, false);
        fill_as(before.base() + g.a_offset, a_size / 4, g.a_type, random, any);
        fill_as(before.base() + g.b_offset, b_size / 4, g.b_type, random, any);
        compare(card, reference, before, g, uint64_t{g.m} * g.n, "gemm", tally);
    }
}

void check_rows_of(Device& card, Device& reference, Tally& tally) {
    TestRandom random(12);
    for (const uint32_t cols : {1U, 31U, 256U, 257U, 1000U, 4096U, 11264U, 11265U, 70000U}) {
        for (uint32_t kind = 0; kind < kRowKinds; ++kind) {
            for (uint32_t style = 0; style < 4; ++style) {
                Rows r{.kind = static_cast<RowKind>(kind), .rows = cols > 4096 ? 2U : 5U, .cols = cols};
                const uint32_t gap = style == 3 ? 3 : 0;
                r.ldx = r.ldout = cols + gap;
                r.ldy = style % 2 == 0 ? 0 : cols + gap;
                const uint64_t bytes = uint64_t{r.rows} * (cols + gap) * 4 + 16;
                r.y_offset = bytes, r.out_offset = style == 1 ? 0 : 2 * bytes;
                r.eps = 1e-5F;
                memory::Region before = region_of(3 * bytes);
                fill(before, random, style == 2);
                compare(card, reference, before, r, uint64_t{r.rows} * cols, "rows", tally);
            }
        }
    }
}

bool check_bits() {
    auto card = make_device("cuda").value();
    auto reference = make_device("reference").value();
    Tally gemms, rows;
    check_gemms(*card, *reference, gemms);
    check_rows_of(*card, *reference, rows);
    for (const auto& [name, tally] :
         {std::pair("GEMM, f32 f16 bf16, all transposes", gemms), std::pair("rows", rows)}) {
        std::printf("bits of %-36s %llu operations in place and staged, %llu results: %llu differ from the reference\n",
                    name, static_cast<unsigned long long>(tally.operations),
                    static_cast<unsigned long long>(tally.elements), static_cast<unsigned long long>(tally.wrong));
    }
    return gemms.wrong + rows.wrong == 0;
}

// ---- a fork of a Region that the card is writing

bool check_fork(memory::Backing backing, const char* name) {
    constexpr uint32_t kN = 4096;
    constexpr uint64_t kBytes = uint64_t{kN} * kN * sizeof(float);
    auto device = cuda::CudaDevice::create().value();
    memory::Region parent = region_of(3 * kBytes, backing);
    const auto matrix = [&](memory::Region& region, uint32_t which) {
        return std::span(reinterpret_cast<float*>(region.base() + which * kBytes), size_t{kN} * kN);
    };
    const auto all = [](std::span<const float> numbers, float value) {
        return std::ranges::all_of(numbers, [value](float x) { return x == value; });
    };
    std::ranges::fill(matrix(parent, 0), 1.0F);
    std::ranges::fill(matrix(parent, 1), 2.0F);
    Gemm gemm{.b_offset = kBytes, .c_offset = 2 * kBytes, .m = kN, .n = kN, .k = kN, .lda = kN, .ldb = kN, .ldc = kN};
    device->start(parent, gemm, Path::kStaged).value();
    const bool writing = matrix(parent, 2).back() == 0.0F;  // the result is not there yet
    memory::Region child = parent.fork().value();
    bool right = all(matrix(parent, 2), 2.0F * kN) && all(matrix(child, 2), 2.0F * kN);
    // Both go on with the card at once, each on its own.
    std::ranges::fill(matrix(parent, 1), 3.0F);
    std::ranges::fill(matrix(child, 1), 5.0F);
    device->start(parent, gemm, Path::kStaged).value();
    device->start(child, gemm, Path::kInPlace).value();
    parent.unpin();
    child.unpin();
    right &= all(matrix(parent, 2), 3.0F * kN) && all(matrix(child, 2), 5.0F * kN) && all(matrix(parent, 1), 3.0F);
    std::printf("fork of a Region (%s) that the card was %s: drained, released, forked; the branches' results are %s\n",
                name, writing ? "writing" : "NO LONGER WRITING", right ? "their own" : "MIXED");
    return right && writing;
}

// ---- in place beside staged

// How much slower than the other the path may be that a device chooses: where they are alike, either is right.
constexpr double kTolerated = 1.5;

bool check_paths() {
    auto device = cuda::CudaDevice::create().value();
    std::printf("GEMM f32 on guest memory, us, medians of rounds in turns (bus for kernels: %.1f GB/s)\n",
                device->bus_gb_per_s());
    std::printf("  %6s %10s %10s %12s %12s  %s\n", "size", "in place", "staged", "MB in place", "MB staged", "chosen");
    bool right = true;
    for (const uint32_t n : {64U, 128U, 256U, 512U, 1024U, 2048U}) {
        const uint64_t bytes = uint64_t{n} * n * sizeof(float);
        memory::Region region = region_of(3 * bytes);
        TestRandom random(n);
        fill(region, random, false);
        const Gemm gemm{.b_offset = bytes, .c_offset = 2 * bytes, .m = n, .n = n, .k = n, .lda = n, .ldb = n, .ldc = n};
        std::vector<double> us[2];
        double megabytes[2] = {};
        for (int round = 0; round < 23; ++round) {
            for (const Path path : {Path::kInPlace, Path::kStaged}) {
                const auto before = device->traffic();
                const auto begin = std::chrono::steady_clock::now();
                device->gemm(region, gemm, path).value();
                const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
                const auto after = device->traffic();
                if (round >= 3) us[static_cast<int>(path)].push_back(took.count());
                megabytes[static_cast<int>(path)] =
                    static_cast<double>(after.to_device + after.from_device - before.to_device - before.from_device) *
                    1e-6;
            }
        }
        for (auto& times : us) std::sort(times.begin(), times.end());
        const double in_place = us[0][us[0].size() / 2], staged = us[1][us[1].size() / 2];
        const Choice choice = device->choose(gemm);
        const bool faster = (choice.path == Path::kInPlace) == (in_place <= staged);
        right &= faster || std::max(in_place, staged) < kTolerated * std::min(in_place, staged);
        std::printf("  %6u %10.1f %10.1f %12.3f %12.3f  %s%s: %s\n", n, in_place, staged, megabytes[0], megabytes[1],
                    choice.path == Path::kInPlace ? "in place" : "staged", faster ? "" : " (the slower one)",
                    choice.why.c_str());
    }
    return right;
}

int main_of(std::span<char*> arguments) {
    const auto wants = [&](std::string_view what) {
        return arguments.empty() || std::ranges::any_of(arguments, [&](const char* a) { return what == a; });
    };
    cudaDeviceProp card{};
    if (!cuda::available() || cudaGetDeviceProperties(&card, 0) != cudaSuccess) {
        std::fprintf(stderr, "cuda_device_check: needs %s\n", std::string(cuda::kNeeds).c_str());
        return 2;
    }
    std::printf("card: %s, %d multiprocessors, %.0f GB\n", card.name, card.multiProcessorCount,
                static_cast<double>(card.totalGlobalMem) * 1e-9);
    std::string wrong;
    const auto check = [&](const char* name, const auto& function) {
        if (wants(name) && !function()) wrong += std::string(" ") + name;
    };
    check("regions", check_regions);
    check("bits", check_bits);
    check("fork", [] {
        const bool anonymous = check_fork(memory::Backing::kAnonymous, "anonymous");
        return check_fork(memory::Backing::kShareable, "memfd") && anonymous;
    });
    check("paths", check_paths);
    check("kv", check_kv_speed);
    check("sessions", check_kv_sessions);
    check("shared", check_kv_shared);
    check("full", check_out_of_memory);
    check("parts", check_parts);
    check("fault", check_fault);  // the last: the card is gone for this process
    if (wrong.empty()) {
        std::printf("all as it should be\n");
    } else {
        std::printf("NOT AS IT SHOULD BE:%s\n", wrong.c_str());
    }
    return wrong.empty() ? 0 : 1;
}

}  // namespace
}  // namespace driftwood::compute

int main(int argc, char** argv) {
    return driftwood::compute::main_of(std::span(argv + 1, static_cast<size_t>(argc - 1)));
}
