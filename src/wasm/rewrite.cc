#include "wasm/rewrite.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "wasm/deps_buffer.h"
#include "wasm/instance.h"

namespace driftwood::wasm {
namespace {

using nlohmann::json;

Error failure(int32_t status, const Buffer& message) {
    const ErrorCode code = status == DWD_REFUSED ? ErrorCode::kUnsupported
                           : status == DWD_PANIC ? ErrorCode::kInternal
                                                 : ErrorCode::kInvalidArgument;
    return error(code, message.text());
}

std::optional<uint64_t> optional_number(const json& value) {
    if (value.is_null()) return std::nullopt;
    return value.get<uint64_t>();
}

std::vector<IndexedExport> indexed_exports(const json& list) {
    std::vector<IndexedExport> exports;
    for (const json& item : list) exports.push_back({item.at("index").get<uint32_t>(), item.at("export")});
    return exports;
}

// The report comes from deps/, not from the guest: a field that is missing is a bug there. nlohmann throws; callers
// catch.
void read_facts(const json& facts, Rewritten& out) {
    out.has_start = facts.at("has_start");
    out.mutates_tables = facts.at("mutates_tables");
    out.memory_min_pages = facts.at("memory").at("min_pages");
    out.memory_max_pages = optional_number(facts.at("memory").at("max_pages"));
    out.globals = indexed_exports(facts.at("globals"));
    out.tables = indexed_exports(facts.at("tables"));
    out.functions = indexed_exports(facts.at("functions"));
    size_t at = 0;
    for (const json& piece : facts.at("birth")) {
        const size_t length = piece.at("len");
        CHECK(length <= out.birth_bytes.size() - at);
        out.birth.push_back({piece.at("offset"), std::span(out.birth_bytes).subspan(at, length)});
        at += length;
    }
}

void read_sections(const json& report, ModuleFacts& facts) {
    for (const json& section : report.at("custom_sections")) {
        facts.has_names |= section.at("name") == "name";
        facts.has_lines |= section.at("name") == ".debug_line";
    }
}

ModuleFacts module_facts(std::span<const uint8_t> bytes, const json& report) {
    ModuleFacts facts;
    facts.hash = file::blake3(bytes);
    facts.size_bytes = bytes.size();
    facts.code_bytes = report.at("code_bytes");
    facts.functions = report.at("functions");
    for (const json& item : report.at("imports")) {
        facts.imports.push_back({item.at("module"), item.at("name"), item.at("kind"), item.at("type")});
    }
    for (const json& item : report.at("exports")) {
        facts.exports.push_back({item.at("name"), item.at("kind"), item.at("type")});
    }
    for (const json& item : report.at("refusals")) facts.refusals.push_back({item.at("feature"), item.at("why")});
    if (const json& memories = report.at("memories"); !memories.empty()) {
        facts.memory_min_pages = memories[0].at("min");
        facts.memory_max_pages = optional_number(memories[0].at("max"));
    }
    for (const json& table : report.at("tables")) facts.tables.push_back(table.at("min"));
    for (const json& global : report.at("globals")) {
        ++facts.globals;
        facts.mutable_globals += global.at("mutable").get<bool>() ? 1 : 0;
    }
    facts.mutates_tables = report.at("mutates_tables");
    facts.has_start = !report.at("start").is_null();
    read_sections(report, facts);
    for (const json& feature : report.at("features")) facts.features.push_back(feature);
    return facts;
}

// What begins with something else is another kind of file.
Result<void> check_magic(std::span<const uint8_t> bytes) {
    constexpr std::array<uint8_t, 4> kMagic = {0, 'a', 's', 'm'};
    if (bytes.size() < kMagic.size() || std::equal(kMagic.begin(), kMagic.end(), bytes.begin())) return {};
    return error(ErrorCode::kInvalidArgument,
                 "[wasm.validate] not a WebAssembly module: it does not begin with a zero and 'asm'");
}

Error bad_report(const json::exception& problem) {
    return error(ErrorCode::kInternal, std::string("[wasm.inspect] report of the inspector: ") + problem.what());
}

}  // namespace

Result<ModuleFacts> inspect(std::span<const uint8_t> bytes) {
    DW_TRY(check_magic(bytes));
    Buffer report;
    Buffer message;
    const int32_t status = dwd_wasm_inspect(bytes.data(), bytes.size(), report.out(), message.out());
    if (status != DWD_OK) return failure(status, message);
    try {
        return module_facts(bytes, json::parse(report.bytes()));
    } catch (const json::exception& problem) {
        return bad_report(problem);
    }
}

Result<Rewritten> rewrite(std::span<const uint8_t> bytes) {
    DW_TRY(check_magic(bytes));
    Buffer module;
    Buffer birth;
    Buffer facts;
    Buffer message;
    const int32_t status =
        dwd_wasm_rewrite(bytes.data(), bytes.size(), module.out(), birth.out(), facts.out(), message.out());
    if (status != DWD_OK) return failure(status, message);
    Rewritten out;
    out.module.assign(module.bytes().begin(), module.bytes().end());
    out.birth_bytes.assign(birth.bytes().begin(), birth.bytes().end());
    try {
        const json report = json::parse(facts.bytes());
        read_facts(report, out);
        out.facts = module_facts(bytes, report.at("module"));
    } catch (const json::exception& problem) {
        return bad_report(problem);
    }
    return out;
}

}  // namespace driftwood::wasm
