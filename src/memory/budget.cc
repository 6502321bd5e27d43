#include "memory/budget.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>

namespace driftwood::memory {
namespace {

constexpr uint64_t kAddressSpace = uint64_t{1} << 47;  // what x86-64 and most others give a process
constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max() / 2;

std::atomic<uint64_t> g_mappings{0};
std::atomic<uint64_t> g_address_bytes{0};

// vm.max_map_count; kUnlimited where the system has no such limit or does not say.
uint64_t system_mappings() {
    const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/proc/sys/vm/max_map_count", "re"), std::fclose);
    unsigned long long count = 0;
    if (file == nullptr || std::fscanf(file.get(), "%llu", &count) != 1) return kUnlimited;
    return count;
}

uint64_t system_addresses() {
    rlimit limit{};
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kAddressSpace;
    return std::min<uint64_t>(limit.rlim_cur, kAddressSpace);
}

uint64_t for_regions(uint64_t of_the_system) { return of_the_system - of_the_system / 8; }

// Whether `more` fits; then it is taken. The limit is read again only when the last known one does not suffice, so that
// a claim costs an atomic addition.
bool take(std::atomic<uint64_t>& used, std::atomic<uint64_t>& known_limit, uint64_t more, uint64_t (*limit)()) {
    if (more > kUnlimited) return false;  // so that no sum overflows
    const uint64_t total = used.fetch_add(more) + more;
    if (total <= known_limit.load(std::memory_order_relaxed)) return true;
    known_limit.store(for_regions(limit()), std::memory_order_relaxed);
    if (total <= known_limit.load(std::memory_order_relaxed)) return true;
    used.fetch_sub(more);
    return false;
}

std::atomic<uint64_t> g_known_mappings{0};
std::atomic<uint64_t> g_known_addresses{0};

Error no_mappings_left(uint64_t more) {
    const uint64_t limit = system_mappings();
    return error(ErrorCode::kLimit,
                 "[memory.budget] " + std::to_string(more) + " more mappings: " + std::to_string(g_mappings.load()) +
                     " of " + std::to_string(for_regions(limit)) + " are in use, and the rest of vm.max_map_count (" +
                     std::to_string(limit) + ") is kept for the process itself: have fewer actors, or raise it: " +
                     "sysctl -w vm.max_map_count=" + std::to_string(4 * limit));
}

Error no_addresses_left(uint64_t more) {
    const uint64_t limit = system_addresses();
    const std::string fix = limit < kAddressSpace ? "raise RLIMIT_AS (ulimit -v unlimited)" : "have fewer actors";
    return error(ErrorCode::kLimit, "[memory.budget] " + std::to_string(more) +
                                        " more bytes of addresses: " + std::to_string(g_address_bytes.load()) + " of " +
                                        std::to_string(for_regions(limit)) +
                                        " are in use, and the rest of this process's " + std::to_string(limit) +
                                        " is kept for everything else: " + fix);
}

}  // namespace

BudgetUse budget_used() { return {.mappings = g_mappings.load(), .address_bytes = g_address_bytes.load()}; }

BudgetUse budget_limit() {
    return {.mappings = for_regions(system_mappings()), .address_bytes = for_regions(system_addresses())};
}

BudgetClaim& BudgetClaim::operator=(BudgetClaim&& other) noexcept {
    if (this == &other) return *this;
    set({});
    held_ = std::exchange(other.held_, {});
    return *this;
}

Result<void> BudgetClaim::raise(const BudgetUse& total) {
    if (total.mappings > held_.mappings) {
        const uint64_t more = total.mappings - held_.mappings;
        if (!take(g_mappings, g_known_mappings, more, system_mappings)) return no_mappings_left(more);
    }
    if (total.address_bytes > held_.address_bytes) {
        const uint64_t more = total.address_bytes - held_.address_bytes;
        if (!take(g_address_bytes, g_known_addresses, more, system_addresses)) {
            if (total.mappings > held_.mappings) g_mappings.fetch_sub(total.mappings - held_.mappings);
            return no_addresses_left(more);
        }
        held_.address_bytes = total.address_bytes;
    }
    held_.mappings = std::max(held_.mappings, total.mappings);
    return {};
}

// Unsigned wrap-around makes one addition of both directions.
void BudgetClaim::set(const BudgetUse& total) {
    g_mappings.fetch_add(total.mappings - held_.mappings);
    g_address_bytes.fetch_add(total.address_bytes - held_.address_bytes);
    held_ = total;
}

}  // namespace driftwood::memory
