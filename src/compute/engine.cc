#include "compute/engine.h"

#include <string>
#include <vector>

#include "compute/cpu/tables.h"
#include "compute/host_engine.h"

#if defined(DRIFTWOOD_CUDA)
#include "compute/cuda/cuda.h"
#endif

namespace driftwood::compute {

namespace {

struct Implementation {
    EngineInfo info;
    const Kernels* kernels;  // null: not the host's
};

#if defined(DRIFTWOOD_CUDA)
EngineInfo cuda_info() { return {"cuda", cuda::available(), cuda::kNeeds}; }
Result<std::unique_ptr<Engine>> make_cuda_engine(const DecoderSpec& spec, const EngineOptions& options) {
    return cuda::make_engine(spec, options);
}
#else
EngineInfo cuda_info() { return {"cuda", false, "a program that was built with CUDA (-DDRIFTWOOD_CUDA=ON)"}; }
Result<std::unique_ptr<Engine>> make_cuda_engine(const DecoderSpec&, const EngineOptions&) {
    CHECK(false);  // never available
}
#endif

std::span<const Implementation> implementations() {
    static const std::vector<Implementation> kAll = [] {
        std::vector<Implementation> all = {{cuda_info(), nullptr}};
        for (const KernelTable& table : kernel_tables()) {
            all.push_back({{table.kernels->name, table.available, table.needs}, table.kernels});
        }
        return all;
    }();
    return kAll;
}

const Implementation* find(std::string_view name) {
    for (const Implementation& candidate : implementations()) {
        if (name == "auto" ? candidate.info.available : candidate.info.name == name) return &candidate;
    }
    return nullptr;
}

// The fastest that needs no card; the last of them runs everywhere.
const Implementation* find_on_host() {
    for (const Implementation& candidate : implementations()) {
        if (candidate.kernels != nullptr && candidate.info.available) return &candidate;
    }
    CHECK(false);
}

}  // namespace

std::span<const EngineInfo> engines() {
    static const std::vector<EngineInfo> kInfo = [] {
        std::vector<EngineInfo> info;
        for (const Implementation& implementation : implementations()) info.push_back(implementation.info);
        return info;
    }();
    return kInfo;
}

Result<std::unique_ptr<Engine>> make_engine(std::string_view name, const DecoderSpec& spec,
                                            const EngineOptions& options) {
    const Implementation* chosen = find(name);
    if (chosen == nullptr) {
        std::string known = "auto";
        for (const EngineInfo& info : engines()) known += ", " + std::string(info.name);
        return error(ErrorCode::kNotFound, "[compute.engine] " + std::string(name) + ": want one of " + known);
    }
    if (!chosen->info.available) {
        return error(ErrorCode::kUnsupported, "[compute.engine] " + std::string(name) + ": needs " +
                                                  std::string(chosen->info.needs) +
                                                  ", which this machine lacks; use auto or reference");
    }
    DW_TRY(validate(spec));
    const FpEnvironment environment;  // tables of angles are made here
    if (chosen->kernels == nullptr) {
        auto made = make_cuda_engine(spec, options);
        if (made.ok() || name != "auto") return made;
        // A card that has no room for this model leaves it to the processor.
        chosen = find_on_host();
    }
    const KvLayout layout{.layers = spec.layers, .kv_heads = spec.kv_heads, .head_dim = spec.head_dim};
    DW_ASSIGN(auto pool, HostKvPool::create(layout, options.kv_blocks));
    return std::unique_ptr<Engine>(std::make_unique<HostEngine>(*chosen->kernels, spec, options, std::move(pool)));
}

}  // namespace driftwood::compute
