// The floating-point environment a guest's arithmetic is defined in: round to nearest, subnormals kept, nothing
// trapping. A library in this process may have changed it (denormals flushed to zero, most often); while the object
// lives it is the default, afterwards what it was. For this folder only.
#pragma once

#include <cstdint>

namespace driftwood::wasm {

class FloatEnvironment {
  public:
    FloatEnvironment() : saved_(get()) {
        if ((saved_ & ~kFlags) != kDefault) set(kDefault);
    }
    ~FloatEnvironment() {
        if ((saved_ & ~kFlags) != kDefault) set(saved_);
    }
    FloatEnvironment(const FloatEnvironment&) = delete;
    FloatEnvironment& operator=(const FloatEnvironment&) = delete;

  private:
#if defined(__x86_64__)
    using Word = uint32_t;                    // MXCSR
    static constexpr Word kFlags = 0x3f;      // sticky exception flags: no instruction of a guest reads them
    static constexpr Word kDefault = 0x1f80;  // all exceptions masked
    static Word get() { return __builtin_ia32_stmxcsr(); }
    static void set(Word word) { __builtin_ia32_ldmxcsr(word); }
#elif defined(__aarch64__)
    using Word = uint64_t;  // FPCR; its flags live in FPSR
    static constexpr Word kFlags = 0;
    static constexpr Word kDefault = 0;
    static Word get() {
        Word word;
        asm volatile("mrs %0, fpcr" : "=r"(word));
        return word;
    }
    static void set(Word word) { asm volatile("msr fpcr, %0" : : "r"(word)); }
#else
#error "the floating-point control word of this processor is not known here"
#endif
    const Word saved_;
};

}  // namespace driftwood::wasm
