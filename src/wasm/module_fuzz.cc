// Arbitrary bytes as a guest: diagnosis, rewriting, compilation, birth and turns, with the traps' names and lines.
// Whatever the bytes are, each step succeeds or fails with an error of the guest's own doing, and rewriting does so
// twice in the same way.
#include <algorithm>

#include "wasm/diagnose.h"
#include "wasm/rewrite.h"
#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

constexpr InstanceLimits kLimits = {.memory_bytes = 8 << 20, .table_elements = 1000, .turn_deadline_ms = 20};

constexpr size_t kMaxTurns = 4;

// A failure that a guest may cause: it says what happened, and it is not a bug of ours or of a library.
void check_typed(const Error& failure) {
    CHECK(!failure.message.empty());
    CHECK(failure.code != ErrorCode::kInternal && failure.code != ErrorCode::kIo);
}

bool same(const Rewritten& a, const Rewritten& b) { return a.module == b.module && a.birth_bytes == b.birth_bytes; }

// What is rewritten is a guest as good as the original; rewriting is a pure function.
void rewrite_twice(std::span<const uint8_t> bytes) {
    const auto once = rewrite(bytes);
    const auto again = rewrite(bytes);
    CHECK(once.ok() == again.ok());
    if (once.ok()) {
        CHECK(same(*once, *again));
    } else {
        check_typed(once.error());
        CHECK(once.error().message == again.error().message);
    }
}

void live(const Module& module) {
    TestHost host;
    auto instance = Instance::create(module, host, kLimits, {});
    if (!instance.ok()) return check_typed(instance.error());
    Instance& guest = **instance;
    std::vector<std::string> turns;
    for (const ModuleExport& item : module.facts().exports) {
        if (item.kind == "func" && item.type == kNoArguments && turns.size() < kMaxTurns) turns.push_back(item.name);
    }
    turns.emplace_back();
    for (const std::string& turn : turns) {
        if (guest.exit_code()) return;
        const auto outcome = turn.empty() ? guest.complete(1, -1) : guest.call(turn);
        CHECK(guest.guest_base() == guest.memory().base());
        CHECK(guest.memory().size() <= kLimits.memory_bytes);
        if (!outcome.ok()) return check_typed(outcome.error());
    }
}

void take(std::span<const uint8_t> bytes) {
    const auto diagnosis = diagnose(test_runtime(), bytes);
    if (!diagnosis.ok()) check_typed(diagnosis.error());
    rewrite_twice(bytes);
    const auto module = Module::compile(test_runtime(), {bytes.begin(), bytes.end()});
    CHECK(module.ok() == (diagnosis.ok() && diagnosis->starts()));
    if (!module.ok()) return check_typed(module.error());
    live(**module);
}

// ---- Mutation inside one section, whose length is put right: damage that a parser does not stop at at once ----

struct Section {
    size_t header = 0;  // its id and length begin here
    size_t begin = 0;
    size_t end = 0;
};

constexpr size_t kModuleHeader = 8;

std::vector<Section> sections_of(std::span<const uint8_t> bytes) {
    std::vector<Section> sections;
    for (size_t at = kModuleHeader; at + 1 < bytes.size();) {
        Section section{.header = at++, .begin = 0, .end = 0};
        uint64_t length = 0;
        for (unsigned shift = 0; shift < 35 && at < bytes.size(); shift += 7) {
            length |= uint64_t{bytes[at] & 0x7FU} << shift;
            if ((bytes[at++] & 0x80) == 0) break;
        }
        if (length > bytes.size() - at) break;
        section.begin = at;
        section.end = at += length;
        sections.push_back(section);
    }
    return sections;
}

void append_leb(std::vector<uint8_t>& out, size_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<uint8_t>(value | 0x80));
    out.push_back(static_cast<uint8_t>(value));
}

using Mutate = size_t (*)(uint8_t*, size_t, size_t);

// The new size, or 0 when the bytes have no sections or would not fit.
size_t mutate_section(uint8_t* data, size_t size, size_t max_size, unsigned seed, Mutate mutate) {
    const std::span<const uint8_t> old(data, size);
    const auto sections = sections_of(old);
    if (sections.empty()) return 0;
    const Section& section = sections[seed % sections.size()];
    std::vector<uint8_t> body(old.begin() + static_cast<ptrdiff_t>(section.begin),
                              old.begin() + static_cast<ptrdiff_t>(section.end));
    const size_t length = body.size();
    body.resize(length + 64);
    body.resize(mutate(body.data(), length, body.size()));
    std::vector<uint8_t> out(old.begin(), old.begin() + static_cast<ptrdiff_t>(section.header) + 1);
    append_leb(out, body.size());
    out.insert(out.end(), body.begin(), body.end());
    out.insert(out.end(), old.begin() + static_cast<ptrdiff_t>(section.end), old.end());
    if (out.size() > max_size) return 0;
    std::copy(out.begin(), out.end(), data);
    return out.size();
}

}  // namespace
}  // namespace driftwood::wasm

// NOLINTBEGIN(readability-identifier-naming): libFuzzer's names
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    driftwood::wasm::take({data, size});
    return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
    const size_t mutated = seed % 4 == 0
                               ? 0  // the whole, as bytes
                               : driftwood::wasm::mutate_section(data, size, max_size, seed / 4, LLVMFuzzerMutate);
    return mutated != 0 ? mutated : LLVMFuzzerMutate(data, size, max_size);
}
// NOLINTEND(readability-identifier-naming)
