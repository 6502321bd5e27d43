// What the tests of this folder share: a model of random weights, an engine for it, sessions driven step by step.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "compute/engine.h"
#include "model/gguf_writer.h"
#include "model/synth.h"
#include "session/session.h"

namespace driftwood::session {

inline model::SynthShape test_shape() {
    return {.layers = 2,
            .d_model = 32,
            .heads = 2,
            .kv_heads = 1,
            .head_dim = 16,
            .d_ff = 64,
            .vocab = 320,
            .context = 512};
}

// A model with bytes of its own, an engine and its blocks.
struct Bench {
    std::vector<uint8_t> bytes;
    std::unique_ptr<model::Model> model;
    std::unique_ptr<compute::Engine> engine;
    std::unique_ptr<BlockRefs> refs;

    std::unique_ptr<Session> open() const { return std::make_unique<Session>(*model, *engine, *refs); }
};

inline Bench bench_of(const model::GgufWriter& writer, uint32_t kv_blocks = 64) {
    Bench out;
    out.bytes = writer.finish();
    auto model = model::load_gguf("test", out.bytes);
    if (!model.ok()) check_failed("the test's model", model.error().message);
    out.model = *std::move(model);
    auto engine = compute::make_engine("reference", out.model->spec(), {.threads = 1, .kv_blocks = kv_blocks});
    if (!engine.ok()) check_failed("the test's engine", engine.error().message);
    out.engine = *std::move(engine);
    out.refs = std::make_unique<BlockRefs>(out.engine->pool());
    return out;
}

inline model::GgufWriter test_writer(uint64_t seed = 1, model::SynthShape shape = test_shape()) {
    return *model::synth_gguf(shape, seed);
}
inline Bench test_bench(uint64_t seed = 1) { return bench_of(test_writer(seed)); }

inline model::GgufWriter with_template(const char* source) {
    model::GgufWriter writer = test_writer();
    writer.drop("tokenizer.chat_template");
    writer.string("tokenizer.chat_template", source);
    return writer;
}

// One step of the engine or one sample; false when there is nothing to do.
inline bool step(const Bench& bench, Session& session, uint32_t chunk = 512) {
    auto item = session.plan(chunk);
    EXPECT_TRUE(item.ok()) << item.error().message;
    if (!item.ok()) return false;
    if (*item) {
        bench.engine->step({&**item, 1});
        const auto done = session.commit(**item);
        EXPECT_TRUE(done.ok());
        return done.ok();
    }
    if (!session.can_sample()) return false;
    const auto sampled = session.sample();
    EXPECT_TRUE(sampled.ok()) << sampled.error().message;
    return sampled.ok();
}

inline void run(const Bench& bench, Session& session, uint32_t chunk = 512) {
    while (step(bench, session, chunk)) {
    }
}

inline std::string take_all(Session& session) {
    std::string out(session.output_bytes(), '\0');
    out.resize(session.take_output({reinterpret_cast<uint8_t*>(out.data()), out.size()}));
    return out;
}

inline std::vector<uint8_t> kv_bytes(const Bench& bench, const Session& session) {
    std::vector<uint8_t> out;
    for (const compute::BlockId block : session.blocks()) {
        const auto bytes = bench.engine->pool().bytes(block);
        out.insert(out.end(), bytes.begin(), bytes.end());
    }
    return out;
}

inline std::vector<float> logits_of(const Session& session) {
    return {session.last_logits().begin(), session.last_logits().end()};
}

// Everything about two sessions that can be seen from outside.
inline void expect_equal(const Bench& bench_a, const Session& a, const Bench& bench_b, const Session& b) {
    EXPECT_EQ(a.tokens(), b.tokens());
    EXPECT_EQ(a.computed(), b.computed());
    EXPECT_EQ(a.parts(), b.parts());
    EXPECT_EQ(a.finish(), b.finish());
    EXPECT_EQ(a.output_bytes(), b.output_bytes());
    EXPECT_EQ(logits_of(a), logits_of(b));
    EXPECT_TRUE(kv_bytes(bench_a, a) == kv_bytes(bench_b, b));
}

inline const GenerateParams kLively = {.sampler = {.temperature = 1.5F, .top_p = 0.95F, .top_k = 200, .seed = 77},
                                       .max_tokens = 40};

}  // namespace driftwood::session
