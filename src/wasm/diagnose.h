// What a module is when it is seen as a guest: what each import and export means here, and every reason why it would
// not run or could not be frozen, with the fix. Module::compile refuses for the same reasons.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wasm/instance.h"

namespace driftwood::wasm {

inline constexpr std::string_view kNoArguments = "() -> ()";

struct Problem {
    std::string thing;  // "import env.printf"
    std::string why;
    std::string fix;
};

struct Meaning {
    std::string name;
    std::string type;
    std::string meaning;
};

struct Diagnosis {
    ModuleFacts facts;
    std::vector<Meaning> imports;
    std::vector<Meaning> exports;
    std::vector<Problem> not_startable;  // imports and exports that do not fit, or what the engine does not take
    std::vector<Problem> not_freezable;  // what a frozen actor could not hold: such a module is not loaded either
    bool starts() const { return not_startable.empty() && not_freezable.empty(); }
    bool freezes() const { return not_freezable.empty(); }
};

// Inspects and, if nothing speaks against it, compiles. kInvalidArgument: not a core module, with the fix where it is
// known; kLimit: too large.
Result<Diagnosis> diagnose(Runtime& runtime, std::span<const uint8_t> bytes);

// The imports that this runtime does not have, and the exports that a guest must have and this one lacks.
std::vector<Problem> interface_problems(const ModuleFacts& facts);

// "import env.f: this runtime does not have it; export memory: the module lacks it"
std::string text_of(std::span<const Problem> problems);

}  // namespace driftwood::wasm
