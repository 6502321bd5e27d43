// For tests: everything an actor needs, with a small random model, and guests in the text format.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actor/actor.h"
#include "embedded_guests.h"
#include "file/test_directory.h"
#include "model/synth.h"
#include "wasm/test_host.h"

namespace driftwood::actor {

inline constexpr int64_t kTestClockStart = 1'700'000'000'000'000'000;
inline constexpr int64_t kTestClockStep = 1'000'000;

// The bytes of a model that tests share; made once.
inline const std::vector<uint8_t>& test_model_bytes() {
    static const std::vector<uint8_t> bytes = model::synth_model({.context = 512}, 1).value();
    return bytes;
}

// One machine: runtime, model, engine, clock. Actors made in one World can be thawed in another.
struct World {
    explicit World(std::string_view engine_name = "auto", uint32_t kv_blocks = 256,
                   std::span<const uint8_t> model_bytes = test_model_bytes(),
                   std::optional<uint32_t> idle_prefixes = std::nullopt)
        : runtime(wasm::Runtime::create({}).value()),
          model(model::load_gguf("tiny", model_bytes).value()),
          engine(compute::make_engine(engine_name, model->spec(), {.threads = 1, .kv_blocks = kv_blocks}).value()),
          blocks(engine->pool(), 1, idle_prefixes),
          device(compute::make_device("cpu").value()) {}

    Context context() {
        return {.model = *model,
                .engine = *engine,
                .blocks = blocks,
                .device = *device,
                .clock = clock,
                .entropy = entropy};
    }

    std::unique_ptr<wasm::Runtime> runtime;
    std::unique_ptr<model::Model> model;
    std::unique_ptr<compute::Engine> engine;
    session::BlockRefs blocks;
    std::unique_ptr<compute::Device> device;
    StepClock clock{kTestClockStart, kTestClockStep};
    SeededEntropy entropy{42};
};

inline std::unique_ptr<wasm::Module> chat_module(World& world) {
    const auto bytes = embedded::chat_wasm();
    return wasm::Module::compile(*world.runtime, {bytes.begin(), bytes.end()}).value();
}

inline ActorOptions chat_options() {
    return {.limits = {}, .wasi = {.args = {"chat"}, .environment = {"TEMPERATURE=0.8", "SEED=3", "MAX_TOKENS=8"}}};
}

// What an actor said: replies and log lines in order.
struct Heard {
    std::string replies;
    std::string logs;
    int answers = 0;

    void take(const Step& step) {
        for (const Effect& effect : step.effects) {
            (effect.kind == Effect::Kind::kReply ? replies : logs) += effect.bytes;
            if (effect.kind == Effect::Kind::kReply && effect.last) {
                replies += "|";
                ++answers;
            }
        }
    }
};

// Steps until the actor has nothing to do. An actor that fails ends the loop too.
inline void run(Actor& actor, Heard& heard) {
    while (actor.state() == Actor::State::kReady) heard.take(actor.step());
}

// All bytes of an image that say something about the actor, tensor by tensor, and the metadata that must agree.
inline std::map<std::string, std::string> contents(const std::string& path) {
    const auto image = file::SectionReader::open(path, file::SectionReader::Hashes::kRequired).value();
    EXPECT_TRUE(image.verify_all().ok());
    std::map<std::string, std::string> all;
    for (const auto& [name, tensor] : image.tensors()) {
        const auto bytes = image.bytes(tensor);
        all[name] = std::string(bytes.begin(), bytes.end());
    }
    for (const auto& [key, value] : image.metadata()) {
        if (key != "created" && key != "parent_image" && key != "root_hash") all["metadata." + key] = value;
    }
    return all;
}

// Which entries differ, by name: what a failed comparison prints.
inline std::vector<std::string> differences(const std::map<std::string, std::string>& a,
                                            const std::map<std::string, std::string>& b) {
    std::vector<std::string> names;
    for (const auto& [name, bytes] : a) {
        if (const auto other = b.find(name); other == b.end() || other->second != bytes) names.push_back(name);
    }
    for (const auto& [name, bytes] : b) {
        if (!a.contains(name)) names.push_back(name);
    }
    return names;
}

inline file::SectionWriter::CommitOptions not_durable() { return {.replace = true, .durable = false}; }

inline Result<Actor::Thawed> thaw_file(World& world, const wasm::Module& module, const std::string& path) {
    DW_ASSIGN(auto reader, file::SectionReader::open(path, file::SectionReader::Hashes::kRequired));
    return Actor::thaw(world.context(), module, {}, std::make_shared<const file::SectionReader>(std::move(reader)));
}

}  // namespace driftwood::actor
