// What tests of model files compute with a model.
#pragma once

#include <cstdint>
#include <vector>

#include "base/check.h"
#include "compute/engine.h"
#include "model/model.h"

namespace driftwood::model {

// Logits of five tokens, [5, vocab].
inline std::vector<float> logits_of(const Model& model, const char* engine_name) {
    auto engine = compute::make_engine(engine_name, model.spec(), {.threads = 1, .kv_blocks = 4});
    CHECK(engine.ok());
    const std::vector<uint32_t> tokens = {1, 2, 300, 4, 77};
    const compute::BlockId block = *(*engine)->pool().allocate();
    std::vector<float> logits(tokens.size() * model.spec().vocab);
    compute::BatchItem item{
        .tokens = tokens, .first_position = 0, .blocks = {&block, 1}, .logits = logits, .error = {}};
    (*engine)->step({&item, 1});
    CHECK(!item.error);
    return logits;
}

}  // namespace driftwood::model
