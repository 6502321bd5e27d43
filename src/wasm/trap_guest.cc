// A guest for trap_test.cc: built by clang with -g, so that a trap in it can name functions, files and lines.
// Freestanding: no libraries, so that the module is small.
#define EXPORT(name) __attribute__((export_name(name)))

namespace ledger {

// Kept apart, so that it has a frame of its own.
__attribute__((noinline)) int divide(int sum, int shares) {
    return sum / shares;  // the line that traps
}

// Inlined into its caller: a frame that only DWARF knows.
__attribute__((always_inline)) inline int share(int sum) { return divide(sum, sum - sum); }

}  // namespace ledger

volatile int result;

extern "C" {
EXPORT("driftwood_start") void start() {}
EXPORT("driftwood_complete") void complete(long long, long long) {}
EXPORT("settle") void settle() { result = ledger::share(result); }
}
