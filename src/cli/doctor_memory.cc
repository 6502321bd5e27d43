#include "cli/doctor_memory.h"

#include <algorithm>
#include <cstdio>

#include "cli/weights_option.h"
#include "compute/engine.h"
#include "node/node.h"

namespace driftwood::cli {
namespace {

constexpr uint32_t kTypicalTokens = 4096;  // of a conversation, to say how many fit

std::string describe(const model::Model& model, const compute::Engine& engine) {
    return "engine '" + std::string(engine.name()) + "', model '" + model.name() + "'";
}

}  // namespace

Result<void> show_memory_plan(const std::string& name, const std::string& model_name,
                              const model::WeightsOptions& weights, Format format) {
    DW_ASSIGN(const auto model, node::load_model(model_name));
    DW_ASSIGN(const auto engine, node::make_engine(*model, name, {}, weights));
    const model::WeightsPlace place = model->weights_place();
    const compute::KvPool& pool = engine->pool();
    const uint32_t tokens = std::min(kTypicalTokens, model->spec().context);
    const uint32_t each = (tokens + compute::kBlockTokens - 1) / compute::kBlockTokens;
    const uint32_t conversations = pool.capacity() / each;
    if (format == Format::kJson) {
        Json parts = Json::array();
        for (const auto& part : engine->memory()) {
            parts.push_back({{"what", part.what}, {"bytes", part.bytes}, {"why", part.why}});
        }
        Json json = {{"engine", engine->name()},
                     {"model", model->name()},
                     {"block_bytes", pool.layout().block_bytes()},
                     {"blocks", pool.capacity()},
                     {"tokens_of_a_conversation", tokens},
                     {"conversations", conversations},
                     {"memory", parts}};
        if (engine->reads_weights_in_place()) {
            json["weights"] = {{"copied", place.copied},
                               {"huge_bytes", place.huge_bytes},
                               {"file_bytes", place.file_bytes},
                               {"why", place.plan.why}};
        }
        print_json(json);
        return {};
    }
    std::printf("memory of %s\n", printable(describe(*model, *engine)).c_str());
    for (const auto& part : engine->memory()) {
        std::printf("  %-22s %10s   %s\n", part.what.c_str(), human_bytes(part.bytes).c_str(), part.why.c_str());
    }
    if (engine->reads_weights_in_place()) std::printf("  weights are %s\n", printable(weights_text(place)).c_str());
    std::printf("  %u conversations of %u tokens fit, %u blocks each; one wastes at most the rest of its last block\n",
                conversations, tokens, each);
    return {};
}

}  // namespace driftwood::cli
