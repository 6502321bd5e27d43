// FaultGuard: keeps the process alive when a file under a map becomes shorter or unreadable.
//
// Touching a mapped page that its file no longer has raises SIGBUS, on whatever thread touches it: guest code, a
// kernel, the writer of an image. One handler for the whole process looks the address up. Inside a guarded range it
// turns the whole range into private zero pages, marks the guard as failed and lets the access go on; anywhere else it
// does what was to be done before it was installed. So a fault fails one guard and nothing else, and whoever owns the
// guard must ask it before anything that was made from those bytes leaves: an actor after each turn and step, a reader
// after it has verified.
//
// The handler and its table of ranges are process-wide because signals are: the table is one of the two globals of this
// program (ARCHITECTURE.md). The handler is installed with the first guard and stays. It takes SIGBUS alone: Wasmtime
// takes SIGSEGV, SIGILL and SIGFPE (SIGBUS only on systems where a guard page raises it, and there it hands on what is
// not a guest's trap). A sanitizer's or a driver's handler that was there before is called for all other addresses; one
// that is installed later has to hand on what is not its own.
//
// What it does not turn into zeros: a read or write by the kernel (read, write, io_uring), which fails with EFAULT.
//
// Owner: move-only; must not outlive the map it guards. Threads: one at a time, but failed() is free for all.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace driftwood::memory {

struct FaultSlot;

// How many ranges can be guarded at once in this process; above the mappings that Linux allows by default (65,530).
inline constexpr size_t kMaxFaultGuards = size_t{1} << 20;

class FaultGuard {
  public:
    // Guards [at, at + length), a private map of a file, or a shared one that is only read; whole pages. `access`: what
    // may be done with the zero pages that take its place. kLimit beyond kMaxFaultGuards.
    enum class Access : uint8_t { kRead, kReadWrite };
    static Result<FaultGuard> watch(uint8_t* at, size_t length, Access access);

    FaultGuard() = default;  // guards nothing, never fails
    FaultGuard(FaultGuard&& other) noexcept;
    FaultGuard& operator=(FaultGuard&& other) noexcept;
    ~FaultGuard();

    // Whether the range has been replaced by zeros. Never becomes false again.
    bool failed() const;

    // A guard of the last part, [at, end), which this one then no longer guards. Both remember a failure. Precondition:
    // `at` is a page inside the range, not its first byte.
    Result<FaultGuard> split(uint8_t* at);

  private:
    void release();
    FaultSlot* slot_ = nullptr;
};

}  // namespace driftwood::memory
