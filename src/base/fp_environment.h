// FpEnvironment: the floating-point mode in which kernels and guests compute, for as long as the guard lives: round to
// nearest even, no exceptions trapped, subnormals kept. A library in this process may have changed it (denormals
// flushed to zero, most often); the caller's mode comes back with the destructor. Per thread.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace driftwood {

// What arithmetic does with numbers below 2^-126. The contract is built so that results do not depend on it (some GPUs
// cannot keep them): kFlush exists to check that.
enum class Subnormals : uint8_t { kKeep, kFlush };

class FpEnvironment {
  public:
    explicit FpEnvironment(Subnormals subnormals = Subnormals::kKeep)
        : saved_(read()), changes_((saved_ & ~kFlags) != mode(subnormals)) {
        if (changes_) write(mode(subnormals));  // a turn is short: writing what is there already would be felt
    }
    ~FpEnvironment() {
        if (changes_) write(saved_);
    }
    FpEnvironment(const FpEnvironment&) = delete;
    FpEnvironment& operator=(const FpEnvironment&) = delete;

    // Puts the calling thread into that mode for good (a worker thread's first act).
    static void enter(Subnormals subnormals) { write(mode(subnormals)); }

  private:
#if defined(__x86_64__)
    // MXCSR: all exceptions masked, round to nearest; flush-to-zero is bit 15, denormals-are-zero bit 6.
    static constexpr uint64_t kFlags = 0x3F;  // sticky exception flags: nothing here reads them
    static uint64_t mode(Subnormals s) { return s == Subnormals::kFlush ? 0x1F80U | 0x8040U : 0x1F80U; }
    static uint64_t read() { return _mm_getcsr(); }
    static void write(uint64_t value) { _mm_setcsr(static_cast<unsigned>(value)); }
#elif defined(__aarch64__)
    // FPCR: round to nearest, no traps; flush-to-zero is bit 24.
    static constexpr uint64_t kFlags = 0;  // they live in FPSR
    static uint64_t mode(Subnormals s) { return s == Subnormals::kFlush ? uint64_t{1} << 24 : 0; }
    static uint64_t read() {
        uint64_t value = 0;
        asm volatile("mrs %0, fpcr" : "=r"(value));
        return value;
    }
    static void write(uint64_t value) { asm volatile("msr fpcr, %0" ::"r"(value) : "memory"); }
#else
#error "FpEnvironment: unknown processor"
#endif
    const uint64_t saved_;
    const bool changes_;
};

}  // namespace driftwood
