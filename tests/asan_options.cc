// Built into every program that is built with AddressSanitizer (cmake/rules.cmake).
// Wasmtime and memory/ turn faults of a guest into traps with signal handlers and signal stacks of their own, so the
// sanitizer takes neither. An allocation that a hostile size makes impossible fails as it does in a release.
extern "C" const char* __asan_default_options();

extern "C" const char* __asan_default_options() {
    return "handle_segv=0:handle_sigbus=0:use_sigaltstack=0:allocator_may_return_null=1:detect_leaks=1";
}
