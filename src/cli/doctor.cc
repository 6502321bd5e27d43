// driftwood doctor: would this guest run, could it be frozen, and if not, why and what to do; or how an engine divides
// its memory for a model.
#include <cstdio>

#include "cli/commands.h"
#include "cli/doctor_memory.h"
#include "cli/output.h"
#include "cli/weights_option.h"
#include "file/mapped_file.h"
#include "wasm/diagnose.h"

namespace driftwood::cli {
namespace {

constexpr uint64_t kPageBytes = 64 * 1024;
constexpr size_t kMaxShown = 100;  // of imports and of exports, as text

struct DoctorOptions {
    std::string path;
    std::string device;          // in place of a guest
    std::string model = "demo";  // for it
    model::WeightsOptions weights;
    Format format = Format::kText;
};

Json problems_json(const std::vector<wasm::Problem>& problems) {
    Json list = Json::array();
    for (const auto& problem : problems) {
        list.push_back({{"thing", problem.thing}, {"why", problem.why}, {"fix", problem.fix}});
    }
    return list;
}

Json meanings_json(const std::vector<wasm::Meaning>& items) {
    Json list = Json::array();
    for (const auto& item : items) {
        list.push_back({{"name", item.name}, {"type", item.type}, {"meaning", item.meaning}});
    }
    return list;
}

void print_as_json(const wasm::Diagnosis& diagnosis) {
    const wasm::ModuleFacts& facts = diagnosis.facts;
    Json memory = {{"min_pages", facts.memory_min_pages}, {"max_pages", nullptr}};
    if (facts.memory_max_pages) memory["max_pages"] = *facts.memory_max_pages;
    print_json({{"starts", diagnosis.starts()},
                {"freezes", diagnosis.freezes()},
                {"not_startable", problems_json(diagnosis.not_startable)},
                {"not_freezable", problems_json(diagnosis.not_freezable)},
                {"hash", file::to_hex(facts.hash)},
                {"size_bytes", facts.size_bytes},
                {"code_bytes", facts.code_bytes},
                {"functions", facts.functions},
                {"memory", memory},
                {"tables", facts.tables},
                {"mutates_tables", facts.mutates_tables},
                {"globals", facts.globals},
                {"mutable_globals", facts.mutable_globals},
                {"has_start", facts.has_start},
                {"has_names", facts.has_names},
                {"has_lines", facts.has_lines},
                {"features", facts.features},
                {"imports", meanings_json(diagnosis.imports)},
                {"exports", meanings_json(diagnosis.exports)}});
}

void print_line(const char* key, const std::string& text) { std::printf("  %-10s %s\n", key, printable(text).c_str()); }

std::string plural(uint64_t count, const std::string& thing) {
    return std::to_string(count) + " " + thing + (count == 1 ? "" : "s");
}

std::string memory_text(const wasm::ModuleFacts& facts) {
    return plural(facts.memory_min_pages, "page") + " at birth (" + human_bytes(facts.memory_min_pages * kPageBytes) +
           "), " +
           (facts.memory_max_pages ? "at most " + plural(*facts.memory_max_pages, "page")
                                   : "may grow to the actor's limit");
}

std::string tables_text(const wasm::ModuleFacts& facts) {
    if (facts.tables.empty()) return "none";
    uint64_t elements = 0;
    for (const uint64_t count : facts.tables) elements += count;
    return plural(facts.tables.size(), "table") + " of functions, " + plural(elements, "element") +
           (facts.mutates_tables ? "; the guest changes them, so an image holds them" : "; never changed");
}

void print_facts(const wasm::ModuleFacts& facts) {
    print_line("size", human_bytes(facts.size_bytes) + ", " + plural(facts.functions, "function") + ", " +
                           human_bytes(facts.code_bytes) + " of code");
    print_line("hash", file::to_hex(facts.hash));
    print_line("memory", memory_text(facts));
    print_line("tables", tables_text(facts));
    print_line("globals",
               std::to_string(facts.globals) + ", " + std::to_string(facts.mutable_globals) + " of them mutable");
    print_line("start", facts.has_start ? "a start function, run once at birth" : "none");
    std::string features;
    for (const std::string& feature : facts.features) features += (features.empty() ? "" : ", ") + feature;
    print_line("features", features.empty() ? "nothing beyond WebAssembly 1.0" : features);
    print_line("traps", !facts.has_names  ? "name functions by number: keep the name section (no --strip-all)"
                        : facts.has_lines ? "name functions, files and lines"
                                          : "name functions; with -g, and without --strip-debug, lines too");
}

void print_meanings(const char* title, const std::vector<wasm::Meaning>& items) {
    std::printf("%s\n", title);
    if (items.empty()) std::printf("  none\n");
    for (size_t i = 0; i < items.size() && i < kMaxShown; i++) {
        std::printf("  %-40s %-28s %s\n", printable(items[i].name).c_str(), printable(items[i].type).c_str(),
                    items[i].meaning.c_str());
    }
    if (items.size() > kMaxShown) std::printf("  … and %zu more (--json lists all)\n", items.size() - kMaxShown);
}

void print_problems(const char* title, const std::vector<wasm::Problem>& problems) {
    if (problems.empty()) return;
    std::printf("%s\n", title);
    for (const auto& problem : problems) {
        std::printf("  %s: %s\n", printable(problem.thing).c_str(), printable(problem.why).c_str());
        if (!problem.fix.empty()) std::printf("      fix: %s\n", printable(problem.fix).c_str());
    }
}

void print_as_text(const std::string& path, const wasm::Diagnosis& diagnosis) {
    const char* verdict = diagnosis.starts()    ? "runs, and can be frozen at every wait"
                          : diagnosis.freezes() ? "would not run"
                                                : "would not be loaded, because it could not be frozen";
    std::printf("%s: %s\n", printable(path).c_str(), verdict);
    print_problems("why it could not be frozen", diagnosis.not_freezable);
    print_problems("why it would not run", diagnosis.not_startable);
    print_facts(diagnosis.facts);
    print_meanings("imports", diagnosis.imports);
    print_meanings("exports", diagnosis.exports);
}

Result<bool> doctor(const DoctorOptions& options) {
    if (!options.device.empty()) {
        DW_TRY(show_memory_plan(options.device, options.model, options.weights, options.format));
        return true;
    }
    DW_ASSIGN(const auto file, file::MappedFile::open(options.path));
    DW_ASSIGN(const auto runtime, wasm::Runtime::create({}));
    auto diagnosis = wasm::diagnose(*runtime, file.bytes());
    if (!diagnosis.ok()) {
        return error(diagnosis.error().code, "[doctor] " + options.path + ": " + diagnosis.error().message);
    }
    if (options.format == Format::kJson) {
        print_as_json(*diagnosis);
    } else {
        print_as_text(options.path, *diagnosis);
    }
    return diagnosis->starts();
}

}  // namespace

void add_doctor(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<DoctorOptions>();
    CLI::App* command =
        app.add_subcommand("doctor",
                           "Say whether a guest module runs and can be frozen, and if not, why; or how an "
                           "engine divides its memory");
    CLI::Option_group* subject = command->add_option_group("subject", "What is looked at");
    subject->add_option("guest", options->path, "Guest module (.wasm)");
    CLI::Option* device = subject->add_option(
        "--device", options->device, "An engine (cuda, auto, avx512, ...): its plan for weights, buffers, KV blocks");
    subject->require_option(1);
    command->add_option("--model", options->model, "The model of that plan: a GGUF file, or the built-in 'demo'")
        ->needs(device);
    add_weights(*command, options->weights)->needs(device);
    command->add_flag_callback(
        "--json", [options] { options->format = Format::kJson; }, "Print JSON");
    command->footer(
        "Shows what each import and export means here, what of the module is state (memory, tables, globals: that is\n"
        "what an image holds), which proposals it needs, and every reason why it would not run, with the fix. Nothing\n"
        "of the guest is executed.\n"
        "An actor can be frozen only if all of its state can be read, so a module that hides some (threads,\n"
        "exceptions, garbage collection, passive segments, ...) is not loaded at all.\n"
        "With --device, the engine is made and says what it took and what that is for; on a card that is what was "
        "free\n"
        "at that moment.\n"
        "Exit code: 0 it runs, 1 it does not.\n"
        "Examples:\n  driftwood doctor chat.wasm\n  driftwood doctor --device cuda --model llama.gguf\n  driftwood "
        "doctor chat.wasm --json | jq .not_startable");
    command->callback([options, &exit_code] {
        const auto verdict = doctor(*options);
        exit_code = verdict.ok() ? (*verdict ? 0 : 1) : report(verdict.error(), options->format);
    });
}

}  // namespace driftwood::cli
