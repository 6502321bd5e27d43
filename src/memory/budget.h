// What all Regions of this process may take of two things that the kernel counts per process: mappings (Linux:
// vm.max_map_count) and addresses (47 bits, or RLIMIT_AS). A kernel that has none left says ENOMEM to whoever asks
// next, malloc and thread stacks included, and the process dies. So Regions claim first and are refused, by name, while
// an eighth of each is left for everything else.
//
// The tally is process-wide because the limits are: one of the few globals of this program (ARCHITECTURE.md). Threads:
// any.
#pragma once

#include <cstdint>
#include <utility>

#include "base/result.h"

namespace driftwood::memory {

struct BudgetUse {
    uint64_t mappings = 0;       // as Regions count them; neighbours that the kernel joins count twice
    uint64_t address_bytes = 0;  // reserved, guards included
};

// What Regions have claimed now, and the most they may. The limits are the system's at this moment.
BudgetUse budget_used();
BudgetUse budget_limit();

// One Region's share. Move-only; gives everything back at its end.
class BudgetClaim {
  public:
    BudgetClaim() = default;
    BudgetClaim(BudgetClaim&& other) noexcept : held_(std::exchange(other.held_, {})) {}
    BudgetClaim& operator=(BudgetClaim&& other) noexcept;
    ~BudgetClaim() { set({}); }

    // Claims so much in all, where that is more than now. kLimit names the limit, who may raise it and how; then
    // nothing has changed.
    Result<void> raise(const BudgetUse& total);
    // Claims exactly this, which a raise has covered or which is less.
    void set(const BudgetUse& total);

  private:
    BudgetUse held_;
};

}  // namespace driftwood::memory
