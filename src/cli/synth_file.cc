#include "cli/synth_file.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "cli/output.h"
#include "compute/weights.h"
#include "file/atomic_file.h"

namespace driftwood::cli {
namespace {

constexpr uint64_t kCachedSeed = 1;
constexpr std::chrono::hours kAbandonedAfter(1);
constexpr size_t kPieceBytes = size_t{4} << 20;  // a multiple of file::kHoleBytes

std::filesystem::path cache_directory() {
    const auto variable = [](const char* name) {
        const char* value = std::getenv(name);
        return std::string(value == nullptr ? "" : value);
    };
    if (const std::string own = variable("DRIFTWOOD_CACHE"); !own.empty()) return own;
    if (const std::string xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg + "/driftwood";
    if (const std::string home = variable("HOME"); !home.empty()) return home + "/.cache/driftwood";
    return std::filesystem::temp_directory_path() / "driftwood";
}

std::string lower_case(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
}

// Says at once what a full disk would say after minutes.
Result<void> check_room(const std::string& path, uint64_t bytes) {
    std::filesystem::path directory = std::filesystem::path(path).parent_path();
    if (directory.empty()) directory = ".";
    std::error_code failed;
    const std::filesystem::space_info space = std::filesystem::space(directory, failed);
    if (failed || bytes <= space.available) return {};  // creating the file says what is wrong with the directory
    return error(ErrorCode::kLimit, "[synth] " + path + ": wants " + human_bytes(bytes) + ", " +
                                        human_bytes(space.available) + " are free there: choose another place, a " +
                                        "smaller --like or a --quant of fewer bits");
}

// Removes what processes left that ended while they wrote.
void remove_abandoned(const std::filesystem::path& directory) {
    std::error_code failed;
    const auto before = std::filesystem::file_time_type::clock::now() - kAbandonedAfter;
    for (std::filesystem::directory_iterator at(directory, failed), end; at != end && !failed; at.increment(failed)) {
        if (!at->path().filename().string().starts_with(file::kTemporaryPrefix)) continue;
        std::error_code gone;  // somebody else may have removed it
        const auto written = at->last_write_time(gone);
        if (!gone && written < before) std::filesystem::remove(at->path(), gone);
    }
}

}  // namespace

std::string synth_preset_names() {
    std::string names;
    for (const model::SynthPreset& preset : model::synth_presets()) {
        names += (names.empty() ? "" : ", ") + std::string(preset.name);
    }
    return names;
}

namespace {

struct Quant {
    std::string name;
    compute::WeightType type;
    std::optional<compute::WeightType> second;  // of the matrices that mixtures keep finer
};

// Every type that a file can have, by its name in small letters, and one mixture that is common.
std::vector<Quant> quants() {
    std::vector<Quant> all;
    for (uint32_t i = 0; i < compute::kWeightTypes; ++i) {
        const auto type = static_cast<compute::WeightType>(i);
        if (type == compute::WeightType::kW16) continue;  // lives in memory only
        all.push_back({lower_case(std::string(compute::weight_type_name(type))), type, std::nullopt});
    }
    all.push_back({"q4_k_m", compute::WeightType::kQ4_K, compute::WeightType::kQ6_K});
    return all;
}

}  // namespace

std::string synth_quant_names() {
    std::string names;
    for (const Quant& quant : quants()) names += (names.empty() ? "" : ", ") + quant.name;
    return names;
}

Result<model::SynthShape> synth_shape(const std::string& like, const std::string& quant) {
    auto shape = model::synth_preset(like);
    if (!shape) {
        return error(ErrorCode::kInvalidArgument, "[synth] --like '" + like + "': want one of " + synth_preset_names());
    }
    for (const Quant& known : quants()) {
        if (known.name != lower_case(quant)) continue;
        shape->type = known.type;
        shape->second_type = known.second;
        return *shape;
    }
    return error(ErrorCode::kInvalidArgument, "[synth] --quant '" + quant + "': want one of " + synth_quant_names());
}

Result<uint64_t> write_synth_file(const std::string& path, const model::SynthShape& shape, uint64_t seed,
                                  const SynthFileOptions& options) {
    file::SystemFileOps ops;
    if (!options.replace && ops.exists(path)) {
        return error(ErrorCode::kAlreadyExists, "[synth] " + path + ": is there already; --force replaces it");
    }
    if (path.ends_with(".safetensors") || (!model::gguf_has(shape) && !path.ends_with(".gguf"))) {
        DW_ASSIGN(const file::SectionWriter writer, model::synth_model_file(shape, seed));
        DW_ASSIGN(const auto committed, writer.commit(ops, path, {.replace = options.replace, .durable = false}));
        return committed.file_bytes;
    }
    DW_ASSIGN(const model::GgufWriter writer, model::synth_gguf(shape, seed));
    const uint64_t size = writer.size_bytes();
    DW_TRY(check_room(path, size));
    DW_ASSIGN(file::AtomicFile out, file::AtomicFile::create(ops, path, size));
    // The writer's pieces are of any size; the file takes them in units of kPieceBytes.
    std::vector<uint8_t> gathered;
    uint64_t written = 0;
    const auto flush = [&](size_t count) -> Result<void> {
        DW_TRY(out.write(written, std::span(gathered).first(count)));
        written += count;
        gathered.erase(gathered.begin(), gathered.begin() + static_cast<ptrdiff_t>(count));
        if (options.progress) {
            const double percent = 100.0 * static_cast<double>(written) / static_cast<double>(size);
            std::fprintf(stderr, "\r%s: %3.0f %%", path.c_str(), percent);
        }
        return {};
    };
    DW_TRY(writer.write([&](std::span<const uint8_t> piece) -> Result<void> {
        while (!piece.empty()) {
            const size_t take = std::min(piece.size(), kPieceBytes - gathered.size());
            gathered.insert(gathered.end(), piece.begin(), piece.begin() + static_cast<ptrdiff_t>(take));
            piece = piece.subspan(take);
            if (gathered.size() == kPieceBytes) DW_TRY(flush(kPieceBytes));
        }
        return {};
    }));
    DW_TRY(flush(gathered.size()));
    if (options.progress) std::fprintf(stderr, "\r\033[K");
    // It can be made again, so it need not survive a power loss; what appears is whole all the same.
    DW_TRY(out.publish({.replace = options.replace, .durable = false}));
    return size;
}

Result<std::string> cached_synth_file(const std::string& like, const std::string& quant, bool progress) {
    DW_ASSIGN(const model::SynthShape shape, synth_shape(like, quant));
    const std::filesystem::path directory = cache_directory() / "models";
    std::error_code failed;
    std::filesystem::create_directories(directory, failed);
    if (failed) return error(ErrorCode::kIo, "[synth] " + directory.string() + ": " + failed.message());
    const std::string path =
        directory / ("synth-" + like + "-" + lower_case(quant) + (model::gguf_has(shape) ? ".gguf" : ".safetensors"));
    if (std::filesystem::exists(path, failed)) return path;
    remove_abandoned(directory);
    if (progress) std::fprintf(stderr, "%s: made once, for this and later measurements\n", path.c_str());
    DW_TRY(write_synth_file(path, shape, kCachedSeed, {.replace = true, .progress = progress}));
    return path;
}

}  // namespace driftwood::cli
