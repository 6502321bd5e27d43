// The kernel tables of this kind of processor, and which of them this very machine can run.
#pragma once

#include <span>

#include "compute/kernels.h"

namespace driftwood::compute {

struct KernelTable {
    const Kernels* kernels;
    bool available;     // here
    const char* needs;  // what of the processor
};

// The fastest first; the last is the reference, which runs everywhere.
std::span<const KernelTable> kernel_tables();

}  // namespace driftwood::compute
